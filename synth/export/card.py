"""README.md of an export: a dataset card in Hugging Face's form, made of what the stages that led to it say of themselves.

Depends on the stages and on the command alone, so a card that is written again has the same bytes.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from synth.store.folder import StageFolder

CARD = "README.md"
MODELS = (  # key of a sample config -> what the model made
    *(("captioner", "captions"), ("model", "images")),
    *(("taggers", "tags"), ("detector", "boxes"), ("segmenter", "masks"), ("box_captioner", "captions of boxes")),
)
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))
LIMITS = """- Pictures and captions are made by models. A picture may not show its class, and holds what its models learnt, their errors \
and biases too.
- Labels are those of the captions' classes; nobody looked at the pictures. Filters, if any, are among the stages above.
- Whether the pictures may be used for a purpose is for the licences of the models to say, and of the data they were trained on."""


def card(
    folder: StageFolder,
    classes: Mapping[int, str],
    counts: Mapping[int, int],
    size: int,
    how_to_read: str,
    front_matter: Mapping,
) -> bytes:
    """The card of an export stage. counts: official index -> pictures; size: bytes of all pictures."""
    total, rows = sum(counts.values()), "\n".join(f"| {i} | {plain_text(classes[i])} | {n:,} |" for i, n in counts.items())
    head = f"{total:,} synthetic pictures ({size:,} bytes) of {len(classes):,} classes, with a caption each, made by synthset."
    files = f"""{how_to_read}
- `classes.json`: the official index and name of each class.
- `manifest.parquet`: a row a picture: key, file, class, label, caption, seed, width, height, size in bytes, sha256, unit."""
    table = f"## Pictures per class\n| index | class | pictures |\n| --- | --- | --- |\n{rows}\n"
    front = {"task_categories": ["image-classification"], "tags": ["synthetic", "synthset"], **front_matter}
    return laid_out(folder, total, "synthetic", front, head, files, table, LIMITS)


def laid_out(folder: StageFolder, total: int, pretty: str, front: Mapping, head: str, files: str, table: str, limits: str) -> bytes:
    """The text of a card of `total` pictures. pretty: behind its name; front: keys of the YAML, task_categories and tags first."""
    stages = list(lineage(folder))
    name = dataset_name(stages)
    keys = {
        "pretty_name": f"{name} ({pretty})",
        "task_categories": front["task_categories"],
        "size_categories": [next((text for limit, text in SIZES if total < limit), "n>10M")],
        **front,
    }
    yaml = "\n".join(f"{key}: {json.dumps(value)}" for key, value in keys.items())  # JSON is YAML, and has no surprises with names
    return f"""---
{yaml}
---
# {plain_text(name)}

{head}

## Files
{files}

{table}
{provenance(folder, stages)}
## Known limits
{limits}
""".encode("utf-8", "replace")


def provenance(folder: StageFolder, stages: list[StageFolder]) -> str:
    """The sections of a card that tell the models with their licences, the command, and every stage of a lineage."""
    command = folder.spec.settings.get("command")
    how = f"```\n{_fenced(command)}\n```" if command else "Not recorded: the stages below say everything that the pictures depend on."
    return f"""## Models and their licences
{chr(10).join(_models(stages)) or "None: the pictures come from elsewhere."}

## How they were made
{how}

{chr(10).join(_stage(s) for s in stages)}"""


def lineage(folder: StageFolder) -> Iterator[StageFolder]:
    """The stages that led to a stage, each once, upstreams first, the stage itself last."""
    seen: set[str] = set()

    def visit(stage: StageFolder) -> Iterator[StageFolder]:
        if stage.spec.fingerprint in seen:
            return
        seen.add(stage.spec.fingerprint)
        for role in sorted(stage.spec.upstream):
            for up in stage.upstream(role):
                yield from visit(up)
        yield stage

    yield from visit(folder)


def dataset_name(stages: list[StageFolder]) -> str:
    """What the dataset is called in the first config that has one; else the folder that holds the stages."""
    for stage in stages:
        if name := (stage.spec.config.get("dataset") or {}).get("name"):
            return name
    return stages[-1].path.parent.name


@dataclass(frozen=True)
class Model:
    """A model of a stage. part: what it made; licence: "" where the model's config file told none; contents: role -> identity."""

    name: str
    part: str
    licence: str
    contents: Mapping[str, str]


def models_of(stage: StageFolder) -> Iterator[Model]:
    """The models that a stage says it is made with."""
    contents = {role: i.identity for role, i in sorted(stage.spec.inputs.items())}
    for key, part in MODELS:
        for name in _called(stage, key):
            yield Model(name, part, stage.spec.settings.get("licence") or "", contents)


def _models(stages: list[StageFolder]) -> Iterator[str]:
    """A line a model, with its identity and, where the model's config file told it, its licence."""
    lines: dict[str, None] = {}
    for model in (model for stage in stages for model in models_of(stage)):
        licence = model.licence or "not recorded; see the page of the model"
        contents = ", ".join(f"{role} {identity[:12]}" for role, identity in model.contents.items())
        lines[
            f"- {plain_text(model.name)} ({model.part}). Licence: {plain_text(licence)}."
            + (f" Contents: {plain_text(contents)}." if contents else "")
        ] = None
    yield from lines


def _called(stage: StageFolder, key: str) -> list[str]:
    """What the models of a key are called: by their id, or that of the server that has them, or by their class where a folder is read."""
    models = stage.spec.config.get(key)
    found = [m for m in (models if isinstance(models, (list, tuple)) else [models]) if isinstance(m, Mapping)]
    reads = bool(stage.spec.inputs.keys() - {"source"})
    names = [(m.get("server") or {}).get("id") or m.get("id", m.get("kind") if reads else None) for m in found]
    return [str(name) for name in names if name is not None]


def _stage(stage: StageFolder) -> str:
    spec = stage.spec
    config = {k: v for k, v in spec.config.items() if k != "out"}
    if classes := (config.get("dataset") or {}).get("classes"):
        config["dataset"] = {**config["dataset"], "classes": f"{len(classes)} of them, see classes.json"}
    body = {
        "stage": spec.kind,
        "fingerprint": None if "out" in spec.config else spec.fingerprint,  # an export's tells the place, and no picture depends on that
        "slots": spec.slots,
        "settings": config,
        "numerics": dict(spec.numerics),
        "inputs": {role: i.identity for role, i in spec.inputs.items()},
        "versions": dict(spec.versions),
    }
    text = json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False)
    return f"<details><summary>{plain_text(spec.name)}</summary>\n\n```json\n{_fenced(text)}\n```\n</details>\n"


def _fenced(text: str) -> str:
    """Text that cannot end the code block it stands in."""
    return text.replace("```", "`\u200b``")


def plain_text(text: str) -> str:
    """A name in running Markdown or in a table: on one line, and neither markup nor HTML."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split()) or "(no name)"
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join("\\" + c if c in "\\`*_[]|#~" else c for c in plain)
