"""Secrets in the config, which all may read: it goes into stage.json, scripts, cards and records. They are refused by name.

What is said of one never shows it. Secrets belong into the environment: captioner.api_key_env names the variable of a service's key,
pass_env those that a command gets.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override, QuotedString

from synth.errors import InputError
from synth.host.environment import secret_in
from synth.redaction import KINDS, SURE, is_secret

FIX = (
    "leave it in the environment: pass_env names the variables that a command is given; "
    "of engine openai: captioner.api_key_env names that of a service's key"
)
OF_NOTIFY = "keep it in a file that the command reads"  # which gets no secrets of the environment
HEADERS = frozenset(["headers", "extra_headers", "default_headers", "http_headers"])
VARIABLES = ("env",)  # mappings whose keys are names of variables
COMMANDS = ("command", "flags", "container_exec")  # lists of words
TEXTS = frozenset([("template", "token")])  # arguments of a chat template are text of a prompt
SHELL = ("setup",)  # lists of lines
# Ends of names: max_tokens, eos_token and tokenizer are none
_FIELD = re.compile(
    rf"({SURE}|CREDENTIALS|AUTHORIZATION|COOKIE|BEARER|JWT|({KINDS}|SECRET)_KEY"
    r"|(^|AUTH|ACCESS|API|HF|HUB|BEARER|SESSION|REFRESH|SECURITY|USER|ID)_?TOKEN|^AUTH)$"
)
_SETS = re.compile(r"""(?:^|[\s;&|("'])([A-Za-z_]\w*)=["']?([^\s"';&|]+)""")
_HEADER = re.compile(r"""([A-Za-z][\w-]*):\s+(?:(?:Bearer|Basic|Token)\s+)?([^\s"'])""", re.I)  # curl -H 'X-Api-Key: 12'
_VARIABLE = re.compile(r"[A-Za-z_]\w*")


def is_field(name: str) -> bool:
    """Whether a field holds a secret, by its name in any spelling.

    >>> [is_field(n) for n in ("api_key", "X-Api-Key", "accessToken", "Authorization", "max_tokens", "eos_token", "api_key_env")]
    [True, True, True, True, False, False, False]
    """
    return _FIELD.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).replace("-", "_").upper()) is not None


def check_config(config: Any) -> None:
    """InputError for the first secret in a config, or below it."""
    for where in _secrets("", config):
        raise InputError(f"{where}: holds a secret, which would be stored where others can read it; {_fix(where)}")


def check_line(overrides: Sequence[Override], words: Sequence[str]) -> None:
    """The same of a command line, which is stored too, before anything that is wrong with it is shown."""
    for override in overrides:
        key = override.key_or_group
        if "." not in key:  # a group, or a key of ours that holds no secret
            continue
        values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
        for where in (w for value in values for w in _field(key, key.rpartition(".")[2], key.rpartition(".")[0].rpartition(".")[2], value)):
            raise InputError(f"{where}: holds a secret, and the command line is stored where others can read it; {_fix(where)}")
    if name := secret_in(words):
        raise InputError(f"the value of {name} stands in the command line, which is stored where others can read it; {FIX}")


def _fix(where: str) -> str:
    return OF_NOTIFY if where == "notify.command" else FIX


def names_of(group: str, names: Sequence[str] | None) -> tuple[str, ...]:
    """The names of variables in pass_env; InputError for what is none."""
    for name in names or ():
        if not _VARIABLE.fullmatch(name):
            raise InputError(f"{group}.pass_env: holds what is no name of a variable; it takes names alone: {group}.pass_env=[HF_TOKEN]")
    return tuple(names or ())


def _secrets(path: str, value: Any) -> Iterator[str]:
    """Dotted names of the fields below `value` that hold secrets."""
    below = f"{path}." if path else ""
    if dataclasses.is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _field(f"{below}{name}", str(name), path.rpartition(".")[2], inner)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        for n, inner in enumerate(value):
            yield from _secrets(f"{path}[{n}]", inner)


def _field(where: str, name: str, group: str, value: Any) -> Iterator[str]:
    """`where`, if a field of this name in a group of that name holds a secret, and what holds one below it."""
    if group in VARIABLES:
        holds = is_secret(name) and value not in (None, "")
    elif name.lower().replace("-", "_") in HEADERS or (is_field(name) and (group, name) not in TEXTS):
        holds = value not in (None, "", {}, [], ())
    else:
        text = getattr(value, "text", value)  # of Hydra's grammar
        holds = (name in COMMANDS and _in_words(text if isinstance(text, str) else value)) or (name in SHELL and _in_lines(value))
    if holds:
        yield where
    else:
        yield from _secrets(where, value)


def _in_words(value: Any) -> bool:
    """Whether an option of a command is one that takes a secret, or a word sets a variable or a header to one.

    value: the words, or one text of all.
    """
    texts = [value] if isinstance(value, str) else _texts(value)
    words = value.split() if isinstance(value, str) else texts
    options = [w.lstrip("-").partition("=")[0] for w in words if w.startswith("-")]
    headers = (is_field(name) and begin not in "$`" for text in texts for name, begin in _HEADER.findall(text))
    return any(map(is_field, options)) or _in_lines(words) or any(headers)


def _in_lines(value: Any) -> bool:
    """Whether a line sets a variable to a secret itself, not to what another variable, a file or a program says."""
    return any(is_secret(name) and text[0] not in "$`" for line in _texts(value) for name, text in _SETS.findall(line))


def _texts(value: Any) -> list[str]:
    """The texts of a list, as Hydra's grammar or its configs have them."""
    items = value if isinstance(value, (list, tuple)) else ()
    return [item.text if isinstance(item, QuotedString) else str(item) for item in items]
