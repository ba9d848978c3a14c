"""Exit codes and the few exception classes whose meaning crosses module borders."""

import os
import sys
from collections.abc import Callable, Iterable

EXIT_OK = 0
EXIT_BAD_INPUT = 65  # EX_DATAERR: the data or the config is wrong; trying again changes nothing
EXIT_BUG = 70  # EX_SOFTWARE: a unit failed by an error again and again
EXIT_AGAIN = 75  # EX_TEMPFAIL: drained, or the disk was full: run the same command again

FROM_GOOD_TO_BAD = (EXIT_OK, EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG)  # "run it again" is the mildest


class InputError(Exception):
    """Bad input data: the message names the file, the item and the fix. Ends a worker with exit code 65."""


class StoreError(Exception):
    """The file system refused to store (full, read-only, quota): nothing is lost; exit code 75."""


class ServiceGone(StoreError):
    """A service outside does not answer, or lets nobody in for now: nothing is lost; exit code 75."""


class OutOfDeviceMemory(Exception):
    """A batch did not fit on the device: the message says which key to lower."""


class StageBroken(Exception):
    """The stage's process or device is unusable: the worker opens it anew before it goes on."""


def tool(work: Callable[[], int | str]) -> int:
    """What the main() of a command-line tool ends with: do the work, print what it says or why it failed; the exit code.

    work: gives its own exit code, or a text where it went well.
    """
    try:
        done = work()
        if isinstance(done, int):
            return done
        _say(done)
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except (StoreError, OSError) as e:
        print(f"error: {e}", file=sys.stderr)
        return EXIT_AGAIN
    return EXIT_OK


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # `| head` has had enough; what Python flushes at its end must go somewhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def worst(codes: Iterable[int]) -> int:
    """The worst of exit codes; one that is not ours counts as a bug.

    >>> worst([0, 75, 65]), worst([])
    (65, 0)
    """
    return max((c if c in FROM_GOOD_TO_BAD else EXIT_BUG for c in codes), key=FROM_GOOD_TO_BAD.index, default=EXIT_OK)
