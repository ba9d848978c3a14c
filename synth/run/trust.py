"""What a stage would do in its user's name beside computing: start a command, send a key somewhere, write into a place that it names.
Done for who planned it alone.

A stage folder may have been received, and others may write in a shared one. Neither its owner nor anything that lies in it proves who
chose its words: a tar unpacks as ours. So a launcher hands its workers the digest of the words that it planned, on their command line;
and notes it in a private file, by which workers that are started by hand know them. Whatever else is refused until somebody has read it
and says --trust.
"""

import hashlib
import json
import os
import pwd
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synth.errors import InputError
from synth.host import private
from synth.store.spec import StageSpec
from synth.terminal import printable

NAME = re.compile(r"[A-Za-z_]\w*")  # of a variable
NOTES = "planned"  # the private file: a line for each digest
SHOWN = 300  # characters of a command in a message


def acts_of(spec: StageSpec) -> dict[str, Any]:
    """What a worker of this stage would start, which keys it would send where, and into which place that it names it would write, as plain
    data; {} of most stages.

    Commands are kept as they are before their braces are filled, with all that fills them.
    """
    captioner, model, settings = _mapping(spec.config.get("captioner")), _mapping(spec.config.get("model")), _mapping(spec.settings)
    acts: dict[str, Any] = {}
    if out := spec.config.get("out"):  # whatever writes there may write what others run; without it the place is beside the stage
        acts["out"] = os.path.abspath(str(out))
    if captioner.get("engine") == "served":
        acts["captioner.command"] = [*_words(captioner.get("command")), *_words(settings.get("flags"))]
        acts["captioner.model"] = str(captioner.get("model"))
    elif captioner.get("engine") == "openai" and settings.get("api_key_env"):
        acts["captioner.base_url"], acts["captioner.api_key_env"] = str(settings.get("base_url")), str(settings["api_key_env"])
    if words := _words(model.get("command")):
        acts["model.command"] = words
    if acts.keys() <= {"out"}:
        return acts
    started = next((w[0] for key in ("captioner.command", "model.command") if (w := acts.get(key))), "")
    if os.sep in started:  # another program wherever the worker is started
        acts["program"] = os.path.abspath(started)
    acts |= {"pass_env": _words(settings.get("pass_env")), "paths": {role: os.path.abspath(str(i.path)) for role, i in spec.inputs.items()}}
    return acts


def secrets_of(spec: StageSpec) -> tuple[str, ...]:
    """Names of the secrets in the environment that workers of this stage need."""
    settings = _mapping(spec.settings)
    names = [settings.get("api_key_env"), *_words(settings.get("pass_env"))]
    return tuple(name for name in names if isinstance(name, str) and NAME.fullmatch(name))


def token_of(spec: StageSpec) -> str:
    """The digest of acts_of; "" where there are none."""
    acts = acts_of(spec)
    return hashlib.sha256(json.dumps(acts, sort_keys=True).encode()).hexdigest()[:32] if acts else ""


def words_of(spec: StageSpec) -> tuple[str, ...]:
    """What whoever planned a stage adds to the command of its workers."""
    token = token_of(spec)
    return ("--planned", token) if token else ()


def check(folder: Path, spec: StageSpec, planned: str | None = None) -> None:
    """InputError where a stage would act and nobody here planned that. planned: the digest that a launcher gave."""
    token = token_of(spec)
    if not token or token == planned or token in _noted():
        return
    acts = acts_of(spec)
    if acts.keys() == {"out"}:
        what = f"its workers would write files into {acts['out']}"
    elif "captioner.base_url" in acts:
        what = f"its workers would send the key in {acts['captioner.api_key_env']} to {acts['captioner.base_url']}"
    else:
        key = "model.command" if "model.command" in acts else "captioner.command"
        words = " ".join(acts[key])
        for role, path in acts["paths"].items():
            words = words.replace(f"{{{role}}}", path)
        what = f"its workers would run {key}: {words}"
    differs = "which is not what was planned when they were started" if planned else "which was not planned by you on this machine"
    raise InputError(
        f"{printable(folder)} ({_owner(folder)}): {printable(what, SHOWN)}, {differs}. Run the command that plans it again; "
        "or, if you have read stage.json and inputs.json and trust them, add --trust to the worker (trust=true to node)"
    )


def note(spec: StageSpec) -> None:
    """Keep in the private file that this user planned what a stage does. Where there is none, command lines alone carry it."""
    token = token_of(spec)
    if token and token not in _noted():
        private.add(NOTES, f"{token}\n".encode())


def _noted() -> frozenset[str]:
    """The digests noted last, some 30,000: one that was noted before them is noted again when its stage is planned again."""
    return frozenset(private.read(NOTES).decode("ascii", "replace").split())


def _owner(folder: Path) -> str:
    """Whose stage.json it is, in words."""
    try:
        uid = os.lstat(Path(folder) / "stage.json").st_uid
    except OSError:
        return "whose owner cannot be told"
    if uid == os.getuid():
        return "a file of yours, wherever it came from"
    try:
        return f"of {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"of user {uid}"


def _mapping(value: object) -> Mapping:
    return value if isinstance(value, Mapping) else {}


def _words(value: object) -> list[str]:
    return [str(word) for word in value] if isinstance(value, (list, tuple)) else []
