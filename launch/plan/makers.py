"""What a prompt maker is planned with: its sample config, its input files, and how many captions it can make of a class.

Tables and files of the user's are read and judged here, before a job waits for a GPU in vain. What fake_it and fake_definition
say of each class is looked up here and kept in stage.json: so neither the workers nor a later run need WordNet, and two machines
that differ in it cannot disagree about a stage.
"""

import glob
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import synth.captions
from launch.config.near import did_you_mean
from launch.config.root import Config
from launch.plan.datasets import list_path, official, other_names
from launch.plan.inputs import input_file, read_json, seen, text_of
from synth import foreign
from synth.captions.checks import reject_reason, unusable
from synth.captions.config import CaptionsConfig, ClassEntry, DatasetConfig, PromptsConfig
from synth.captions.normalise import composed, normalised
from synth.captions.prompts import MAKERS, WITHOUT_MODEL, Sources, make, nth
from synth.captions.prompts.own_forms import SUFFIXES, SYNCLR
from synth.captions.words import names_class
from synth.errors import InputError
from synth.keys import WrongKey, one_of
from synth.store import trees
from synth.store.spec import InputFile

TABLES = Path(synth.captions.__file__).parent / "tables"
HYPERNYMS, PLACES = TABLES / "hypernyms.json", TABLES / "places.json"
# mode -> an example's second key; the same as in synth.captions.prompts.modes, which needs numpy
SECOND = {"class_background": "background", "class_relation": "relation"}
MODES = ("class", *SECOND, "texture")
BALANCES = {"hirpg": ("exact",), "from_file": ("file", "exact")}  # of the other makers: exact, random


@dataclass(frozen=True)
class Maker:
    """`capacity`: different captions of a class; None: as many as are asked for. `slots`, `total`: of captions that are there
    already: slots that hold them all, and different ones that pass the checks."""

    config: PromptsConfig
    inputs: Mapping[str, InputFile] = field(default_factory=dict)
    capacity: int | None = None
    slots: int | None = None
    total: int | None = None
    remarks: tuple[str, ...] = ()  # what the plan says of its files

    @property
    def asks(self) -> bool:
        """Whether its captions are asked of a model."""
        return self.config.maker not in WITHOUT_MODEL


def maker_of(config: Config, dataset: DatasetConfig) -> Maker:
    """The maker of a config; whatever is wrong with its keys or files is an InputError that names the key."""
    prompts = config.prompts
    if prompts.maker not in MAKERS:
        raise WrongKey("maker", prompts.maker, f"no such maker; there are {', '.join(sorted(MAKERS))}", group="prompts")
    balances = BALANCES.get(prompts.maker, ("exact", "random"))
    if prompts.class_balance not in balances:
        raise WrongKey(
            "class_balance", prompts.class_balance, f"must be {' or '.join(balances)} for prompts={prompts.maker}", group="prompts"
        )
    return _PLANS[prompts.maker](config, dataset)


def table_input(config: Config, role: str) -> dict[str, InputFile]:
    """The in-context examples or the places of the run: the user's file, else the dataset's."""
    key, path = _table(config, role)
    return {} if path is None else {role: input_file(path, key, f"the JSON file of {role}")}


def _table(config: Config, role: str) -> tuple[str, str | None]:
    """(key, path) of a table."""
    own = getattr(config.prompts, f"{role}_file")
    return (f"prompts.{role}_file", own) if own is not None else (f"dataset.{role}", getattr(config.dataset, role))


def _tables(config: Config, dataset: DatasetConfig, modes: Iterable[str], *more: str) -> dict[str, InputFile]:
    """The examples, and the places where asked for; what is wrong in the files is told here."""
    tables: dict[str, InputFile] = {}
    for role in ("examples", *more):
        given = table_input(config, role)
        if not given:
            raise InputError(f"prompts.{role}_file: not set, and dataset {config.dataset.name} has none; name a JSON file of {role}")
        tables |= given
    keys = {role: _table(config, role)[0] for role in tables}
    check_examples(tables["examples"].path, keys["examples"], modes, config.prompts.shots)
    if "backgrounds" in tables:
        check_backgrounds(tables["backgrounds"].path, keys["backgrounds"], dataset)
    return tables


def _synclr(config: Config, dataset: DatasetConfig, places: bool = True) -> Maker:
    prompts = config.prompts
    modes = modes_of(dataset, prompts.modes)
    group = prompts.group_size if prompts.examples_per == "group" else 1
    tables = ("backgrounds",) if places and "class_background" in modes else ()
    return Maker(
        replace(prompts.only("class_balance", "modes", "shots"), group=group),
        _tables(config, dataset, modes, *tables),
    )


def _synclr_chat(config: Config, dataset: DatasetConfig) -> Maker:
    synclr = _synclr(config, dataset, places=config.prompts.backgrounds_file is None)
    return Maker(synclr.config, {"examples": synclr.inputs["examples"]})


def _synthclip(config: Config, dataset: DatasetConfig) -> Maker:
    read = config.prompts.only("class_balance", "shots", "max_words")
    return Maker(read, _tables(config, dataset, modes_of(dataset, {"class": 1.0})))


def _hirpg(config: Config, dataset: DatasetConfig) -> Maker:
    p = config.prompts
    most = p.num_metaprompts * (1 + p.num_prompts_per_metaprompt)
    if not p.num_metaprompts <= p.max_prompts <= most:
        allowed = f"num_metaprompts={p.num_metaprompts} to num_metaprompts * (1 + num_prompts_per_metaprompt) = {most}"
        raise WrongKey("max_prompts", p.max_prompts, f"must be from {allowed}", group="prompts")
    return Maker(p.only("form", "max_prompts"), capacity=p.max_prompts)


def _class_name(config: Config, dataset: DatasetConfig) -> Maker:
    prompts = config.prompts
    lines: Iterable[str] = prompts.templates
    if prompts.templates_file is not None:
        lines = text_of("", prompts.templates_file, "prompts.templates").split("\n")
    templates = tuple(dict.fromkeys(" ".join(composed(t).split()) for t in lines if t.strip()))
    read = replace(prompts.only("class_balance"), templates=templates)
    _try(read, dataset, {})
    return Maker(read, capacity=len(templates))


def _fake_it(config: Config, dataset: DatasetConfig) -> Maker:
    prompts = config.prompts
    read = replace(prompts.only("class_balance"), senses=hypernyms(dataset, prompts.hypernyms_file, prompts.source))
    places = input_file(prompts.places_file or str(PLACES), "prompts.places_file", "a JSON list of places")
    if prompts.places_file is not None:
        check_places(places.path, "prompts.places_file")
    return Maker(read, {"places": places}, capacity=_try(read, dataset, {"places": places.path}).capacity)


def _fake_definition(config: Config, dataset: DatasetConfig) -> Maker:
    prompts = config.prompts
    return Maker(replace(prompts.only("class_balance"), senses=definitions(dataset, prompts.definitions_file)), capacity=1)


def _from_file(config: Config, dataset: DatasetConfig) -> Maker:
    prompts = config.prompts
    files = caption_files(prompts.file)
    inputs = {nth("captions", n): file for n, file in enumerate(files)}
    some = len(dataset.classes) < dataset.n_classes
    names = tuple(entry.name for entry in official(list_path(config.dataset))) if some else ()
    if prompts.prompts_key is not None:
        one_of("prompts_key", prompts.prompts_key, SYNCLR)
    read = replace(prompts.only("class_balance", "check", "prompts_key", "on_bad"), official=names, also=other_names(config.dataset))
    own = _captions_in(inputs, dataset, replace(config.captions, prompts=read))
    if not own.total:
        why = "none of its captions passes the checks; prompts.check=false takes them as they are"
        raise WrongKey("file", prompts.file, why, group="prompts")
    lacking = [entry.name for entry in dataset.classes if entry.index not in own.covered]
    if lacking and not config.captions.allow_short:
        few = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if lacking[5:] else "")
        fix = "captions.allow_short=true takes them as they are; dataset.classes=[..] names the classes that are wanted"
        passed, checked = (" that pass the checks", "; prompts.check=false takes them unchecked") if prompts.check else ("", "")
        why = f"holds captions{passed} of {len(own.covered)} of the {len(dataset.classes)} classes; none of {few}{checked}"
        raise WrongKey("file", prompts.file, why, fix, group="prompts")
    read = replace(read, content=own.content, also=own.also)
    return Maker(read, inputs, slots=own.slots, total=own.total, remarks=own.remarks)


def caption_files(given: object) -> list[InputFile]:
    """The files that prompts.file names, in order: a file, a list of files, a folder of them, or a pattern."""
    what = f"a file of captions ({', '.join(SUFFIXES)}), a list of them, a folder or a pattern"
    if given is None or given in ("", [], ()):
        raise InputError(f"prompts.file: not set; it must name {what}: prompts.file=/path")
    paths: dict[str, None] = {}
    for one in given if isinstance(given, (list, tuple)) else [given]:
        paths |= dict.fromkeys(_files_of(str(one), what))
    return [input_file(path, "prompts.file", what) for path in paths]


def _files_of(given: str, what: str) -> list[str]:
    path = Path(given).expanduser()
    if path.is_dir():
        found = [str(path / e.name) for e in trees.entries(path, "prompts.file") if e.is_file() and e.name.endswith(SUFFIXES)]
        if not found:
            raise InputError(f"prompts.file: {path} holds no file of captions ({', '.join(SUFFIXES)})")
        return found
    if any(c in given for c in "*?[") and not path.exists():
        found = sorted(glob.glob(str(path)))
        if not found:
            raise InputError(f"prompts.file: {path} matches no file; it must name {what}")
        return found
    return [str(path)]


@dataclass(frozen=True)
class _Own:
    """Of files of captions: `content` and `also` of synth.captions.prompts.own.OwnFile; the slots that hold all captions, how many
    different ones pass the checks, and the indices of their classes."""

    content: str
    also: Mapping[str, int]
    remarks: tuple[str, ...]
    slots: int
    total: int
    covered: frozenset[int]


_files: dict[tuple, _Own] = {}  # a plan asks for files several times


def _captions_in(inputs: Mapping[str, InputFile], dataset: DatasetConfig, limits: CaptionsConfig) -> _Own:
    key = (repr(inputs), repr(dataset), repr(limits))
    if key not in _files:
        maker = _try(limits.prompts, dataset, {role: file.path for role, file in inputs.items()})
        different: set[str] = set()
        covered: set[int] = set()
        for row in maker.rows:
            text = " ".join(maker.text(row).split())
            if not (reject_reason(text, row.classes[0].said, limits) if limits.prompts.check else unusable(text)):
                different.add(normalised(text))
                covered.update(entry.index for entry in row.classes)
        own = maker.own
        _files[key] = _Own(own.content, own.also, own.remarks, maker.n_slots, len(different), frozenset(covered))
    return _files[key]


def _try(prompts: PromptsConfig, dataset: DatasetConfig, paths: Mapping[str, str]) -> Any:
    """The maker itself, with what only its own class has: what is wrong with its lists is told before anything is submitted."""

    def table(role: str) -> Any:
        return read_json(paths[role], role, "JSON")

    return make(dataset, prompts, Sources(table, paths.__getitem__, count=lambda role: len(paths)))


_PLANS: Mapping[str, Callable[[Config, DatasetConfig], Maker]] = {
    "synclr": _synclr,
    "synclr_chat": _synclr_chat,
    "synthclip": _synthclip,
    "hirpg": _hirpg,
    "class_name": _class_name,
    "fake_it": _fake_it,
    "fake_definition": _fake_definition,
    "from_file": _from_file,
}


# -- tables -------------------------------------------------------------------------------------------------------------


def modes_of(dataset: DatasetConfig, shares: Mapping[str, float]) -> tuple[str, ...]:
    """The modes that prompts will have; shares that cannot be are an InputError."""
    if not shares or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 0.01:
        raise InputError(f"prompts.modes={dict(shares)}: shares must be 0 or more and sum to 1")
    if dataset.kind == "texture":
        return ("texture",)
    if not set(shares) <= set(MODES):
        raise InputError(f"prompts.modes={dict(shares)}: shares of {', '.join(MODES)}")
    return tuple(mode for mode, share in shares.items() if share > 0)


def check_examples(path: str, key: str, modes: Iterable[str], shots: int) -> None:
    """{mode: [{"class", "caption", and "background" or "relation" in these modes}]}, `shots` of each mode at least."""
    table = _object(path, key, '{"class": [{"class": "cat", "caption": "A cat sleeps."}]}')
    for mode in modes:
        examples = table.get(mode)
        if not isinstance(examples, list) or len(examples) < max(shots, 1):
            n = len(examples) if isinstance(examples, list) else 0
            raise InputError(f"{key}: {path}: mode {mode!r} has {n} examples; prompts show {shots} different ones: write as many at least")
        for i, example in enumerate(examples):
            _check_example(f"{key}: {path}: {mode}[{i}]", example, mode)


def check_backgrounds(path: str, key: str, dataset: DatasetConfig, fallback: bool = True) -> Mapping[str, list[str]]:
    """{class, super-class or "*": [place]}, checked. fallback: each class of the dataset must find a list."""
    table = _object(path, key, '{"cat": ["sofa", "garden wall"], "*": ["street"]}')
    for name, places in table.items():
        if not isinstance(places, list) or not places:
            raise InputError(f"{key}: {path}: {seen(name)} has {seen(places)}; write a list of places, one at least")
        for i, place in enumerate(places):
            _check_text(f"{key}: {path}: place {i} of {seen(name)}", place)
    for entry in dataset.classes if fallback else ():
        if not any(where in table for where in (entry.name, entry.superclass, "*")):
            kind = f", its super-class {entry.superclass!r}" if entry.superclass else ""
            raise InputError(f'{key}: {path}: no places for class {entry.name!r}{kind} or for "*"; add one of them')
    return table


def check_places(path: str, key: str) -> None:
    """[place], one at least."""
    places = read_json(path, key, 'a list of texts such as ["castle courtyard", "barn"]')
    if not isinstance(places, list) or not places:
        raise InputError(
            f'{key}: {path} holds {seen(places)}; it must be a list of texts such as ["castle courtyard", "barn"], one at least'
        )
    for i, place in enumerate(places):
        _check_text(f"{key}: {path}: place {i}", place)


def _check_example(where: str, example: object, mode: str) -> None:
    wanted = ["class", "caption", *([SECOND[mode]] if mode in SECOND else [])]
    if not isinstance(example, Mapping) or not set(wanted) <= set(example):
        raise InputError(f"{where} is {seen(example)}; it needs the texts {', '.join(wanted)}")
    for name in wanted:
        _check_text(f"{where}.{name}", example[name])
    if not names_class(example["caption"], example["class"]):
        caption, name = seen(example["caption"]), seen(example["class"])
        raise InputError(f"{where}: the caption {caption} does not name {name}; models copy what examples do")


def _check_text(where: str, text: object) -> None:
    if not isinstance(text, str) or not text.strip() or not text.isprintable() or "=>" in text:
        raise InputError(f"{where} is {seen(text)}; it must be a text of one line, not empty, without =>")


def _object(path: str, key: str, form: str) -> Mapping:
    data = read_json(path, key, f"an object such as {form}")
    if not isinstance(data, dict):
        raise InputError(f"{key}: {path} holds {seen(data)}; it must be an object such as {form}")
    return {composed(name): value for name, value in data.items()}


# -- words of classes ----------------------------------------------------------------------------------------------------


def hypernyms(dataset: DatasetConfig, file: str | None, source: str) -> dict[str, str]:
    """Official index -> hypernym: of the user's file, else of WordNet, else of our table, else the super-class.

    `source`: auto (WordNet where its data is) | wordnet (InputError without it) | table (never WordNet).
    """
    own = _by_name(file, "prompts.hypernyms_file", dataset)
    table = _by_name(str(HYPERNYMS), "hypernyms.json")
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
    senses = {str(c.index): " ".join(composed(of(c)).split()) for c in dataset.classes}
    lacking = [c.name for c in dataset.classes if not senses[str(c.index)]]
    if lacking:
        names = ", ".join(repr(n) for n in lacking[:5]) + (f" and {len(lacking) - 5} more" if lacking[5:] else "")
        raise InputError(f"{key}: no {what} is known for {names}; write them into a JSON file {{class: {what}}} and set {key}=FILE")
    return senses


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
    data = read_json(path, key, "a JSON object {class: text}")
    if not foreign.fits(data, {str: str}):
        raise InputError(f"{key}: {path} must be a JSON object {{class: text}}")
    data = {composed(name): text for name, text in data.items()}
    known = {c.name for c in dataset.classes} if dataset else set(data)
    if dataset and len(known) == dataset.n_classes and (unknown := sorted(set(data) - known)):
        raise InputError(f"{key}: {path} names {unknown[0]!r}, no class of {dataset.name}{did_you_mean(unknown[0], known)}")
    return data
