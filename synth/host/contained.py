"""Stands for a worker in a container, on the host: passes signals on to it, and lets it know when nobody wants it any more.

    python -m synth.host.contained WORDS...      the words that start the container and the worker in it

A worker in a container may be no child of ours: Docker's daemon is its parent. So the kernel cannot tell it that its launcher died.
Its standard input is a pipe that we hold: it drains when that ends, however we did.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from synth.errors import EXIT_AGAIN
from synth.host.children import die_with_parent

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
BY_SIGNAL = 128  # what shells and runtimes add to the number of the signal that ended a command


def main(words: Sequence[str]) -> int:
    """The exit code of the worker; where SIGKILL ended it, this process ends by that, too."""
    if not die_with_parent(signal.SIGTERM):
        return EXIT_AGAIN
    try:
        runtime = subprocess.Popen(words, stdin=subprocess.PIPE, env=dict(os.environ))  # whoever started us left out the secrets
    except OSError as e:
        print(f"{words[0]}: {e.strerror}", file=sys.stderr)
        return 127
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: runtime.send_signal(number))
    code = runtime.wait()
    killed_by = -code if code < 0 else code - BY_SIGNAL
    if killed_by == signal.SIGKILL:  # who starts workers knows what that may mean: too little memory
        os.kill(os.getpid(), killed_by)
    return code if code >= 0 else BY_SIGNAL - code


def drain_without_input() -> None:
    """Of the worker: ask ourselves to drain when our standard input ends."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="input", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
