"""Plans a story: a text split into chapters of prompts, each prompt in all styles; and the pages made of it."""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from launch.plan import exports
from launch.plan.batches import batches_of
from launch.plan.images import drawing, run_settings
from launch.plan.inputs import existing, read_json
from launch.plan.models import PlannedModel, judged, plan_model
from launch.plan.node import Node
from synth import foreign
from synth.captions.config import ClassEntry, DatasetConfig
from synth.errors import InputError, StoreError
from synth.host.deaths import from_outside
from synth.host.environment import without_secrets
from synth.images.config import DrawingConfig, ImagesConfig
from synth.keys import WrongKey, check, dump, of_group, stored_names
from synth.store.spec import InputFile, StageSpec
from synth.story import splitting
from synth.story.book import NAME, ROLE, Book
from synth.story.chain import Rules
from synth.story.config import GenerationKeys, PromptKeys, StoryConfig, StoryKeys, StoryStyle, StyleKeys

PROMPTS, GENERATION = "story.prompt_config", "story.generation_config"
CALLED = {"guidance_scale": "guidance_scale", "eta": "eta", "steps": "num_inference_steps"}  # keys of drawing -> in GENERATION
LOSSLESS = ("png", "webp")
LIMIT = 10.0  # seconds that both regexes may take; a book of 10,000 prompts takes a tenth of one


def plan(node: Node) -> list[StageSpec]:
    """A unit is a chapter, or all of the book where something passes from chapter to chapter; a batch is a prompt."""
    story, images = node.config.story, node.config.images
    generation = story.generation_config
    styles, progressive = styles_of(story), _progressive(generation)
    if progressive and images.format not in LOSSLESS:
        why = "a picture starts from the stored one before it, which must not have lost anything"
        raise WrongKey("format", images.format, why, f"use {' or '.join(LOSSLESS)}", "images")
    if images.save_size:
        why = "a story stores pictures as they were computed"
        raise WrongKey("save_size", images.save_size, why, "use 0, and images.height, .width", "images")
    source, book, skipped = read_book(story.prompt_config)
    model, n = plan_model(node.config.model), len(styles)
    if model.config.command:
        raise InputError("model.command: a command starts from no picture and keeps no chain; choose a model of diffusers for a story")
    config = StoryConfig(
        **_drawn(model, images, story),
        dataset=DatasetConfig(
            name="styles", classes=tuple(ClassEntry(i, s.file_tag) for i, s in enumerate(styles)), n_classes=n, kind="object", suffix=""
        ),
        styles=tuple(StoryStyle(s.style, s.weight) for s in styles),
        prompts=tuple(len(c.prompts) for c in book.chapters),
        progressive=progressive,
        interleave=generation.interleave,
        cycle_styles=generation.cycle_styles,
        carry=story.carry,
    )
    rules = Rules(progressive, config.interleave, config.cycle_styles, config.steps, tuple(s.weight for s in styles))
    with _keys_of_drawing():
        judged(model, config, img2img=progressive and any(rules.run(lane) for lane in range(n)))
        batches = batches_of(node, model, config, images, "images")
    config = replace(config, rows=batches.batch, vae_batch=batches.vae_batch)
    listing, identity = book.to_bytes()
    settings = (
        run_settings(node.config, model.folder)
        | batches.settings
        | {
            "growing": generation.preview_max_windows if generation.preview else 0,
            "price": price(config, rules),
            "notes": _notes(story, styles, source, skipped),
        }
    )
    chained = story.carry == "book" and (progressive or generation.cycle_styles)  # else nothing passes from chapter to chapter
    chains = [book.n_prompts * n] if chained else [p * n for p in config.prompts]
    ends = () if len(chains) == 1 else book.ends(n)
    batch = n if progressive else n * max(1, batches.batch // n)
    inputs = {**model.inputs, ROLE: InputFile(str(source), identity)}
    spec = node.spec(dump(config), book.n_prompts * n, max(chains), batch, inputs, settings)
    return [replace(spec, ends=ends, files={NAME: listing})]


def _drawn(model: PlannedModel, images: ImagesConfig, story: StoryKeys) -> dict[str, Any]:
    """What a story has in common with all that is drawn: as images.*, but for the keys that it has itself."""
    own = {key: getattr(story.generation_config, name) for key, name in CALLED.items()}
    with _keys_of_drawing():
        config = drawing(model, replace(images, seed=story.seed, **own), "images")
    return {name: getattr(config, name) for name in stored_names(DrawingConfig)}


@contextlib.contextmanager
def _keys_of_drawing() -> Iterator[None]:
    """Inside, a WrongKey of what is drawn is one of generation_config, or else of images."""
    with of_group("images"):
        try:
            yield
        except WrongKey as e:
            if e.group or e.key not in CALLED:
                raise
            raise e.called(CALLED[e.key]).of(GENERATION) from e.__cause__


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


def styles_of(story: StoryKeys) -> list[StyleKeys]:
    """The styles, judged."""
    key, styles = "story.style_configs", list(story.style_configs)
    if story.style_configs_file is not None:
        key, styles = f"story.style_configs_file: {story.style_configs_file}: style ", _styles_in(story.style_configs_file)
    if not styles:
        raise InputError(f"{key}: is empty; give one style at least: [{{style: 'in the snow', file_tag: snow, weight: 0.7}}]")
    for i, style in enumerate(styles):
        for name, text in (("style", style.style), ("file_tag", style.file_tag)):
            if any("\ud800" <= c <= "\udfff" for c in text):
                raise InputError(f"{key}[{i}].{name}={text!r}: is not Unicode text (half a character); mend it")
        if not style.file_tag.strip():
            raise InputError(f"{key}[{i}].file_tag={style.file_tag!r}: is empty; it names the folder of the style's pictures")
    return styles


def _styles_in(path: str) -> list[StyleKeys]:
    types: dict[str, Any] = {"style": str, "file_tag": str, "weight": (int, float)}
    rows = read_json(path, "story.style_configs_file", 'a list of {"style": TEXT, "file_tag": TEXT, "weight": 0..1}')
    for i, row in enumerate(rows if isinstance(rows, list) else [rows]):
        fits = isinstance(row, dict) and set(types) <= set(row) <= {*types, "last_image", "images"}
        if (
            not isinstance(rows, list)
            or not fits
            or not all(isinstance(row[k], t) and not isinstance(row[k], bool) for k, t in types.items())
        ):
            fix = 'write a list of {"style": TEXT, "file_tag": TEXT, "weight": 0..1}'
            raise InputError(f"story.style_configs_file: {path}: entry {i} is no style; {fix}")
    styles = [StyleKeys(**{**row, "weight": float(row["weight"])}) for row in rows]
    for i, style in enumerate(styles):
        check(style, f"story.style_configs_file: {path}: style [{i}]")
    return styles


def pages(node: Node) -> list[StageSpec]:
    """A slot is a chapter; each is a unit, so that jobs share them."""
    individual = node.config.story.generation_config.save_individual
    settings = replace(node.settings, title=node.dataset_root.name, individual=individual)
    return exports.plan(replace(node, settings=settings))


def _progressive(generation: GenerationKeys) -> bool:
    """The key, or the original's spelling of it."""
    given = {generation.progressive, generation.progresive} - {None}
    if len(given) > 1:
        both = f"progressive={generation.progressive} and progresive={generation.progresive}"
        raise InputError(f"story.generation_config: {both} disagree; give one of them")
    return given.pop() if given else True


def _notes(story: StoryKeys, styles: list[StyleKeys], source: Path, skipped: int) -> list[str]:
    """Lines for whoever started the run."""
    ignored = [f"story.style_configs[].{k}" for k in ("last_image", "images") if any(getattr(s, k) is not None for s in styles)]
    ignored += ["story.generation_config.preview_stop"] if story.generation_config.preview_stop is not None else []
    notes = [f"ignored, because nothing here needs them: {', '.join(ignored)}"] if ignored else []
    return notes + ([f"story: {skipped:,} empty prompts of {source} are skipped"] if skipped else [])


# -- the text --------------------------------------------------------------------------------------------------------


def read_source(path: str | None) -> tuple[Path, str]:
    """(absolute path, its text with \\n line ends). Not there, not a file, not UTF-8: an InputError that shows where."""
    source = existing(path, f"{PROMPTS}.source", "the text file that is to be illustrated")
    try:
        data = foreign.read(source, foreign.TABLE)
    except OSError as e:
        raise InputError(f"{PROMPTS}.source: {source} cannot be read ({e.strerror}); it must name a text file") from e
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        start = e.start + (len(data) - len(e.object))  # the decoder counts from behind a byte order mark
        line, before = data.count(b"\n", 0, start) + 1, data[:start].rpartition(b"\n")[2].decode("utf-8", "replace")
        fix = f"convert it: iconv -f latin1 -t utf-8 {source.name}"
        raise InputError(
            f"{PROMPTS}.source: {source}, line {line}: byte 0x{data[start]:02X} after {before[-30:]!r} is not UTF-8; {fix}"
        ) from e
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise InputError(f"{PROMPTS}.source: {source} is empty; it must hold the text that is to be illustrated")
    return source, text


def read_book(keys: PromptKeys) -> tuple[Path, Book, int]:
    """(source, its chapters of prompts, how many empty prompts were skipped). Anything wrong is an InputError."""
    for key in ("chapter_split_regex", "prompt_split_regex"):
        check_regex(key, getattr(keys, key))
    source, text = read_source(keys.source)
    split = split_in_child(
        {
            "text": text,
            "chapter_regex": keys.chapter_split_regex,
            "prompt_regex": keys.prompt_split_regex,
            "max_chapters": keys.max_chapters,
            "max_entries": keys.max_entries_per_chapter,
        },
        source,
    )
    if "error" in split:
        raise InputError(f"{PROMPTS}: {source}: {split['error']}; mend the regex or the text")
    same = splitting.one_line(keys.prompt_override or "")
    return (
        source,
        Book.of([(c["number"], c["title"], [same or p for p in c["prompts"]]) for c in split["chapters"]]),
        split["skipped"],
    )


def check_regex(key: str, pattern: str | None) -> None:
    """InputError that shows where a pattern is wrong."""
    if pattern is None and key == "chapter_split_regex":
        return  # all of the text is one chapter
    if not pattern:
        raise InputError(f"{PROMPTS}.{key}={pattern!r}: is empty; give a regular expression, such as '\\n'")
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as e:
        at = getattr(e, "pos", None)
        where = f" at {pattern[:at]!r} >>> {pattern[at:]!r}" if at is not None else ""
        raise InputError(f"{PROMPTS}.{key}={pattern!r}: is no regular expression of Python ({getattr(e, 'msg', e)}{where})") from e


def split_in_child(request: dict, source: Path, limit: float = LIMIT) -> dict:
    """What synth.story.splitting answers. A pattern that does not end in `limit` seconds is an InputError that names it."""
    command = [sys.executable, "-I", splitting.__file__]
    try:
        done = subprocess.run(
            command, input=json.dumps(request).encode(), capture_output=True, timeout=limit, check=False, env=without_secrets()
        )
    except subprocess.TimeoutExpired as e:
        lines = (e.stderr or b"").decode("utf-8", "replace").splitlines()
        what = lines[-1] if lines else "the regexes"
        key = what.partition(" ")[0]
        pattern = request.get({"chapter_split_regex": "chapter_regex"}.get(key, "prompt_regex"))
        fix = "avoid one repeat inside another, as in (a+)+"
        raise InputError(f"{PROMPTS}.{key}={pattern!r}: {what} of {source} took longer than {limit:g} s, so it may never end; {fix}") from e
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        last = lines[-1] if lines else f"exit code {done.returncode}"
        if killed := from_outside(done.returncode):
            raise StoreError(f"{PROMPTS}: what splits {source} was killed by {killed.name}: run the same command again")
        if last.startswith("MemoryError"):
            raise StoreError(f"{PROMPTS}: there is too little memory here to split {source}: run the same command where there is more")
        raise InputError(f"{PROMPTS}: {source} cannot be split ({last})")
    return foreign.parse(done.stdout, "what splitting gave", halves=True)
