"""What a judgement consists of: parts that are computed apart, a slot and a unit each. Pure."""

from dataclasses import dataclass

from synth.judge.config import JudgeConfig

SET, DUPLICATES, LEAKS, PICTURES, CLASSES, PROBE, ROUND = "set", "duplicates", "leaks", "pictures", "classes", "probe", "round"
BLOCKS = 8  # parts that the classes are spread over
MADE, REAL, TEST = "made", "real", "test"  # sets
ROLES = {MADE: "features", REAL: "real", TEST: "test"}  # set -> role of the stage of its features
BOTH = "both"  # what a probe is trained on, beside the judged and the real set


@dataclass(frozen=True)
class Part:
    """number: of its block of classes, the place of its seed, or a round less one; trained_on: of a probe."""

    kind: str
    number: int = 0
    trained_on: str = ""

    @property
    def key(self) -> str:
        """Its name in the stage."""
        return "-".join(
            [self.kind, *filter(None, [self.trained_on]), *([str(self.number)] if self.kind in (CLASSES, PROBE, ROUND) else [])]
        )


def parts(config: JudgeConfig, real: bool, test: bool) -> tuple[Part, ...]:
    """The parts of a judgement, in slot order. real, test: whether there are such sets."""
    trained_on = trained_sets(real) if test else ()
    return (
        Part(SET),
        Part(DUPLICATES),
        *([Part(LEAKS)] if test else []),
        Part(PICTURES),
        *(Part(CLASSES, n) for n in range(BLOCKS)),
        *(Part(PROBE, n, what) for what in trained_on for n in range(len(config.seeds))),
        *(Part(ROUND, n) for n in range(len(config.rounds) if test else 0)),
    )


def trained_sets(real: bool) -> tuple[str, ...]:
    """What classifiers are trained on. real: whether there is such a set."""
    return (MADE, REAL, BOTH) if real else (MADE,)
