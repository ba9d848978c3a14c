"""The end of a process that had torch in it."""

import atexit
import contextlib
import os
import sys
import threading
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End this process with an exit code, without having Python free every object by itself: of torch and diffusers there are millions,
    and that takes up to two seconds of a core, of what the kernel takes back at once.

    What was to be done at the end is done. Python does the rest as ever if a thread still runs, as it waits for it.
    """
    if any(not t.daemon for t in threading.enumerate() if t is not threading.current_thread()):
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a full disk, or closed: the exit code says what is to be said
            stream.flush()
    os._exit(code)
