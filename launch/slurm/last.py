"""The end of a run on Slurm: the gate that finds all of its stages whole, or that gives one up, is the last, and runs notify.command.

The command and the stages of the run stand in the order of each submission, whose digest the gate was told: it runs nothing that somebody
else wrote into a stage's folder. Of several gates that are the last at once, the one that makes a file is.
"""

import contextlib
import hashlib
import json
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from launch.config.notify import NotifyConfig
from launch.show.notice import News, news_of, send
from launch.slurm import stored
from launch.slurm.submissions import FOLDER, Order, Submission
from synth import foreign
from synth.errors import EXIT_AGAIN, EXIT_OK, InputError, StoreError
from synth.store.files import make_folder
from synth.store.folder import StageFolder

PATIENCE = 5.0  # seconds that a network file system may take to show that others are done
Tell = Callable[[str], object]


@dataclass(frozen=True)
class Notice:
    """What the gates of a run know of it; in the order of each of its submissions."""

    command: str
    timeout_s: float
    stages: tuple[str, ...]  # folders of all, upstreams first
    last: tuple[str, ...]  # of those that no other one reads
    report: str  # the command that writes the report

    @staticmethod
    def of(raw: Mapping) -> "Notice":
        """InputError for what none is."""
        fields = foreign.obj(dict(raw), "notice", command=str, timeout_s=float, stages=[str], last=[str], report=str)
        fields |= {"stages": tuple(fields["stages"]), "last": tuple(fields["last"])}
        return Notice(**fields)

    @property
    def mark(self) -> Path:
        """The file that whoever runs the command makes."""
        name = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]
        return Path(self.stages[0]) / FOLDER / f"notified-{name}"


def notice_of(notify: NotifyConfig, stages: Sequence[Path], read: Sequence[Path], report: str) -> dict:
    """For the orders of a run; {} without a command. read: folders of stages that others of them read."""
    if not notify.command or not stages:
        return {}
    ends = [str(s) for s in stages if s not in read]
    return {"command": notify.command, "timeout_s": float(notify.timeout_s), "stages": [*map(str, stages)], "last": ends, "report": report}


def told_otherwise(folder: StageFolder, notice: Mapping, records: Sequence[Submission]) -> str:
    """What to say of a stage that may end the run, where the jobs in the queue know another notify.command than the one of now."""
    known = next((s.order.get("notice") or {} for s in reversed(records) if s.order), {})
    if str(folder.path) not in notice.get("last", ()) or known.get("command") == notice.get("command"):
        return ""
    return "; notify.command is that of the jobs in the queue, if they have one: to change it, cancel them before"


def forget(notice: Mapping) -> None:
    """Before a run is submitted: its end is told, whatever an earlier one of the same command told."""
    if notice:
        with contextlib.suppress(FileNotFoundError):
            Notice.of(notice).mark.unlink()


def tell_end(folder: StageFolder, mine: Submission | None, digests: Sequence[str], code: int, tell: Tell, why: str = "") -> None:
    """Run the command if this gate, which ends with `code`, is the last of its run. Changes nothing else, whatever happens. why: of a gate
    that ends by an error of its own, after which nobody goes on."""
    try:
        _tell_end(folder, mine, digests, code, tell, why)
    except (InputError, StoreError, OSError) as e:
        tell(f"warning: notify.command was not run: {e}")
    except Exception:  # noqa: BLE001 (a bug here must not make a whole stage a failed one)
        tell(f"warning: notify.command was not run:\n{traceback.format_exc()}")


def _tell_end(folder: StageFolder, mine: Submission | None, digests: Sequence[str], code: int, tell: Tell, why: str) -> None:
    if mine is None or not mine.order or not mine.order.get("notice"):
        return
    stored.read(folder.path, mine, digests)  # InputError unless the order is what its launcher wrote
    notice = Notice.of(Order.of(mine).notice)
    if (news := _news(folder, notice, code, why)) is not None and _first(notice.mark):
        send(notice.command, notice.timeout_s, news, tell)


def _news(folder: StageFolder, notice: Notice, code: int, why: str) -> News | None:
    """None while the run goes on: the stage is whole and others are not, or more jobs of it are on their way."""
    roots = list(dict.fromkeys(Path(stage).parent for stage in notice.stages))
    if folder.is_done():
        if str(folder.path) not in notice.last or not all_done(notice.stages):
            return None
        return news_of(EXIT_OK, roots, notice.report)
    if code in (EXIT_OK, EXIT_AGAIN) and not why:
        return None
    return news_of(code, roots, notice.report, stage=str(folder.path), why=why or verdict_of(folder.path))


def all_done(stages: Sequence[str], patience: float = PATIENCE) -> bool:
    """Whether all stages are whole and finished, looking again for a moment."""
    end = time.monotonic() + patience
    while not all((Path(s) / "stage.json").exists() and StageFolder.open(Path(s)).is_done() for s in stages):
        if time.monotonic() >= end:
            return False
        time.sleep(min(1.0, patience / 5))
    return True


def verdict_of(stage: Path) -> str:
    """Why the stage was given up, as its gate wrote; "" if it did not."""
    try:
        said = foreign.read_json(stage / "missing.json", foreign.RECORD)
    except (InputError, StoreError, OSError):
        return ""
    return str(said.get("why", "")) if isinstance(said, dict) else ""


def _first(mark: Path) -> bool:
    make_folder(mark.parent)
    try:
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
    except FileExistsError:
        return False
    return True
