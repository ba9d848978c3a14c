"""notify.command: a command of the user's own, run once at the end of a run. What happened stands in variables, never in the command.

The command line goes to sh as it is written, so that nothing that a run says (names, messages, paths) is ever read by a shell. Whatever the
command does, the run's exit code stays what it is.
"""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synth.errors import EXIT_AGAIN, EXIT_OK
from synth.host.environment import without_secrets
from synth.redaction import redacted

DONE, FAILED, DRAINED = "done", "failed", "drained"
KEPT = 4000  # bytes of its output that are told, the first ones
POLL = 0.05  # seconds
Tell = Callable[[str], object]


@dataclass(frozen=True)
class News:
    """What became of a run."""

    code: int
    runs: str  # folder
    dataset: str  # names of all, with commas
    report: str  # the command that writes the report
    page: str = ""  # picture or page that a run ends with
    stage: str = ""  # folder of the first stage that is not whole
    why: str = ""

    @property
    def outcome(self) -> str:
        return DONE if self.code == EXIT_OK else DRAINED if self.code == EXIT_AGAIN else FAILED

    def variables(self) -> dict[str, str]:
        """For the command's environment, which holds no NUL."""
        told = {"OUTCOME": self.outcome, "EXIT_CODE": str(self.code), "RUNS": self.runs, "DATASET": self.dataset}
        told |= {"REPORT": self.report, "PAGE": self.page, "STAGE": self.stage, "WHY": redacted(self.why)[:KEPT]}
        return {f"SYNTHSET_{name}": text.replace("\0", "") for name, text in told.items()}


def send(command: str, timeout_s: float, news: News, tell: Tell, env: Mapping[str, str] = os.environ) -> None:
    """Run the command, and tell how it went and what it said. Never raises for what the command does.

    It gets the environment without variables whose names are those of secrets.
    """
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=without_secrets(env) | news.variables(),
            start_new_session=True,
        )
    except (OSError, ValueError) as e:  # no memory, a NUL in it
        tell(f"warning: notify.command could not be started: {redacted(e)}")
        return
    output = b""
    try:
        output, ended = _output(process, time.monotonic() + timeout_s)
        how = "" if ended else f"was ended after {timeout_s:g} s (notify.timeout_s)"
    except KeyboardInterrupt:
        how = "was ended by ctrl-C"
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if not how and process.returncode:
        how = f"ended with exit code {process.returncode}"
    said = redacted(output.decode(errors="replace").strip())
    tell(f"{'warning: notify.command ' + how if how else 'notify.command was run'}{f': {said}' if said else ''}")


def _output(process: subprocess.Popen, end: float) -> tuple[bytes, bool]:
    """(the first bytes of what it says, whether it ended in time). What it leaves running may hold its output open: nobody waits."""
    assert process.stdout is not None
    pipe, kept, over = process.stdout.fileno(), b"", False
    os.set_blocking(pipe, False)
    while time.monotonic() < end:
        over = over or process.poll() is not None
        ready = select.select([pipe], [], [], 0 if over else POLL)[0]
        data = os.read(pipe, 65536) if ready else b""
        kept = (kept + data)[:KEPT]
        if over and not data:
            return kept, True
        if ready and not data:  # it closed its output and goes on
            time.sleep(POLL)
    return kept, process.poll() is not None


def news_of(code: int, roots: Sequence[Path], report: str, page: str = "", stage: str = "", why: str = "") -> News:
    """roots: dataset folders of the run."""
    names = ",".join(dict.fromkeys(root.name for root in roots))
    return News(code, str(roots[0].parent) if roots else "", names, report, page, stage, why)
