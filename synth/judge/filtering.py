"""Filter `judge` (kind `judge_filter`): without leaks, outliers and what looks like another class, and of the rest what a probe is least
sure of. It decides by the scores of `synth.judge.scores`; a picture goes by the first rule that it fails, in the order of `RULES`.
"""

from collections.abc import Mapping

import numpy as np

from synth.filters.rules import at_least, top_of_class
from synth.filters.selection import Selection, There, Verdicts
from synth.judge.config import ENTROPY, MARGIN, NONE, JudgeFilterConfig
from synth.judge.scores import LEAK, NUMBERS, OUTLIER

STAYS = -1
# the number that a rule goes by -> why a picture goes
RULES = (
    ("", "has no feature"),
    (LEAK, "is like a picture of the test set"),
    (OUTLIER, "lies further from real pictures of its class than these do from each other"),
    (MARGIN, "looks like another class to the probe"),
    (MARGIN, "the probe is surer of it than of others of its class"),
)
UNSCORED, LEAKS, OUTLIES, OTHER_CLASS, EASY = range(len(RULES))


class JudgeFilter(Selection):
    config: JudgeFilterConfig

    def judge(self, there: There) -> Verdicts:
        columns = {name: np.full(len(there.slots), np.nan) for name in NUMBERS}
        scored = np.zeros(len(there.slots), bool)
        for at, facts, _ in self.scored("scores", there.slots):
            scored[at] = True
            for name, column in columns.items():
                column[at] = facts.get(name, np.nan)
        rule = decided(columns, scored, there, self.config)

        def say(at: int) -> tuple[dict, str]:
            facts = {name: float(column[at]) for name, column in columns.items() if not np.isnan(column[at])}
            if rule[at] == STAYS:
                return facts, ""
            name, why = RULES[rule[at]]
            name = self.config.keep if rule[at] == EASY else name
            return facts, f"judge: {why}" + (f" ({name} {facts[name]:.4f})" if name else "")

        return Verdicts(rule == STAYS, say)


def decided(columns: Mapping[str, np.ndarray], scored: np.ndarray, there: There, config: JudgeFilterConfig) -> np.ndarray:
    """[N] place in RULES of the rule by which each picture goes, STAYS for one that does not.

    columns: each of NUMBERS [N], not a number where a picture has none: no rule by that number takes it out. scored [N] bool.
    """
    rule = np.full(len(scored), STAYS, np.int8)
    with np.errstate(invalid="ignore"):
        for number, goes in (
            (UNSCORED, ~scored),
            (LEAKS, at_least(columns[LEAK], config.leak)),
            (OUTLIES, columns[OUTLIER] > config.max_distance),
            (OTHER_CLASS, columns[MARGIN] < config.min_margin),
        ):
            rule[goes & (rule == STAYS)] = number
    if config.keep != NONE:
        unsure = {MARGIN: -columns[MARGIN], ENTROPY: columns[ENTROPY]}[config.keep]
        asked = np.flatnonzero((rule == STAYS) & ~np.isnan(unsure))
        kept = top_of_class(unsure[asked], there.labels[asked], there.slots[asked], config.share)
        rule[asked[~kept]] = EASY
    return rule
