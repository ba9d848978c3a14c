"""The phases of a campaign."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.campaign.clocks import clocks
from tests.campaign.disk import disk
from tests.campaign.kills import kills
from tests.campaign.names import names
from tests.campaign.report import Report
from tests.campaign.trouble import trouble
from tests.campaign.versions import versions


@dataclass(frozen=True)
class Phase:
    """run(folder, random, deadline): folder is empty and the phase's own, and its parent holds what phases share (worlds.py); random
    is seeded; deadline, by time.monotonic(), is when nothing new shall be begun. share: of the campaign's time."""

    name: str
    run: Callable[[Path, random.Random, float], Report]
    share: float


PHASES = (
    Phase("kills", kills, 8),
    Phase("trouble", trouble, 2),
    Phase("disk", disk, 2),
    Phase("versions", versions, 1),
    Phase("clocks", clocks, 1),
    Phase("names", names, 1),
)
