"""Plans a story: a text split into chapters of prompts, each prompt in all styles; and the pages made of it."""

import json
from dataclasses import replace
from pathlib import Path

from launch.config.limits import AT_LEAST_0, AT_LEAST_1, SHARE
from launch.config.schema import Story, StoryGeneration, StoryStyle
from launch.plan import exports
from launch.plan.images import drawing, run_settings
from launch.plan.models import plan_model
from launch.plan.node import Node
from launch.plan.story_text import read_book
from synth.captions.config import ClassEntry, DatasetConfig
from synth.errors import InputError
from synth.keys import dump
from synth.store.spec import InputFile, StageSpec
from synth.story import config as sample
from synth.story.book import NAME, ROLE
from synth.story.chain import Rules
from synth.story.config import StoryConfig

CARRIES = ("chapter", "book")
LOSSLESS = ("png", "webp")
LIMITS = {"guidance_scale": AT_LEAST_0, "num_inference_steps": AT_LEAST_1, "eta": SHARE, "preview_max_windows": AT_LEAST_1}


def plan(node: Node) -> list[StageSpec]:
    """A unit is a chapter, or all of the book where something passes from chapter to chapter; a batch is a prompt."""
    story, images = node.config.story, node.config.images
    generation = story.generation_config
    for key, allowed in LIMITS.items():
        if (value := getattr(generation, key)) is not None and value not in allowed:
            raise InputError(f"story.generation_config.{key}={value}: must be {allowed}")
    _one_of("story.carry", story.carry, CARRIES)
    styles, progressive = styles_of(story), _progressive(generation)
    if progressive and images.format not in LOSSLESS:
        why = "a picture starts from the stored one before it, which must not have lost anything"
        raise InputError(f"images.format={images.format}: {why}; use {' or '.join(LOSSLESS)}")
    if images.save_size:
        raise InputError(
            f"images.save_size={images.save_size}: a story stores pictures as they were computed; use 0, and images.height, .width"
        )
    source, book, skipped = read_book(story.prompt_config)
    model, n = plan_model(node.config.model), len(styles)
    if model.config.command:
        raise InputError("model.command: a command starts from no picture and keeps no chain; choose a model of diffusers for a story")
    keys = replace(
        images,
        seed=story.seed,
        guidance_scale=generation.guidance_scale,
        steps=generation.num_inference_steps,
        eta=generation.eta,
    )  # fmt: skip
    tags = tuple(ClassEntry(i, s.file_tag) for i, s in enumerate(styles))
    config = StoryConfig(
        **drawing(model, keys, "images"),
        dataset=DatasetConfig(name="styles", classes=tags, n_classes=n),
        styles=tuple(sample.StoryStyle(s.style, s.weight) for s in styles),
        prompts=tuple(len(c.prompts) for c in book.chapters),
        progressive=progressive,
        interleave=generation.interleave,
        cycle_styles=generation.cycle_styles,
        carry=story.carry,
        rows=images.batch_size,
    )
    rules = Rules(progressive, config.interleave, config.cycle_styles, config.steps, tuple(s.weight for s in styles))
    model.judge(config, img2img=progressive and any(rules.run(lane) for lane in range(n)))
    listing, identity = book.to_bytes()
    settings = run_settings(node.config, model.folder) | {
        "growing": generation.preview_max_windows if generation.preview else 0,
        "price": price(config, rules),
        "notes": _notes(story, source, skipped),
    }
    chained = story.carry == "book" and (progressive or generation.cycle_styles)  # else nothing passes from chapter to chapter
    chains = [book.n_prompts * n] if chained else [p * n for p in config.prompts]
    ends = () if len(chains) == 1 else book.ends(n)
    batch = n if progressive else n * max(1, images.batch_size // n)
    inputs = {**model.inputs, ROLE: InputFile(str(source), identity)}
    spec = node.spec(dump(config), book.n_prompts * n, max(chains), batch, inputs, settings)
    return [replace(spec, ends=ends, files={NAME: listing})]


def price(config: StoryConfig, rules: Rules) -> str:
    """What a story costs, in words."""
    chains = [sum(config.prompts)] if config.carry == "book" else config.prompts
    first = len(chains) if config.progressive else sum(chains)  # prompts whose pictures come from noise
    later = sum(chains) - first
    runs = [rules.run(lane) for lane in range(rules.lanes)]
    steps = first * rules.lanes * config.steps + later * sum(runs)
    kept = f", {later * runs.count(0):,} kept as they are" if later and 0 in runs else ""
    return (
        f"{sum(chains) * rules.lanes:,} images ({len(config.prompts):,} chapters, {sum(chains):,} prompts, "
        f"{rules.lanes} styles; {first * rules.lanes:,} from noise, "
        f"{later * (rules.lanes - runs.count(0)):,} from another image{kept}), {steps:,} denoising steps"
    )


def styles_of(story: Story) -> list[StoryStyle]:
    """The styles, judged."""
    key, styles = "story.style_configs", list(story.style_configs)
    if story.style_configs_file is not None:
        key, styles = f"story.style_configs_file: {story.style_configs_file}: style ", _styles_in(story.style_configs_file)
    if not styles:
        raise InputError(f"{key}: is empty; give one style at least: [{{style: 'in the snow', file_tag: snow, weight: 0.7}}]")
    for i, style in enumerate(styles):
        if not 0 <= style.weight <= 1:
            raise InputError(
                f"{key}[{i}].weight={style.weight}: must be from 0 to 1, the share of the steps that is run from a last picture"
            )
        for name, text in (("style", style.style), ("file_tag", style.file_tag)):
            if any("\ud800" <= c <= "\udfff" for c in text):
                raise InputError(f"{key}[{i}].{name}={text!r}: is not Unicode text (half a character); mend it")
        if not style.file_tag.strip():
            raise InputError(f"{key}[{i}].file_tag={style.file_tag!r}: is empty; it names the folder of the style's pictures")
    return styles


def _styles_in(path: str) -> list[StoryStyle]:
    types = {"style": str, "file_tag": str, "weight": (int, float)}
    try:
        rows = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise InputError(f"story.style_configs_file: {path} cannot be read as JSON ({getattr(e, 'strerror', None) or e})") from e
    for i, row in enumerate(rows if isinstance(rows, list) else [rows]):
        fits = isinstance(row, dict) and set(types) <= set(row) <= {*types, "last_image", "images"}
        if (
            not isinstance(rows, list)
            or not fits
            or not all(isinstance(row[k], t) and not isinstance(row[k], bool) for k, t in types.items())
        ):
            fix = 'write a list of {"style": TEXT, "file_tag": TEXT, "weight": 0..1}'
            raise InputError(f"story.style_configs_file: {path}: entry {i} is no style; {fix}")
    return [StoryStyle(**{**row, "weight": float(row["weight"])}) for row in rows]


def pages(node: Node) -> list[StageSpec]:
    """A slot is a chapter; each is a unit, so that jobs share them."""
    individual = node.config.story.generation_config.save_individual
    settings = replace(node.settings, title=node.dataset_root.name, individual=individual)
    return exports.plan(replace(node, settings=settings))


def _progressive(generation: StoryGeneration) -> bool:
    """The key, or the original's spelling of it."""
    given = {generation.progressive, generation.progresive} - {None}
    if len(given) > 1:
        both = f"progressive={generation.progressive} and progresive={generation.progresive}"
        raise InputError(f"story.generation_config: {both} disagree; give one of them")
    return given.pop() if given else True


def _notes(story: Story, source: Path, skipped: int) -> list[str]:
    """Lines for whoever started the run."""
    styles = styles_of(story)
    ignored = [k for k in ("last_image", "images") if any(getattr(s, k) is not None for s in styles)]
    ignored += ["preview_stop"] if story.generation_config.preview_stop is not None else []
    notes = [f"story: ignored, because nothing here needs them: {', '.join(ignored)}"] if ignored else []
    return notes + ([f"story: {skipped:,} empty prompts of {source} are skipped"] if skipped else [])


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{key}={value}: use one of {', '.join(allowed)}")
