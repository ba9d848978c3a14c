"""Named fault points, for the tests that kill and compare. Without SYNTHSET_FAULT in the environment they cost one lookup.

SYNTHSET_FAULT="before_link:kill", "after_batch:kill@3" (the third time), "before_link:stop" (SIGSTOP), "before_index:enospc".
"""

import errno
import os
import signal
import threading

_seen: dict[str, int] = {}


def point(name: str) -> None:
    """Do what the environment asks for at this point; otherwise nothing."""
    wanted = os.environ.get("SYNTHSET_FAULT")
    if not wanted:
        return
    where, _, action = wanted.partition(":")
    if where != name:
        return
    action, _, nth = action.partition("@")
    _seen[name] = _seen.get(name, 0) + 1
    if _seen[name] != int(nth or 1):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # to this very thread, or it may run on for a moment
    elif action == "term":
        os.kill(os.getpid(), signal.SIGTERM)
    elif action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    else:
        raise ValueError(f"SYNTHSET_FAULT={wanted!r}: unknown action; use kill, stop, term or enospc")
