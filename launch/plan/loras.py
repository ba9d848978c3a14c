"""LoRAs by class at plan time: which file of a folder is of which class, and which of them the run trains itself."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.config.near import did_you_mean
from launch.plan.inputs import existing
from launch.plan.node import Node
from synth import foreign
from synth.captions.normalise import looked_up
from synth.errors import InputError, not_trouble
from synth.images.config import ALL_CLASSES, ClassLora, ModelConfig
from synth.images.loras import BY_CLASS, reads_texts
from synth.images.trained import ROLE
from synth.keys import WrongKey
from synth.lora.config import ALL
from synth.store.names import class_name, folder_names

SUFFIX = ".safetensors"
MISSING = ("error", "plain")
FORM = "write a folder, or {path: FOLDER, weight: 0.8, missing: error}"
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class ClassLoras:
    """files: official index -> LoRA; adapters: an entry for each class that is drawn; notes: what is left out."""

    files: Mapping[int, Path] = field(default_factory=dict)
    adapters: tuple[ClassLora, ...] = ()
    notes: tuple[str, ...] = ()


def class_loras(model: ModelConfig, classes: Mapping[int, str] | None) -> ClassLoras:
    """What model.lora_by_class names, nothing where it is null. classes: as of plan_model.

    WrongKey for a class without a file (unless it says missing: plain), two files of one class, and a folder without any.
    """
    if model.lora_by_class is None:
        return ClassLoras()
    path, weight, missing = _asked(model.lora_by_class)
    if not classes:
        why = "a stage of pictures that are not drawn by class" if classes is None else "the captions say of no class"
        raise WrongKey("lora_by_class", path, why, "use model.lora, which is for all pictures", "model")
    root = existing(path, BY_CLASS, "a folder of LoRA files, called by classes")
    files, others = _found(root, classes)
    lacking = [name for index, name in classes.items() if index not in files]
    if lacking and (missing == MISSING[0] or not files):
        near = did_you_mean(looked_up(lacking[0]), [looked_up(_stem(p, root)) for p in others])
        fix = f"add {lacking[0]}{SUFFIX}, or let the model alone draw such classes: missing: plain"
        raise WrongKey("lora_by_class", path, f"no file of {several(lacking, 'class')}{near}", fix, "model")
    adapters = tuple(ClassLora(index=i, name=n, weight=weight, file=i in files) for i, n in sorted(classes.items()))
    notes = [f"{BY_CLASS}: the model alone draws {several(lacking, 'class')}"] if lacking else []
    notes += [f"{BY_CLASS}: of no class of this run: {several([p.name for p in others], 'file')}"] if others else []
    return ClassLoras(files, adapters, tuple(notes))


def check_offload(loras: ClassLoras) -> None:
    """WrongKey for text encoders that rest on the host and are changed by a LoRA: they come back as they were."""
    for file in loras.files.values():
        if reads_texts(file):
            raise WrongKey("text_offload", True, f"{file} changes text encoders, which must stay on the device then", "use false", "model")


def trained(node: Node, classes: Mapping[int, str]) -> tuple[ClassLora, ...]:
    """The LoRAs that a stage of pictures of these classes draws with; () where none are trained."""
    if ROLE not in node.upstream:
        return ()
    stage, weight = node.one(ROLE), node.config.lora.weight
    there = {c["index"]: c["name"] for c in stage.config["classes"]}
    foreign_to = [name for index, name in classes.items() if there.get(index, name) != name]
    lacking = [name for index, name in classes.items() if index not in there]
    if foreign_to or (lacking and node.config.lora.missing != MISSING[1]):
        what = several(foreign_to or lacking, "class")
        fix = "draw classes of dataset=, or use lora.missing=plain"
        raise WrongKey("real", node.config.lora.real, f"the captions are of {what}, which no LoRA is trained for", fix, ROLE)
    if stage.config["scope"] == ALL:
        return (ClassLora(index=ALL_CLASSES, name="", weight=weight),)
    return tuple(ClassLora(index=i, name=n, weight=weight, file=i in there) for i, n in sorted(classes.items()))


def _asked(value: Any) -> tuple[str, float, str]:
    """(folder, weight, what to do about a missing class)"""
    entry = {"path": value} if isinstance(value, str) else value
    if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str) or not set(entry) <= {"path", "weight", "missing"}:
        raise InputError(f"{BY_CLASS}: {value!r} is no folder of LoRAs; {FORM}")
    weight, missing = entry.get("weight", 1.0), entry.get("missing", MISSING[0])
    if isinstance(weight, bool) or not isinstance(weight, (int, float)):
        raise InputError(f"{BY_CLASS}: weight {weight!r} is not a number; {FORM}")
    if missing not in MISSING:
        raise InputError(f"{BY_CLASS}: missing {missing!r}: use one of {', '.join(MISSING)}")
    return entry["path"], float(weight), missing


def _found(root: Path, classes: Mapping[int, str]) -> tuple[dict[int, Path], list[Path]]:
    """({official index: its file}, files of no class), in the order of their names."""
    by_name = forms_of(classes)
    files: dict[int, Path] = {}
    others = []
    for file in _files(root):
        stem = _stem(file, root)
        mine = called(stem, by_name, classes)
        if len(mine) > 1:
            why = f"{stem} is the name of classes {sorted(mine)}"
            raise WrongKey("lora_by_class", str(root), why, "call the file by the index of the class", "model")
        if not mine:
            others.append(file)
            continue
        (index,) = mine
        if index in files:
            why = f"{_stem(files[index], root)} and {stem} are both of class {index} ({classes[index]!r})"
            raise WrongKey("lora_by_class", str(root), why, "leave one of them", "model")
        files[index] = file
    return files, others


def forms_of(classes: Mapping[int, str]) -> dict[str, set[int]]:
    """What files may be called -> the classes that it may mean: names, and the folder names of exports."""
    names: dict[str, set[int]] = {}
    for forms in (classes, folder_names(classes)):
        for index, name in forms.items():
            names.setdefault(looked_up(name), set()).add(index)
    return names


def called(name: str, by_name: Mapping[str, set[int]], indices: Container[int]) -> set[int]:
    """The classes that a name may mean, by their `forms_of`, or else by their index."""
    named = [by_name[form] for form in map(looked_up, (name, class_name(name) or "")) if form in by_name]
    number = foreign.number_in(name)
    return named[0] if named else {number} if number is not None and number in indices else set()


def _files(root: Path) -> list[Path]:
    """The LoRA files of a folder: NAME.safetensors, or the one inside of the folder NAME."""
    try:
        entries = sorted(p for p in root.iterdir() if not p.name.startswith("."))
        inside = {p: sorted(p.glob(f"*{SUFFIX}")) for p in entries if p.is_dir()}
    except OSError as e:
        not_trouble(e.filename or root, e)
        raise InputError(f"{BY_CLASS}: {e.filename or root} cannot be read ({e.strerror}); it must be a folder of LoRA files") from e
    for folder, files in inside.items():
        if len(files) > 1:
            raise InputError(f"{BY_CLASS}: {folder} holds {len(files)} LoRA files ({files[0].name}, ..); leave one of them")
    return [f for p in entries for f in inside.get(p, [p] if p.suffix == SUFFIX else [])]


def _stem(file: Path, root: Path) -> str:
    """What a file is called by: its own name, or that of the folder around it."""
    return file.stem if file.parent == root else file.parent.name


def several(names: list[str], what: str) -> str:
    """ "2 classes ('a', 'b')", of many the first ones."""
    many = what if len(names) == 1 else f"{what}es" if what.endswith("s") else f"{what}s"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {many} ({', '.join(map(repr, names[:SHOWN]))}{more})"
