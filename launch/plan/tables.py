"""Tables of prompts (in-context examples, places): read and judged at plan time, before a job waits for a GPU in vain."""

from collections.abc import Iterable, Mapping

from launch.plan.inputs import read_json
from synth.captions.checks import names_class
from synth.captions.config import DatasetConfig
from synth.errors import InputError

# mode -> an example's second key; the same as in synth.captions.prompts.modes, which needs numpy
SECOND = {"class_background": "background", "class_relation": "relation"}
MODES = ("class", *SECOND, "texture")


def modes_of(dataset: DatasetConfig, shares: Mapping[str, float]) -> tuple[str, ...]:
    """The modes that prompts will have; shares that cannot be are an InputError."""
    if dataset.kind == "texture":
        return ("texture",)
    if not set(shares) <= set(MODES) or not sum(shares.values()) > 0 or min(shares.values()) < 0:
        raise InputError(f"prompts.modes={dict(shares)}: shares of {', '.join(MODES)}, none negative, not all zero")
    return tuple(mode for mode, share in shares.items() if share > 0)


def check_examples(path: str, key: str, modes: Iterable[str], shots: int) -> None:
    """{mode: [{"class", "caption", and "background" or "relation" in these modes}]}, `shots` of each mode at least."""
    table = _read(path, key, '{"class": [{"class": "cat", "caption": "A cat sleeps."}]}')
    for mode in modes:
        found = table.get(mode)
        if not isinstance(found, list) or len(found) < max(shots, 1):
            n = len(found) if isinstance(found, list) else 0
            raise InputError(f"{key}: {path}: mode {mode!r} has {n} examples; prompts show {shots} different ones: write as many at least")
        for i, example in enumerate(found):
            _check_example(f"{key}: {path}: {mode}[{i}]", example, mode)


def check_backgrounds(path: str, key: str, dataset: DatasetConfig) -> None:
    """{class, super-class or "*": [place]}; each class of the dataset finds a list."""
    table = _read(path, key, '{"cat": ["sofa", "garden wall"], "*": ["street"]}')
    for name, places in table.items():
        if not isinstance(places, list) or not places:
            raise InputError(f"{key}: {path}: {_seen(name)} has {_seen(places)}; write a list of places, one at least")
        for i, place in enumerate(places):
            _check_text(f"{key}: {path}: place {i} of {_seen(name)}", place)
    for entry in dataset.classes:
        if not any(where in table for where in (entry.name, entry.superclass, "*")):
            kind = f", its super-class {entry.superclass!r}" if entry.superclass else ""
            raise InputError(f'{key}: {path}: no places for class {entry.name!r}{kind} or for "*"; add one of them')


def check_places(path: str, key: str) -> None:
    """[place], one at least."""
    places = read_json(path, key, 'a list of texts such as ["castle courtyard", "barn"]')
    if not isinstance(places, list) or not places:
        raise InputError(
            f'{key}: {path} holds {_seen(places)}; it must be a list of texts such as ["castle courtyard", "barn"], one at least'
        )
    for i, place in enumerate(places):
        _check_text(f"{key}: {path}: place {i}", place)


def _check_example(where: str, example: object, mode: str) -> None:
    wanted = ["class", "caption", *([SECOND[mode]] if mode in SECOND else [])]
    if not isinstance(example, Mapping) or not set(wanted) <= set(example):
        raise InputError(f"{where} is {_seen(example)}; it needs the texts {', '.join(wanted)}")
    for name in wanted:
        _check_text(f"{where}.{name}", example[name])
    if not names_class(example["caption"], example["class"]):
        caption, name = _seen(example["caption"]), _seen(example["class"])
        raise InputError(f"{where}: the caption {caption} does not name {name}; models copy what examples do")


def _check_text(where: str, text: object) -> None:
    if not isinstance(text, str) or not text.strip() or not text.isprintable() or "=>" in text:
        raise InputError(f"{where} is {_seen(text)}; it must be a text of one line, not empty, without =>")


def _read(path: str, key: str, form: str) -> Mapping:
    data = read_json(path, key, f"an object such as {form}")
    if not isinstance(data, dict):
        raise InputError(f"{key}: {path} holds {_seen(data)}; it must be an object such as {form}")
    return data


def _seen(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
