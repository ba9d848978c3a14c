"""Judges the command line before hydra.main sees it: every key, every group option, every type.

Hydra says that a key does not exist, not which one was meant, and says it for the first point of a sweep only.
"""

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from launch.config.aliases import KEYS, as_typed_key, option_named, spelt
from launch.config.clusters import wanted_time
from launch.config.compose import Composer
from launch.config.doors import check_flags, check_setting
from launch.config.inherited import OPTIONS
from launch.config.near import did_you_mean, inner
from launch.config.remembered import Frozen
from launch.config.root import LISTS
from launch.config.secrets import check_line
from launch.config.times import check_time, holds_time, typed_time
from synth.errors import InputError

_EXPECTED = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
}


@dataclass(frozen=True)
class CommandLine:
    """What the user asked of Hydra."""

    args: argparse.Namespace
    argv: tuple[str, ...]  # flags first: Hydra's own parser takes no flag between two settings
    overrides: tuple[Override, ...]

    @property
    def multirun(self) -> bool:
        return bool(self.args.multirun)


def check(argv: list[str]) -> CommandLine:
    """The command line, judged. The first wrong thing is an InputError that names it and the way out."""
    args, rest = get_args_parser().parse_known_args(argv)
    check_flags(args)
    unknown = [r for r in rest if r.startswith("-")]
    if unknown:
        raise InputError(f"{unknown[0]}: no such option; see --help. Settings are written key=value, without dashes")
    words = [*args.overrides, *rest]
    plain = [w for w in words if "=" not in w and not w.startswith("~")]
    if plain:
        raise InputError(f"{plain[0]}: not a setting; settings are written key=value, see --help")
    composer = Composer(args.config_dir, args.config_name)
    flags = [a for a in argv if a not in words]
    words = [spelt(word) for word in words]
    parsed = composer.parse(words)
    check_line(parsed, words)
    for override in filter(_hydras_own, parsed):
        one = not override.is_delete() and not override.is_sweep_override()
        check_setting(override.key_or_group, override.input_line or "", _unquoted(override.value()) if one else ...)
    only_told = args.info or args.hydra_help or args.shell_completion
    words = words if only_told else _named(words, composer)
    overrides = composer.parse(words)
    line = CommandLine(args, (*flags, *words), tuple(overrides))
    if not only_told:
        groups = composer.groups()
        chosen = [o for o in overrides if o.key_or_group in groups]
        for override in chosen:
            _check_sweep(override, line.multirun, [])
        values = [o for o in overrides if o.key_or_group not in groups and not _hydras_own(o)]
        for choice in itertools.product(*(list(_texts(o)) for o in chosen)):
            tree = composer.compose(list(choice))
            composed: Any = OmegaConf.to_container(tree)
            known = [*inner(composed), *(g for g in groups if g not in tree)]
            _check_times(tree)
            frozen = Frozen(tree)
            for override in values:
                _check_key(override, tree, known, composer)
                _check_sweep(override, line.multirun, known)
                _check_type(override, tree, frozen)
    return line


def _check_sweep(override: Override, multirun: bool, known: list[str]) -> None:
    if override.is_sweep_override() and not multirun:
        key = override.key_or_group
        twin = f", or given in a file: {key}_file=PATH" if f"{key}_file" in known else ""
        raise InputError(f"{override.input_line}: several values are a sweep: add -m. A text with commas is quoted: \"{key}='a, b'\"{twin}")


def _hydras_own(override: Override) -> bool:
    return override.key_or_group == "hydra" or override.key_or_group.startswith(("hydra.", "hydra/"))


def _texts(override: Override) -> Iterator[str]:
    """The override once for each value of its sweep."""
    if override.is_sweep_override():
        head = override.get_key_element()
        yield from (f"{head}={value}" for value in override.sweep_string_iterator())
    else:
        yield override.input_line or ""


def _named(words: list[str], composer: Composer) -> list[str]:
    """The words of the command line with each option of a group under its own name. InputError for one that there is not."""
    groups = composer.groups()
    return [_renamed(word, override, groups, composer) for word, override in zip(words, composer.parse(words), strict=True)]


def _renamed(word: str, override: Override, groups: dict[str, list[str]], composer: Composer) -> str:
    group = override.key_or_group
    if group not in groups or override.type is OverrideType.DEL:
        return word
    values = [composer.parse([text])[0].value() for text in _texts(override)]
    if None in values:
        raise InputError(f"{word}: {group} is one of {', '.join(groups[group])}, and never null")
    chosen = [v if isinstance(v, list) else [v] for v in values]
    meant = {str(o): option_named(group, str(o), groups[group]) for options in chosen for o in options if o is not None}
    if all(name == own for name, own in meant.items()):
        return word
    written = ["[" + ",".join(meant[str(o)] for o in v) + "]" if isinstance(v, list) else meant[str(v)] for v in values]
    return f"{override.get_key_element()}={','.join(written)}"


def _check_key(override: Override, tree: DictConfig, known: list[str], composer: Composer) -> None:
    key = override.key_or_group
    if key in known and override.package is None:
        return
    parent = key.rpartition(".")[0]
    while parent and parent not in known:
        parent = parent.rpartition(".")[0]
    node = OmegaConf.select(tree, parent) if parent else tree
    open_node = isinstance(node, DictConfig) and parent and OmegaConf.get_type(node) is dict
    if open_node and (override.is_add() or override.is_force_add()) and parent not in LISTS:
        return
    hint = f"; it is called {KEYS[key]}" if key in KEYS else _of_sbatch(key, known) or _of_others(key, composer) or did_you_mean(key, known)
    if parent in LISTS:
        name = key.split(".")[1]
        hint = f"; the {parent}s of this run are {', '.join(tree[parent]) or 'none'}: choose with {parent}=[{name},..]"
    elif open_node:
        hint += f"; a new entry of {parent} is written +{key}=..."
    raise InputError(f"{key}: no such key{hint}")


def _of_sbatch(key: str, known: list[str]) -> str:
    """What to say of cluster.reservation: an option of sbatch that has no key; "" of anything else."""
    parent, _, name = key.rpartition(".")
    extra, option = f"{parent}.extra", name.replace("_", "-")
    if parent.split(".")[0] != "cluster" or option not in OPTIONS:
        return ""
    return f"; an option of sbatch that has no key is written +{extra}.{option}=...{'' if extra in known else ', with cluster=slurm'}"


def _of_others(key: str, composer: Composer) -> str:
    """What to say of cluster.partition without cluster=slurm: which options of its group have such a key; "" if none."""
    group = key.partition(".")[0]
    options = composer.options(group) if "." in key and group not in LISTS else []
    having = [option for option in options if _has(composer, f"{group}={option}", key)]
    return f"; it is a key of {group}={' or '.join(having)}: choose that, too" if having else ""


def _has(composer: Composer, choice: str, key: str) -> bool:
    try:
        composed: Any = OmegaConf.to_container(composer.compose([choice]))
    except InputError:  # an option that cannot stand alone
        return False
    return key in inner(composed)


def _check_type(override: Override, tree: DictConfig, frozen: Frozen) -> None:
    """InputError for a value that the schema does not take. frozen: the tree, of which each value is set into a copy."""
    key = override.key_or_group
    if override.type is OverrideType.DEL:
        parent = key.rpartition(".")[0]
        if not parent or OmegaConf.get_type(OmegaConf.select(tree, parent)) is not dict:
            raise InputError(f"~{key}: this key is always there; set it to null or to another value")
        return
    values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    for value in values:
        value = _unquoted(value)
        if holds_time(key):
            typed_time(key, value)
        if key == "cluster.n_jobs":
            wanted_time(value)
        copy = frozen.thawed()
        try:
            OmegaConf.update(copy, key, value, merge=True, force_add=override.is_add() or override.is_force_add())
        except OmegaConfBaseException as e:
            if isinstance(e, (ConfigKeyError, ConfigAttributeError)):
                raise InputError(
                    f"{key}={_shown(value)}: {str(e).splitlines()[0]}; a new entry of a mapping is written +{key}.NAME=VALUE"
                ) from e
            raise InputError(
                f"{as_typed_key(key)}={_shown(value)}: must be {_expected(tree, key, e)}, got {_shown(value)} ({type(value).__name__})"
            ) from e


def _expected(tree: DictConfig, key: str, error: OmegaConfBaseException) -> str:
    """In words, what the schema says of a key."""
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(tree, parent) if parent else tree
    raw = node._get_node(last) if isinstance(node, DictConfig) else None
    wanted = raw._metadata.ref_type if raw is not None else None
    optional = " or null" if raw is not None and raw._metadata.optional else ""
    if isinstance(raw, ListConfig):
        items = _EXPECTED.get(raw._metadata.element_type, "a item").partition(" ")[2]
        return f"a list of {items}s, written [a,b]{optional}"
    if isinstance(raw, DictConfig):
        return "a mapping, written {a:1,b:2}"
    if wanted in _EXPECTED:
        return _EXPECTED[wanted] + optional
    return f"of another type ({str(error).splitlines()[0]})"


def _check_times(tree: DictConfig, prefix: str = "") -> None:
    """Times in YAML files: see launch.config.times."""
    items: Any = tree.items_ex(resolve=False)
    for key, value in items:
        if isinstance(value, DictConfig):
            _check_times(value, f"{prefix}{key}.")
        elif holds_time(f"{prefix}{key}"):
            check_time(f"{prefix}{key}", value)


def _unquoted(value: Any) -> Any:
    return getattr(value, "text", value)  # QuotedString


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else str(value)
