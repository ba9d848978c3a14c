"""torchrun, tied to the process that started it: `python -m synth.captions.llama.agent TORCHRUN_ARGS...`

Agent and ranks each ask to be killed with their parent (synth.host.children). The other way round, a signal that a scheduler sends to
every process of a job is for the worker alone, which drains: here it is blocked, or torchrun would end the ranks in the middle of
the window that the worker wants to finish.
"""

import os
import signal
import sys

from synth.host.children import FOR_THE_WORKER, PARENT, die_with_parent


def run_torchrun(arguments: list[str]) -> None:
    """torchrun in this process, deaf to all signals but SIGKILL; its ranks inherit that."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_WORKER | {signal.SIGQUIT, signal.SIGUSR1})  # a mask: torchrun sets handlers of its own
    from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler
    from torch.distributed.run import main

    end = SubprocessHandler.close
    # when a rank dies torchrun sends SIGTERM to the rest and waits 30 s: ranks hold nothing worth the wait
    SubprocessHandler.close = lambda self, death_sig=None: end(self, signal.SIGKILL)
    main(arguments)


if __name__ == "__main__":
    if not die_with_parent():
        sys.exit(1)
    os.environ[PARENT] = str(os.getpid())  # for the ranks
    run_torchrun(sys.argv[1:])
