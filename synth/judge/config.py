"""Keys of the judge: what it looks at, how its probes are trained, what its page shows."""

from dataclasses import dataclass

from synth.features.config import FOLDER
from synth.filters.config import FilterConfig
from synth.keys import key, later, plan_key

SCORES = "judge_scores"  # kind of the stage that filter `judge` reads
SHARES = "shares"  # kind of the stage that says which captions a round of feedback draws
NONE, MARGIN, ENTROPY = "none", "margin", "entropy"
FEEDBACKS = (ERROR, ENTROPY, COVERAGE, NONE) = ("error", ENTROPY, "coverage", NONE)
OF = "recipe=feedback says, which alone reads it"


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """kind "judge": a slot a part of the judgement (synth.judge.parts). Upstream roles "features": of the judged set, one stage or several
    behind each other; "images": the last filter, if one chose of them; "real", "test": features of the sets that it is compared with;
    "neighbours", "real_neighbours": what pictures of a set are near each other."""

    source: str = plan_key(f"recipe=judge: the set that is judged: {FOLDER}", null="none")
    real: str = plan_key(f"real training pictures that the set is compared with: {FOLDER}", null="none")
    test: str = plan_key(f"real pictures that probes are tested on: {FOLDER}", null="none")
    per_class: int = key(
        "pictures of each class that a probe is trained on, drawn without replacement",
        low=1,
        null="as many as the smaller of the judged and the real set has",
        sparse=True,
        unread=None,
    )
    seeds: tuple[int, ...] = key("list of integers: one draw of the training pictures each; an accuracy is their mean")
    neighbours: int = key("k of precision, recall, density and coverage", low=1, high=100)
    votes: int = key("k of the k-nearest-neighbours classifier", low=1, high=1000)
    duplicate: float = key("cosine similarity from which two pictures of the set count as the same", low=-1, high=1)
    leak: float = key("cosine similarity from which a picture counts as one of the test set", low=-1, high=1)
    pictures: int = key("pictures that are decoded for statistics of pictures and captions, evenly over the set", low=0)
    train: str = plan_key("what is trained on the sets beside probes of their features", choices=("none", "finetune"))
    worst: int = plan_key("classes that the page shows pictures of, the worst ones", low=0)
    shown: int = plan_key("pictures of a set in a row of the page", low=1)
    rounds: tuple[int, ...] = later(factory=tuple, sparse=True)  # of recipe=feedback: slots of each round's pictures


@dataclass(frozen=True, kw_only=True)
class NeighboursConfig:
    """kind "neighbours": a slot a block of pictures (synth.judge.parts). Keys as the judge's; without `duplicate` no pairs are told."""

    neighbours: int
    duplicate: float | None = None


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """kind "finetune": a classifier trained on pictures, for each set that a probe is trained on and each seed. Upstream roles: those of
    the judge; input "model"."""

    model: str = plan_key(
        "folder of transformers with an image classifier or its backbone; one with a config.json alone is trained from nothing",
        null="a ResNet-18 from nothing",
    )
    epochs: int = key("times that each training picture is seen", low=1)
    batch_size: int = key("pictures of a step", low=2)
    learning_rate: float = key("its highest, of AdamW; 5e-5 suits a model that was trained before", low=0)
    side: int = key("pixels of the sides of the model's input", low=8, high=4096, null="the model's own", sparse=True, unread=None)
    seeds: tuple[int, ...] = later(())  # as the judge's, which draws the same pictures
    per_class: int | None = later()


@dataclass(frozen=True, kw_only=True)
class JudgeReportConfig:
    """kind "judge_report": judge.json, the page and its pictures; upstream role "judge". As the keys of the judge."""

    worst: int
    shown: int
    out: str = ""


@dataclass(frozen=True, kw_only=True)
class JudgeScoresConfig:
    """kind "judge_scores": numbers of each picture of role "features", beside those of roles "real" and "test"."""

    per_class: int | None = later()


@dataclass(frozen=True, kw_only=True)
class FeedbackConfig:
    """Keys of recipe=feedback, whose defaults stand there; null in any other. Only planning reads them."""

    by: str = plan_key(
        "feedback=.. on the command line: who gets more pictures. error: classes of real pictures that a linear probe of the earlier rounds"
        " gets wrong | entropy: that it is unsure of | coverage: that have no made picture nearby | none: nobody, the control",
        choices=FEEDBACKS,
        null=OF,
    )
    rounds: int = plan_key(
        "rounds=.. on the command line: rounds that pictures are drawn in; the first one is alike for all classes", low=1, null=OF
    )
    pictures: int = plan_key("pictures of all rounds together", low=1, null="images.per_caption of each caption")
    floor: float = plan_key("share of an equal part that each class gets at least, and one picture; 1: alike", low=0, high=1, null=OF)


@dataclass(frozen=True, kw_only=True)
class SharesConfig:
    """kind "shares": the captions that a round draws, a row a picture. Upstream roles "captions": captions_json; "earlier": the shares of
    the rounds before; unless `by` is none "features" of their pictures, in the same order, and "real": of those that decide."""

    by: str
    total: int  # pictures of this round
    floor: float
    neighbours: int  # k of coverage


@dataclass(frozen=True, kw_only=True)
class RoundsConfig:
    """kind "rounds": the pictures of upstream role "images", several stages, as those of one."""


@dataclass(frozen=True, kw_only=True)
class JudgeFilterConfig(FilterConfig):
    """kind "judge_filter", which is `filter=[judge]`: the stage "judge" measures."""

    real: str = plan_key(f"real pictures that the others are held against, as judge.real: {FOLDER}", null="none")
    test: str = plan_key("pictures of a test set, as judge.test: what is like one of them goes", null="none")
    per_class: int = plan_key("real pictures of each class that the probe is trained on, drawn without replacement", low=1, null="all")
    keep: str = key(
        "margin | entropy: of each class the pictures that a linear probe of the real ones is least sure of | none: sure or not",
        choices=(NONE, MARGIN, ENTROPY),
    )
    share: float = key("keep=margin, entropy: share of each class that stays, 0..1", low=0, high=1)
    min_margin: float = key(
        "-1..1; a picture goes whose class has a probability that is lower than this above the likeliest other one's; -1: none",
        low=-1,
        high=1,
    )
    max_distance: float = key(
        "quantile, 0..1, of the real pictures' distances to their nearest other one of the class: who lies further from them goes; 1: none",
        low=0,
        high=1,
    )
    leak: float = key("cosine similarity from which a picture counts as one of the test set", low=-1, high=1)

    @property
    def scores(self) -> str:
        return SCORES
