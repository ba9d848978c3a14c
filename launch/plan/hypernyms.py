"""What fake_it and fake_definition say of each class, looked up when the run is planned and kept in stage.json.

So neither the workers nor a later run need WordNet, and two machines that differ in it cannot disagree about a stage.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from launch.config.near import did_you_mean
from synth.captions.config import ClassEntry, DatasetConfig
from synth.errors import InputError

TABLE = Path(__file__).resolve().parents[2] / "synth" / "captions" / "tables" / "hypernyms.json"
SOURCES = ("auto", "wordnet", "table")


def hypernyms(dataset: DatasetConfig, file: str | None, source: str) -> dict[str, str]:
    """Official index -> hypernym: of the user's file, else of WordNet, else of our table, else the super-class.

    `source`: auto (WordNet where its data is) | wordnet (InputError without it) | table (never WordNet).
    """
    if source not in SOURCES:
        raise InputError(f"prompts.source={source}: must be {', '.join(SOURCES)}")
    own = _by_name(file, "prompts.hypernyms_file", dataset)
    table = _by_name(str(TABLE), "hypernyms.json")
    wordnet = _wordnet("hypernym", needed=source == "wordnet") if source != "table" else _nothing

    def of(entry: ClassEntry) -> str:
        ours = table.get(entry.name) or table.get(entry.superclass) or entry.superclass
        return own.get(entry.name) or wordnet(entry.said) or ours

    return _all(dataset, of, "hypernym", "prompts.hypernyms_file")


def definitions(dataset: DatasetConfig, file: str | None) -> dict[str, str]:
    """Official index -> definition: of the user's file, else of WordNet."""
    own = _by_name(file, "prompts.definitions_file", dataset)
    wordnet = _nothing if all(own.get(c.name) for c in dataset.classes) else _wordnet("definition", needed=not own)
    return _all(dataset, lambda c: own.get(c.name) or wordnet(c.said) or "", "definition", "prompts.definitions_file")


def _all(dataset: DatasetConfig, of: Callable[[ClassEntry], str], what: str, key: str) -> dict[str, str]:
    found = {str(c.index): " ".join(of(c).split()) for c in dataset.classes}
    lacking = [c.name for c in dataset.classes if not found[str(c.index)]]
    if lacking:
        names = ", ".join(repr(n) for n in lacking[:5]) + (f" and {len(lacking) - 5} more" if lacking[5:] else "")
        raise InputError(f"{key}: no {what} is known for {names}; write them into a JSON file {{class: {what}}} and set {key}=FILE")
    return found


def _wordnet(what: str, needed: bool) -> Callable[[str], str]:
    from synth.captions import wordnet

    try:
        return wordnet.lookup(what)
    except InputError:
        if needed:
            raise
        return _nothing


def _nothing(name: str) -> str:
    return ""


def _by_name(path: str | None, key: str, dataset: DatasetConfig | None = None) -> Mapping[str, str]:
    """{class or super-class: text} of a JSON file; a class that the dataset does not have is an InputError."""
    if path is None:
        return {}
    try:
        data = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise InputError(f"{key}: {path} cannot be read ({e}); it is a JSON object {{class: text}}") from e
    if not isinstance(data, dict) or not all(isinstance(v, str) for v in data.values()):
        raise InputError(f"{key}: {path} must be a JSON object {{class: text}}")
    known = {c.name for c in dataset.classes} if dataset else set(data)
    if dataset and len(known) == dataset.n_classes and (unknown := sorted(set(data) - known)):
        raise InputError(f"{key}: {path} names {unknown[0]!r}, no class of {dataset.name}{did_you_mean(unknown[0], known)}")
    return data
