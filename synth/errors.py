"""Exit codes and the few exception classes whose meaning crosses module borders."""

import contextlib
import errno
import os
import pwd
import re
import shlex
import socket
import stat
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from synth.redaction import redacted
from synth.terminal import message, printable_lines

EXIT_OK = 0
EXIT_BAD_INPUT = 65  # EX_DATAERR: the data or the config is wrong; trying again changes nothing
EXIT_BUG = 70  # EX_SOFTWARE: a unit failed by an error again and again
EXIT_AGAIN = 75  # EX_TEMPFAIL: drained, the disk was full, or a device is bad: run the same command again

FROM_GOOD_TO_BAD = (EXIT_OK, EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG)  # "run it again" is the mildest
# what tells of a file system, mostly of a network's, or of this process, and never of one file: that may well be whole
TROUBLE = frozenset(
    [
        *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ESHUTDOWN, errno.EHOSTDOWN, errno.EREMOTEIO, errno.ENOLCK),
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN, errno.EBUSY),
        *(socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_SYSTEM),  # no name is found for now, not even localhost; below 0: no errno
    ]
)
# what a file system says when it cannot take anything now
REFUSALS = TROUBLE | {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


class InputError(Exception):
    """Bad input data: the message names the file, the item and the fix. Ends a worker with exit code 65."""


class StoreError(Exception):
    """The file system refused to store (full, read-only, quota): nothing is lost; exit code 75."""


class PictureGone(StoreError):
    """A picture of a source that was there when its stage was planned is not there any more: to be put back; exit code 75."""


class ServiceGone(StoreError):
    """A service outside does not answer, or lets nobody in for now: nothing is lost; exit code 75."""


class OutOfDeviceMemory(Exception):
    """A batch did not fit on the device: the message says which key to lower, and what torch said."""


class DeviceFailed(Exception):
    """The device, or this process's hold on it, is of no use any more: nothing is lost, another process or device goes on; exit code 75.

    sticky: torch can use it no more in this process, whatever is computed on it.
    """

    def __init__(self, why: str, sticky: bool = False):
        super().__init__(why)
        self.sticky = sticky


class StageBroken(Exception):
    """The stage's process or device is unusable: the worker opens it anew before it goes on."""


class Killed(StageBroken):
    """A process of the stage was killed from outside: no unit's fault. The worker starts it anew, and ends with exit code 75 where that
    comes again and again."""


def refused(error: BaseException) -> bool:
    """Whether an error says something about the disk and nothing about what was to be stored."""
    return isinstance(error, StoreError) or _told_by(error) in REFUSALS


# HDF5 (errno = 5, error message = 'Input/output error') and Rust's libraries (os error 5) tell it in words alone
_TOLD = re.compile(r"\berrno = (\d+), error message = |\(os error (\d+)\)")


def errno_of(error: BaseException) -> int | None:
    """What a file system said in an error, or in one that it came of; None if none of them tells. h5py, for one, raises KeyError and
    RuntimeError where a read failed.

    >>> errno_of(KeyError("Unable to open object (file read failed: .., errno = 5, error message = 'Input/output error')"))
    5
    """
    seen: set[int] = set()
    e: BaseException | None = error
    while e is not None and id(e) not in seen:
        seen.add(id(e))
        if (code := _told_by(e)) is not None:
            return code
        e = e.__cause__ or (None if e.__suppress_context__ else e.__context__)
    return None


def _told_by(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno:
        return error.errno
    told = None if isinstance(error, InputError) else _TOLD.search(str(error))
    return int(told[1] or told[2]) if told else None


def owned(what: str | os.PathLike, code: int | None) -> str:
    """What explains that a place denies something (EACCES, EPERM): whose it is, if it is somebody else's; "" otherwise."""
    if code not in (errno.EACCES, errno.EPERM):
        return ""
    path = Path(what)
    above = next((p for p in path.parents if os.path.exists(p)), path)  # of a folder that may not be entered nothing exists
    for place in (path, above):
        with contextlib.suppress(OSError):
            info = place.stat()
            if info.st_uid != os.geteuid():
                name, home = _user(info.st_uid)
                whose = f": {place} is {name}'s, mode {stat.S_IMODE(info.st_mode):o}"
                if info.st_uid == 0 or place == Path(home):  # of a system, or a home: nobody shares it
                    return whose
                top = shlex.quote(str(_top(place, info.st_uid, home)))
                return f"{whose}; who shares a folder works under `umask 002`, and {name} opens what is there by `chmod -R g+rwX {top}`"
    return ""


def explained(error: BaseException) -> str:
    """What an error says where it ends something; of a place that denies something, whose it is, too."""
    denied = isinstance(error, OSError) and isinstance(error.filename, (str, os.PathLike))
    return f"{error}{owned(error.filename, error.errno)}" if denied else str(error)  # type: ignore[attr-defined]


def _top(place: Path, uid: int, home: str) -> Path:
    """The folder of a user's run that a place is in: a file's stage, its dataset and runs_dir, as far as they are theirs, never a home."""
    for parent in place.parents[:3]:
        if parent == Path(home) or parent.stat().st_uid != uid:
            break
        place = parent
    return place


def _user(uid: int) -> tuple[str, str]:
    """(name, home) of a user, the number and "" where there is no entry."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return f"user {uid}", ""
    return entry.pw_name, entry.pw_dir


def not_trouble(what: str | os.PathLike, error: BaseException, kinds: frozenset[int] = TROUBLE) -> None:
    """Of an error that is to be told as a fact about a file: StoreError if it is one about the file system, so that it is none.

    kinds: REFUSALS where the fact would be stored with a sample, for ever: what may not be read here may be read elsewhere.
    """
    if (code := errno_of(error)) in kinds:
        raise StoreError(
            f"{what}: cannot be read now ({os.strerror(code)}{owned(what, code)}); mend that, then run the same command again"
        ) from error


def tool(work: Callable[[], int | str]) -> int:
    """What the main() of a command-line tool ends with: do the work, print what it says or why it failed; the exit code.

    work: gives its own exit code, or a text where it went well. Only ModuleNotFoundError passes: launch/__main__.py names the remedy.
    """
    try:
        done = work()
        if isinstance(done, int):
            return done
        _say(done)
    except InputError as e:
        print(message(f"error: {redacted(e)}"), file=sys.stderr)
        return EXIT_BAD_INPUT
    except ModuleNotFoundError:
        raise
    except Exception as e:  # noqa: BLE001 (a bug: shown whole, with a code that says so)
        if refused(e):
            print(message(f"error: {redacted(explained(e))}"), file=sys.stderr)
            return EXIT_AGAIN
        print(printable_lines(redacted(traceback.format_exc())), file=sys.stderr, end="")
        return EXIT_BUG
    return EXIT_OK


def _say(text: str) -> None:
    try:
        print(printable_lines(text, sys.maxsize), flush=True)
    except BrokenPipeError:  # `| head` has had enough; what Python flushes at its end must go somewhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def worst(codes: Iterable[int]) -> int:
    """The worst of exit codes; one that is not ours counts as a bug.

    >>> worst([0, 75, 65]), worst([])
    (65, 0)
    """
    return max((c if c in FROM_GOOD_TO_BAD else EXIT_BUG for c in codes), key=FROM_GOOD_TO_BAD.index, default=EXIT_OK)
