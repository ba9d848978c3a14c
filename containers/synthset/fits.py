"""Whether what an image holds fits together: python fits.py TORCH, the version of the base. Exit code 1 and a line where it does not."""

import re
import sys
from importlib.metadata import requires, version

import torch
from packaging.requirements import Requirement


def wrong(base: str) -> list[str]:
    """What does not fit, in words: another torch than the base's, or a package that synthset does not take."""
    found = [] if torch.__version__ == base else [f"torch {torch.__version__} in the place of the base's {base}"]
    for wanted in map(Requirement, requires("synthset") or ()):
        there = version(wanted.name) if wanted.marker is None else ""
        if there and not wanted.specifier.contains(re.sub(r"\+.*", "", there), prereleases=True):
            found.append(f"synthset takes {wanted}, and the image has {there}")
    return found


if __name__ == "__main__":
    reasons = wrong(sys.argv[1])
    sys.exit(f"{'; '.join(reasons)}: choose another BASE" if reasons else 0)
