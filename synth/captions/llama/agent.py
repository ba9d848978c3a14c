"""The parent of the ranks, tied to the process that started it: `python -m synth.captions.llama.agent TORCHRUN_ARGS...`

It is torchrun where there are several. One rank has nobody to meet: `... agent -m MODULE WORDS...` starts it as torchrun would, without
importing torch, which takes seconds of a core and 200 MB.

Agent and ranks each ask to be killed with their parent (synth.host.children). The other way round, a signal that a scheduler sends to
every process of a job is for the worker alone, which drains: here it is blocked, or torchrun would end the ranks in the middle of
the window that the worker wants to finish.

The exit code tells how the first ranks ended, before torchrun ended the rest: 128 + the number of a signal that somebody else sent to
one of them; 75 where the disk refused; else 1, as torchrun has it. A file that said so might find no room.
"""

import contextlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence

from synth.errors import EXIT_AGAIN, refused
from synth.host.children import FOR_THE_WORKER, PARENT, die_with_parent
from synth.host.deaths import BY_SIGNAL, from_outside
from synth.host.leaving import leave

# a mask, which ranks inherit: torchrun sets handlers of its own
DEAF_TO = FOR_THE_WORKER | {signal.SIGQUIT, signal.SIGUSR1}
ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}  # what torchrun tells a rank that reads it


def run_alone(words: Sequence[str]) -> int:
    """The one rank, and its end awaited; the exit code."""
    try:
        code = subprocess.call([sys.executable, "-u", *words], env=os.environ | ALONE)
    except OSError as e:
        with contextlib.suppress(OSError):  # as below
            traceback.print_exception(e)
        return code_of([], e)
    return code_of([code], subprocess.CalledProcessError(code, "rank")) if code else 0


def run_torchrun(arguments: list[str]) -> int:
    """torchrun in this process; the exit code."""
    from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler
    from torch.distributed.run import main

    begin, end = SubprocessHandler.__init__, SubprocessHandler.close
    ranks, left = [], []  # the processes; how those ended that torchrun did not end

    def keep(self, *args, **kwargs) -> None:
        begin(self, *args, **kwargs)
        ranks.append(self.proc)

    def close(self, death_sig=None) -> None:
        """When a rank dies torchrun sends SIGTERM to the rest and waits 30 s: ranks hold nothing worth the wait."""
        if not left:
            left.extend([rank.poll() for rank in ranks])
        end(self, signal.SIGKILL)

    SubprocessHandler.__init__, SubprocessHandler.close = keep, close
    try:
        main(arguments)
    except Exception as e:  # noqa: BLE001 (torchrun's own says which rank died of what)
        with contextlib.suppress(OSError):  # the log finds no room
            traceback.print_exception(e)
        return code_of(left or [rank.poll() for rank in ranks], e)
    return 0


def code_of(ranks: Sequence[int | None], error: BaseException) -> int:
    """The exit code that tells how ranks ended (None: not yet, when torchrun ended them), or what befell torchrun itself.

    >>> code_of([1, -9], RuntimeError()), code_of([None, 1], RuntimeError())
    (137, 1)
    """
    if killed := next(filter(None, map(from_outside, ranks)), None):
        return BY_SIGNAL + killed
    return EXIT_AGAIN if EXIT_AGAIN in ranks or refused(error) else 1


if __name__ == "__main__":
    if not die_with_parent():
        sys.exit(1)
    os.environ[PARENT] = str(os.getpid())  # for the ranks
    signal.pthread_sigmask(signal.SIG_BLOCK, DEAF_TO)
    run = run_alone if sys.argv[1] == "-m" else run_torchrun
    leave(run(sys.argv[1:]))
