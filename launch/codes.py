"""Exit codes of many things, as one."""

from collections.abc import Iterable

from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG, EXIT_OK

ORDER = (EXIT_OK, EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG)  # from good to bad: "run it again" is the mildest


def worst(codes: Iterable[int]) -> int:
    """The worst of exit codes; one that is not ours counts as a bug.

    >>> worst([0, 75, 65]), worst([])
    (65, 0)
    """
    return max((c if c in ORDER else EXIT_BUG for c in codes), key=ORDER.index, default=EXIT_OK)
