"""Plans a server that workers of layout labels start and ask about pictures: that of captions of class names (launch.plan.engines), with
the keys of another group."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launch.plan import engines
from launch.plan.node import Node
from synth.captions.config import CaptionerConfig
from synth.errors import InputError
from synth.keys import WrongKey, dump
from synth.layout.caption.served import ROLE, told_as
from synth.run.empty import AFTER
from synth.store.spec import InputFile, StageSpec
from synth.weights import read_json

NOT_HERE = ("{dtype}", "{model_parallel}")  # of the captioner's braces: they are keys that this group does not have
SEES = ("vision", "visual", "image", "img", "mm_")  # parts of the names of settings that a model which takes pictures has


@dataclass(frozen=True)
class Server:
    """server: what its answers depend on, as stage.json has it; file: what it loads, None for what it finds for itself; settings: of the
    stage; engine: whose `check` says what only a stage needs that is still to be done."""

    server: dict[str, Any]
    file: InputFile | None
    settings: dict[str, Any]
    engine: engines.Engine


def planned(group: str, config: Any) -> Server:
    """The server that the keys of an option `served` describe. InputError names them as those of `group`."""
    for word in (*config.command, *(config.flags or ())):
        if brace := next((b for b in NOT_HERE if b in word), ""):
            raise WrongKey("command", word, f"{brace} is not known here", "write the value itself", group)
    with told_as(group):
        engine = engines.served(_as_captioner(config))
        file = engine.inputs.get(ROLE)
        if file is not None and Path(file.path).is_dir():
            _check_sees(Path(file.path), group)
    server = dump(replace(engine.config, id=config.model or ""))  # a model is known by its contents, not by the name of its folder
    return Server(server, file, {**engine.settings, AFTER: config.stop_when_empty}, engine)


def _as_captioner(config: Any) -> CaptionerConfig:
    return CaptionerConfig(
        engine="served", id="", path=config.path, model=config.model, command=config.command, flags=config.flags,
        pass_env=config.pass_env, health=config.health, start_timeout=config.start_timeout, restarts=config.restarts, api="chat",
        body=config.body, temperature=0.0, top_p=1.0, max_seq_len=config.max_seq_len, max_gen_len=config.max_tokens,
        max_batch_size=config.rows, stop=(), timeout=config.timeout, retries=config.retries,
    )  # fmt: skip


def _check_sees(folder: Path, group: str) -> None:
    """InputError for a model of text alone: the server would start, and refuse every picture."""
    config = read_json(folder / "config.json", "fetch the model again")
    if not any(part in name for name in config for part in SEES):
        fix = f"{group}.path needs one that does, such as Qwen/Qwen3-VL-2B-Instruct"
        raise InputError(f"{folder / 'config.json'}: {config.get('model_type')} takes no pictures; {fix}")


def check_undone(node: Node, specs: Sequence[StageSpec], server: Server, group: str) -> None:
    """What only a stage that is still to be done needs: packages."""
    if not all((node.dataset_root / spec.folder_name / "done.json").exists() for spec in specs):
        with told_as(group):
            server.engine.check()
