"""What a prompt maker is planned with: its sample config, its input files, and how many captions it can make of a class."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from launch.config.schema import Config
from launch.plan.classes import list_path, official
from launch.plan.hypernyms import definitions, hypernyms
from launch.plan.inputs import input_file, text_of
from launch.plan.tables import check_backgrounds, check_examples, check_places, modes_of
from synth.captions.config import CaptionerConfig, CaptionsConfig, DatasetConfig, PromptsConfig
from synth.captions.prompts import MAKERS, WITHOUT_MODEL, Sources, make
from synth.errors import InputError
from synth.store.spec import InputFile

PLACES = Path(__file__).resolve().parents[2] / "synth/captions/tables/places.json"


@dataclass(frozen=True)
class Maker:
    """`capacity`: different captions of a class; None: as many as are asked for. `slots`, `total`: of captions that are there
    already: slots that hold them all, and different ones that pass the checks."""

    config: PromptsConfig
    inputs: Mapping[str, InputFile] = field(default_factory=dict)
    capacity: int | None = None
    slots: int | None = None
    total: int | None = None

    @property
    def asks(self) -> bool:
        """Whether its captions are asked of a model."""
        return self.config.maker not in WITHOUT_MODEL


def maker_of(config: Config, dataset: DatasetConfig) -> Maker:
    """The maker of a config; whatever is wrong with its keys or files is an InputError that names the key."""
    name = config.prompts.maker
    if name not in MAKERS:
        raise InputError(f"prompts.maker={name}: no such maker; there are {', '.join(sorted(MAKERS))}")
    balances = {"hirpg": ("exact",), "from_file": ("file", "exact")}.get(name, ("exact", "random"))
    if config.prompts.class_balance not in balances:
        raise InputError(f"prompts.class_balance={config.prompts.class_balance}: must be {' or '.join(balances)} for prompts={name}")
    return _PLANS[name](config, dataset)


def table_input(config: Config, role: str) -> dict[str, InputFile]:
    """The in-context examples or the places of the run: the user's file, else the dataset's."""
    own, dataset = getattr(config.prompts, f"{role}_file"), getattr(config.dataset, role)
    if own is None and dataset is None:
        return {}
    key = f"prompts.{role}_file" if own is not None else f"dataset.{role}"
    return {role: input_file(own if own is not None else dataset, key, f"the JSON file of {role}")}


def _needed(config: Config, *roles: str) -> dict[str, InputFile]:
    found = {}
    for role in roles:
        given = table_input(config, role)
        if not given:
            raise InputError(f"prompts.{role}_file: not set, and dataset {config.dataset.name} has none; name a JSON file of {role}")
        found |= given
    return found


def _tables(config: Config, dataset: DatasetConfig, modes: Iterable[str], *more: str) -> dict[str, InputFile]:
    """The examples, and the places where asked for; what is wrong in the files is told here."""
    found = _needed(config, "examples", *more)
    names = {r: f"prompts.{r}_file" if getattr(config.prompts, f"{r}_file") is not None else f"dataset.{r}" for r in found}
    check_examples(found["examples"].path, names["examples"], modes, config.prompts.shots)
    if "backgrounds" in found:
        check_backgrounds(found["backgrounds"].path, names["backgrounds"], dataset)
    return found


def _synclr(config: Config, dataset: DatasetConfig) -> Maker:
    p = config.prompts
    if p.examples_per not in ("caption", "group"):
        raise InputError(f"prompts.examples_per={p.examples_per}: must be caption or group")
    group = p.group_size if p.examples_per == "group" else 1
    made = PromptsConfig(p.maker, p.class_balance, dict(p.modes), p.shots, group)
    modes = modes_of(dataset, p.modes)
    places = ("backgrounds",) if "class_background" in modes else ()
    return Maker(made, _tables(config, dataset, modes, *places))


def _synclr_chat(config: Config, dataset: DatasetConfig) -> Maker:
    made = _synclr(config, dataset)
    return Maker(made.config, {"examples": made.inputs["examples"]})


def _synthclip(config: Config, dataset: DatasetConfig) -> Maker:
    p = config.prompts
    made = PromptsConfig(p.maker, p.class_balance, modes={}, shots=p.shots, max_words=p.max_words)
    return Maker(made, _tables(config, dataset, modes_of(dataset, {"class": 1.0})))


def _hirpg(config: Config, dataset: DatasetConfig) -> Maker:
    p = config.prompts
    if p.form not in ("static", "dynamic"):
        raise InputError(f"prompts.form={p.form}: must be static or dynamic")
    most = p.num_metaprompts * (1 + p.num_prompts_per_metaprompt)
    if not p.num_metaprompts <= p.max_prompts <= most:
        all_ = f"num_metaprompts * (1 + num_prompts_per_metaprompt) = {most}"
        raise InputError(f"prompts.max_prompts={p.max_prompts}: must be from num_metaprompts={p.num_metaprompts} to {all_}")
    made = PromptsConfig(p.maker, modes={}, shots=0, form=p.form, max_prompts=p.max_prompts)
    return Maker(made, capacity=p.max_prompts)


def _class_name(config: Config, dataset: DatasetConfig) -> Maker:
    p = config.prompts
    templates = list(p.templates)
    if p.templates_file is not None:
        templates = text_of("", p.templates_file, "prompts.templates").splitlines()
    templates = tuple(dict.fromkeys(" ".join(t.split()) for t in templates if t.strip()))
    made = PromptsConfig(p.maker, p.class_balance, modes={}, shots=0, templates=templates)
    _try(made, dataset, {})
    return Maker(made, capacity=len(templates))


def _fake_it(config: Config, dataset: DatasetConfig) -> Maker:
    p = config.prompts
    made = PromptsConfig(p.maker, p.class_balance, modes={}, shots=0, senses=hypernyms(dataset, p.hypernyms_file, p.source))
    places = input_file(p.places_file or str(PLACES), "prompts.places_file", "a JSON list of places")
    if p.places_file is not None:
        check_places(places.path, "prompts.places_file")
    return Maker(made, {"places": places}, capacity=_try(made, dataset, {"places": places.path}).capacity)


def _fake_definition(config: Config, dataset: DatasetConfig) -> Maker:
    p = config.prompts
    senses = definitions(dataset, p.definitions_file)
    return Maker(PromptsConfig(p.maker, p.class_balance, modes={}, shots=0, senses=senses), capacity=1)


def _from_file(config: Config, dataset: DatasetConfig) -> Maker:
    p, c = config.prompts, config.captions
    file = input_file(p.file, "prompts.file", "a file of captions (.txt, .csv, .tsv, .jsonl, .json)")
    some = len(dataset.classes) < dataset.n_classes
    names = tuple(entry.name for entry in official(list_path(config.dataset))) if some else ()
    made = PromptsConfig(p.maker, p.class_balance, modes={}, shots=0, official=names, check=p.check)
    limits = CaptionsConfig(0, DatasetConfig("", (), 0), made, CaptionerConfig(), 1, c.must_name_class, c.min_words, c.max_words)
    content, slots, total = _read(file.path, file.identity, dataset, limits)
    if not total:
        raise InputError(f"prompts.file={p.file}: none of its captions passes the checks; prompts.check=false takes them as they are")
    return Maker(replace(made, content=content), {"captions": file}, slots=slots, total=total)


_files: dict[tuple, tuple[str, int, int]] = {}  # a plan asks for a file several times


def _read(path: str, identity: str, dataset: DatasetConfig, limits: CaptionsConfig) -> tuple[str, int, int]:
    """Of a file: its sha256, the slots that hold all its captions, and how many different ones pass the checks."""
    from synth.captions.checks import reject_reason, unusable
    from synth.captions.normalise import normalised

    key = (path, identity, repr(dataset), repr(limits))
    if key not in _files:
        made = _try(limits.prompts, dataset, {"captions": path})
        found = set()
        for row in made.rows:
            text = " ".join(made.text(row).split())
            if not (reject_reason(text, row.classes[0].said, limits) if limits.prompts.check else unusable(text)):
                found.add(normalised(text))
        _files[key] = (made.content, made.n_slots, len(found))
    return _files[key]


def _try(made: PromptsConfig, dataset: DatasetConfig, paths: Mapping[str, str]):
    """The maker itself, made here: what is wrong with its lists is told before anything is submitted."""

    def table(role: str):
        try:
            return json.loads(Path(paths[role]).read_text(encoding="utf-8"))
        except (OSError, ValueError) as e:
            raise InputError(f"{paths[role]}: not JSON ({e})") from e

    return make(dataset, made, Sources(table, lambda role: paths[role]))


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
