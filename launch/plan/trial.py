"""try=N: a run cut down to a small part of itself, each sample of which the whole run makes, too, in a folder of its own.

A sample hangs on its slot's key, its caption or its input, and never on how many there are: so fewer captions a class, pictures or prompts
give some of those that all of them give. What would give others, or nothing that can be cut, is refused by name.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from launch.config.clusters import NULL, ClusterConfig, SlurmConfig, without_time
from launch.config.root import Config
from launch.plan.captions import slots_for, wanted
from launch.plan.datasets import dataset_of
from launch.plan.images import counts_of
from launch.plan.makers import maker_of
from launch.plan.planned import PlannedStage
from synth.captions.config import CaptionsConfig
from synth.errors import InputError
from synth.export.config import ExportConfig
from synth.filters.config import FilterConfig
from synth.judge.config import NONE, SHARES

ENSEMBLE = "ensemble"
FOLDER = "try"  # below runs_dir: a runs folder of its own, which other commands take as one


def cut(config: Config, whole: Sequence[PlannedStage]) -> Config:
    """The config of a try. whole: the stages of the run without it. InputError for a run that cannot be cut."""
    n, stages = config.trial, config.recipe.stages.values()
    kinds = [s.kind for s in stages if s.kind in CUTS and (not s.upstream or s.kind == CAPTIONS_JSON)]
    if not kinds:
        fix = "leave try out, or try a run that makes pictures"
        raise InputError(f"try={n}: recipe={config.recipe.name} has nothing that can be made in part; {fix}")
    if ENSEMBLE in config.filter:
        raise InputError(f"try={n}: filter=[{ENSEMBLE}] reads the whole pictures of other runs; leave {ENSEMBLE} out of the filters")
    for kind in dict.fromkeys(kinds):
        config = CUTS[kind](config, n, whole)
    exports = {name: _own_place(export) for name, export in config.export.items()}
    return replace(
        config,
        runs_dir=str(Path(config.runs_dir) / FOLDER),
        export=exports,
        filter={name: _of_few(chooser) for name, chooser in config.filter.items()},
        judge=replace(config.judge, real=NULL, test=NULL, train="none"),
        cluster=_one_job(config.cluster),
    )


def lines(config: Config, own: Sequence[PlannedStage], whole: Sequence[PlannedStage]) -> tuple[str, ...]:
    """What people should know: how much of each stage is made, and what of the run is left out. config: of the whole run."""
    of = {s.name: s.spec.slots for s in whole}
    less = [f"{s.name} {s.spec.slots:,} of {of[s.name]:,}" for s in own if s.spec.slots < of.get(s.name, 0)]
    same = [f"{s.name} ({s.spec.slots:,})" for s in own if s.spec.kind in ASKED_FIRST and s.spec.slots == of.get(s.name)]
    told = [f"try={config.trial}: {', '.join(less) or 'the run has no more than that'}; all below {own[0].dataset_root if own else ''}"]
    if same:
        told.append(
            f"try={config.trial}: whole, as all captions are made of them: {', '.join(same)}; fewer classes ask less: dataset.classes"
        )
    if config.lora.real is not None:
        told.append(f"try={config.trial}: LoRAs are trained in full: with fewer steps pictures would be others; fewer classes train fewer")
    if config.judge.real is not None or config.judge.test is not None:
        told.append(f"try={config.trial}: is not judged (judge.real, judge.test): so few pictures tell nothing")
    return tuple(told)


# -- what each kind of a first stage is cut to -----------------------------------------------------------------------


def _captions(config: Config, n: int, whole: Sequence[PlannedStage]) -> Config:
    """N captions of each class, each drawn once."""
    images = config.images
    if images.subset is not None or images.subset_file is not None:
        key = "subset" if images.subset is not None else "subset_file"
        raise InputError(f"try={n}: images.{key} names rows of the whole captions.json, and a try has its own; leave images.{key} out")
    made = [s for s in whole if s.spec.kind == "captions"]
    counts = [c.count for c in counts_of(images, config.dataset)] if config.captions.stages is None else []
    counts += _first_round(whole)
    if counts and not min(counts):
        raise InputError(
            f"try={n}: images.count gives a class 0 pictures, and a try makes one of each at least; leave it out: dataset.classes"
        )
    captions, most = _fewer_captions(config, min([n, *counts]), made)
    if counts and most > min(counts):
        fix = "use captions.per_class in the place of captions.total"
        raise InputError(f"try={n}: images.count={min(counts)} of a class may leave out captions that a try draws; {fix}")
    images = replace(images, per_caption=1, count=NULL, count_file=NULL, increase_ratio=1.0)
    if any(s.spec.kind == SHARES for s in whole):  # the later rounds hang on all pictures of the first one
        config = replace(config, feedback=replace(config.feedback, by=NONE, rounds=1, pictures=NULL))
    return replace(config, captions=captions, images=images)


def _first_round(whole: Sequence[PlannedStage]) -> list[int]:
    """Pictures of each class in the first round of feedback, which is alike; [] of another run."""
    first = next((s.spec for s in whole if s.spec.kind == SHARES), None)
    classes = {c["index"] for s in whole if s.spec.kind == "captions" for c in s.spec.config["dataset"]["classes"]}
    return [first.config["total"] // len(classes)] if first is not None and classes else []


def _fewer_captions(config: Config, n: int, made: Sequence[PlannedStage]) -> tuple[CaptionsConfig, int]:
    """(the keys of captions, captions of one class at most). made: the captions stages of the whole run.

    Where the run takes its first `total` captions whatever their class is, N of each class are among them if all that a try asks are;
    else a try takes the first ones, too.
    """
    captions, asked = config.captions, wanted(config, made)
    seeds = captions.seeds[:1] if captions.seeds else captions.seeds
    captions = replace(captions, seeds=seeds, allow_short=True)
    classes = len({c["index"] for stage in made for c in stage.spec.config["dataset"]["classes"]})
    if not made:  # until=STAGE ends before them
        return captions, n
    if asked.per_class:
        few = min(n, asked.per_class)
        return replace(captions, per_class=few, total=NULL), few
    slots = made[0].spec.slots
    if captions.stages is None:
        maker = maker_of(config, dataset_of(config.dataset))
        exact = config.prompts.class_balance == "exact"
        needed = maker.slots or (n * classes if maker.capacity else slots_for(n * classes, captions.oversample, 1, classes))
        all_of_file = maker.total is not None and asked.captions >= maker.total
        if all_of_file or (exact and needed <= min(asked.captions, slots)):
            return replace(captions, per_class=n, total=NULL), n
    few = min(n * classes, asked.captions // len(made) or 1)
    most = -(-slots_for(few, captions.oversample, 1, classes) // classes) if config.prompts.class_balance == "exact" else few
    return replace(captions, per_class=NULL, total=few), most


def _img2img(config: Config, n: int, whole: Sequence[PlannedStage]) -> Config:
    """N pictures for each class, drawn from all by their lots, of which a larger number draws these first; one of each."""
    img2img = config.img2img
    for stage in (s for s in whole if s.spec.kind == "img2img"):
        inputs = stage.spec.slots // img2img.per_image
        classes = len(stage.spec.config["dataset"]["classes"]) or 1
        img2img = replace(img2img, random_count=min(inputs, n * classes), per_image=1)
    return replace(config, img2img=img2img)


def _story(config: Config, n: int, whole: Sequence[PlannedStage]) -> Config:
    """The first N prompts; some more where the first chapter has fewer, as all chapters of a try but the last one are whole: what passes
    from chapter to chapter is the same."""
    keys = config.story.prompt_config
    for stage in (s for s in whole if s.spec.kind == "story"):
        chapters = there = 0
        for prompts in stage.spec.config["prompts"]:
            if there < n:
                chapters, there = chapters + 1, there + min(prompts, n)
        keys = replace(keys, max_chapters=chapters, max_entries_per_chapter=min(n, keys.max_entries_per_chapter or n))
    return replace(config, story=replace(config.story, prompt_config=keys))


def _pairs(config: Config, n: int, whole: Sequence[PlannedStage]) -> Config:
    """One pair of each of the first N images, which their planner chooses: it reads the annotations."""
    return replace(config, tracking=replace(config.tracking, variants=1))


def _layout(config: Config, n: int, whole: Sequence[PlannedStage]) -> Config:
    """The first N pictures of the source, which their planner lists."""
    return config


def _probe(config: Config, n: int, whole: Sequence[PlannedStage]) -> Config:
    return replace(config, probe=replace(config.probe, slots=min(n, config.probe.slots)))


CAPTIONS_JSON = "captions_json"
ASKED_FIRST = ("metaprompts", "prompt_trees", "backgrounds")  # asked of each class before its captions
CUTS: dict[str, Callable[[Config, int, Sequence[PlannedStage]], Config]] = {
    CAPTIONS_JSON: _captions,
    "img2img": _img2img,
    "story": _story,
    "pairs": _pairs,
    "tags": _layout,
    "probe": _probe,
}


def _own_place(export: ExportConfig) -> ExportConfig:
    """An export below the folder of the try, that takes nothing from another one."""
    linked: dict[str, Any] = {"link_from": NULL} if hasattr(export, "link_from") else {}
    return replace(export, out=NULL, **linked)


def _of_few(chooser: FilterConfig) -> FilterConfig:
    """A filter that takes what there is, where it wants so many pictures of a class."""
    short: dict[str, Any] = {"allow_short": True} if hasattr(chooser, "allow_short") else {}
    return replace(chooser, **short)


def _one_job(cluster: ClusterConfig) -> ClusterConfig:
    """On Slurm one job for each stage, whatever is said of some kinds; here as said, and as many as there are GPUs or cores for auto."""
    if not isinstance(cluster, SlurmConfig):
        return without_time(cluster)
    stages = {kind: replace(own, n_jobs=NULL) for kind, own in cluster.stages.items()}
    return replace(cluster, n_jobs=1, cpu=replace(cluster.cpu, n_jobs=NULL), stages=stages)
