"""torchrun, tied to the process that started it: `python -m synth.captions.llama.agent PARENT_PID TORCHRUN_ARGS...`

A worker killed by SIGKILL cannot clean up, so the kernel does: agent and ranks each ask to be killed with their parent.
The other way round, a signal that a scheduler sends to every process of a job is for the worker alone, which drains: here
it is blocked, or torchrun would end the ranks in the middle of the window that the worker wants to finish.
"""

import ctypes
import os
import signal
import sys

AGENT_PID = "SYNTHSET_AGENT_PID"  # tells a rank who its parent must be
_PR_SET_PDEATHSIG = 1
_FOR_THE_WORKER = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent`, its parent process, ends. Linux; elsewhere it does nothing."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


def run_torchrun(arguments: list[str]) -> None:
    """torchrun in this process, deaf to all signals but SIGKILL; its ranks inherit that."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_WORKER)  # a mask: torchrun sets handlers of its own
    from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler
    from torch.distributed.run import main

    end = SubprocessHandler.close
    # when a rank dies torchrun sends SIGTERM to the rest and waits 30 s: ranks hold nothing worth the wait
    SubprocessHandler.close = lambda self, death_sig=None: end(self, signal.SIGKILL)
    main(arguments)


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    os.environ[AGENT_PID] = str(os.getpid())
    run_torchrun(sys.argv[2:])
