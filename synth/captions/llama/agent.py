"""torchrun, tied to the process that started it: `python -m synth.captions.llama.agent PARENT_PID TORCHRUN_ARGS...`

A worker killed by SIGKILL cannot clean up, so the kernel does: agent and ranks each ask to be killed with their parent.
"""

import ctypes
import os
import signal
import sys

AGENT_PID = "SYNTHSET_AGENT_PID"  # tells a rank who its parent must be
_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent`, its parent process, ends. Linux; elsewhere it does nothing."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    os.environ[AGENT_PID] = str(os.getpid())
    from torch.distributed.run import main

    main(sys.argv[2:])
