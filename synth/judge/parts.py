"""What a judgement consists of: parts that are computed apart, a slot and a unit each. Pure."""

from dataclasses import dataclass

from synth.judge.config import JudgeConfig

SET, BALLS, PICTURES, CLASSES, PROBE, ROUND = "set", "balls", "pictures", "classes", "probe", "round"
BLOCKS = 8  # parts that the classes are spread over
ROWS = 8192  # slots of pictures of a set that one unit compares with all: six minutes of a core for a million of 768 numbers
MADE, REAL, TEST = "made", "real", "test"  # sets
ROLES = {MADE: "features", REAL: "real", TEST: "test"}  # set -> role of the stage of its features
BOTH = "both"  # what a probe is trained on, beside the judged and the real set


@dataclass(frozen=True)
class Part:
    """number: of its block of pictures or classes, the place of its seed, or a round less one; trained_on: of a probe; pictures: slots of
    its block."""

    kind: str
    number: int = 0
    trained_on: str = ""
    pictures: range = range(0)

    @property
    def key(self) -> str:
        """Its name in the stage."""
        numbered = [str(self.number)] if self.kind in (BALLS, CLASSES, PROBE, ROUND) else []
        return "-".join([self.kind, *filter(None, [self.trained_on]), *numbered])


def blocks(pictures: int) -> tuple[range, ...]:
    """The slots of the pictures of a set, by block. pictures: how many slots it has."""
    return tuple(range(start, min(start + ROWS, pictures)) for start in range(0, pictures, ROWS))


def parts(config: JudgeConfig, real: bool, test: bool, pictures: int) -> tuple[Part, ...]:
    """The parts of a judgement, in slot order. real, test: whether there are such sets. pictures: slots of the judged set."""
    trained_on = trained_sets(real) if test else ()
    return (
        Part(SET),
        *(Part(BALLS, n, pictures=slots) for n, slots in enumerate(blocks(pictures) if real else ())),
        Part(PICTURES),
        *(Part(CLASSES, n) for n in range(BLOCKS)),
        *(Part(PROBE, n, what) for what in trained_on for n in range(len(config.seeds))),
        *(Part(ROUND, n) for n in range(len(config.rounds) if test else 0)),
    )


def trained_sets(real: bool) -> tuple[str, ...]:
    """What classifiers are trained on. real: whether there is such a set."""
    return (MADE, REAL, BOTH) if real else (MADE,)
