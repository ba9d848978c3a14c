"""Plans the caption engine of a captions stage: its sample config, the files it reads, and how it is reached."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from launch.config.schema import Captioner, Hf, Llama, OpenAI, Served
from launch.plan.fetching import fetched
from launch.plan.inputs import input_file
from synth.captions.config import CaptionerConfig
from synth.captions.engines import ENGINES
from synth.captions.llama.checkpoint import Checkpoint, check_checkpoint  # reads headers, imports no torch
from synth.errors import InputError
from synth.store.spec import InputFile

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Engine:
    """What a captions stage needs to know about its engine."""

    config: CaptionerConfig
    inputs: dict[str, InputFile] = field(default_factory=dict)
    settings: dict = field(default_factory=dict)  # see StageSpec.settings
    check: Callable[[], None] = lambda: None  # InputError for what only a stage that is still to be done needs (keys, packages)


def plan_engine(captioner: Captioner) -> Engine:
    """The engine that `captioner` describes, checked as far as it can be without a device."""
    if captioner.engine not in PLANNERS:
        raise InputError(f"captioner.engine={captioner.engine}: no such engine; there are {', '.join(sorted(ENGINES))}")
    wanted, planner = PLANNERS[captioner.engine]
    if not isinstance(captioner, wanted):
        schema = f"schema_{wanted.__name__.lower()}"
        raise InputError(
            f"captioner.engine={captioner.engine}: its YAML file must begin with `defaults: [{schema}, _self_]`, as conf/captioner/ does"
        )
    engine = planner(captioner)
    _check(engine.config)
    return engine


def _check(config: CaptionerConfig) -> None:
    """What all engines share and launch/config/limits.py does not know."""
    if config.dtype not in DTYPES:
        raise InputError(f"captioner.dtype={config.dtype}: one of {', '.join(DTYPES)}")
    if not all(config.stop):
        raise InputError(f"captioner.stop={list(config.stop)}: texts, none of them empty")


def _llama(captioner: Llama) -> Engine:
    return Engine(_config(captioner, captioner.id, model_parallel=checkpoint_of(captioner).degree), _llama_inputs(captioner))


def checkpoint_of(captioner: Llama) -> Checkpoint:
    """The checkpoint, its headers checked: a torn one must not wait in a queue to be found."""
    inputs = _llama_inputs(captioner)
    return _checked(inputs["weights"].path, inputs["tokenizer"].path, captioner.model_parallel)


def _llama_inputs(captioner: Llama) -> dict[str, InputFile]:
    root = captioner.root
    for key in ("ckpt_dir", "tokenizer_path"):
        path = getattr(captioner, key)
        if path and not root and not Path(path).expanduser().is_absolute() and not Path(path).exists():
            raise InputError(f"captioner.{key}: {path} is not here; set LLAMA_FOLDER to the folder that holds it, or captioner.{key}=/path")
    below = Path(root).expanduser() if root else Path()
    weights, tokenizer = (path and str(below / path) for path in (captioner.ckpt_dir, captioner.tokenizer_path))
    return {
        "weights": input_file(weights, "captioner.ckpt_dir", "a folder in Meta's layout (params.json, consolidated.00.pth)"),
        "tokenizer": input_file(tokenizer, "captioner.tokenizer_path", "the sentencepiece model"),
    }


@cache
def _checked(weights: str, tokenizer: str, asked: int | None) -> Checkpoint:
    from synth.captions.llama.tokenizer import Tokenizer  # imports no torch

    return check_checkpoint(weights, Tokenizer(tokenizer).n_words, asked, tokenizer)


def _hf(captioner: Hf) -> Engine:
    folder = _folder(captioner.path or fetched("captioner", captioner.id, captioner.repo), captioner.max_seq_len)
    return Engine(_config(captioner, captioner.id or Path(folder.path).name), {"model": folder})


def _folder(path: str | None, max_seq_len: int) -> InputFile:
    """A model in transformers' layout, judged by its files."""
    from synth.captions.hf.folder import check_length, inspect  # imports neither torch nor transformers

    folder = input_file(path, "captioner.path", "a local folder in transformers' layout (config.json, *.safetensors)")
    check_length(inspect(Path(folder.path)), max_seq_len)
    return folder


def _openai(captioner: OpenAI) -> Engine:
    from synth.captions.remote.engine import check_client

    if not captioner.model:
        raise InputError("captioner.model: not set; it is the name that the server knows the model by: captioner.model=gpt-4o-mini")
    endpoint = _endpoint(captioner, captioner.base_url or "", captioner.api_key_env or "")
    if not endpoint.base_url:
        raise InputError(
            "captioner.base_url: not set; it is the address of an OpenAI-compatible server: captioner.base_url=http://host:8000/v1"
        )

    def check() -> None:
        check_client()
        endpoint.key()

    config = _remote(captioner, captioner.id or captioner.model, captioner.model)
    return Engine(config, {}, endpoint.settings(), check)


def _served(captioner: Served) -> Engine:
    from synth.captions.remote.engine import check_client
    from synth.captions.remote.served import check_command

    if bool(captioner.path) == bool(captioner.model):
        raise InputError(
            f"captioner.path={captioner.path}, captioner.model={captioner.model}: "
            "give one of them, a local folder or a name that the server finds"
        )
    check_command((*captioner.command, *captioner.flags))
    inputs = {"model": _folder_or_file(captioner.path, captioner.max_seq_len)} if captioner.path else {}
    endpoint = replace(
        _endpoint(captioner, "", ""),
        health=captioner.health,
        start_timeout=captioner.start_timeout,
        restarts=captioner.restarts,
        flags=tuple(captioner.flags),
    )
    endpoint.check()
    name = captioner.model or Path(captioner.path).name
    config = _remote(captioner, captioner.id or name, captioner.model or "")
    config = replace(config, dtype=captioner.dtype, model_parallel=captioner.model_parallel or 1, command=tuple(captioner.command))
    return Engine(config, inputs, endpoint.settings(), check_client)


def _folder_or_file(path: str, max_seq_len: int) -> InputFile:
    """What a server loads: a folder in transformers' layout, or one file (GGUF) that only it can judge."""
    if Path(path).expanduser().is_file():
        return input_file(path, "captioner.path", "the file that the server loads")
    return _folder(path, max_seq_len)


def _none(captioner: Captioner) -> Engine:
    return Engine(CaptionerConfig(engine="none", id=captioner.id or "none"))


def _endpoint(captioner: OpenAI | Served, base_url: str, api_key_env: str):
    from synth.captions.remote.settings import Endpoint

    if captioner.api not in ("chat", "completions"):
        raise InputError(f"captioner.api={captioner.api}: one of chat, completions")
    endpoint = Endpoint(
        base_url=base_url.rstrip("/"),
        api_key_env=api_key_env,
        concurrency=captioner.max_batch_size,
        timeout=captioner.timeout,
        retries=captioner.retries,
    )
    if isinstance(captioner, OpenAI):
        endpoint = replace(endpoint, longest_wait=captioner.longest_wait, price_in=captioner.price_in, price_out=captioner.price_out)
    endpoint.check()
    if api_key_env and not api_key_env.replace("_", "").isalnum():
        raise InputError(
            "captioner.api_key_env: it is the name of an environment variable, never the key itself: captioner.api_key_env=OPENAI_API_KEY"
        )
    key = os.environ.get(api_key_env, "").strip() if api_key_env else ""
    if key and any(key in str(value) for value in vars(captioner).values()):
        raise InputError(f"captioner: the key in {api_key_env} stands in the config, where all can read it; leave it in the variable")
    return endpoint


def _remote(captioner: OpenAI | Served, name: str, model: str) -> CaptionerConfig:
    """What a server's captions depend on. Concurrency and the like are settings: they change no caption and buy none again."""
    config = _config(captioner, name)
    return replace(config, max_batch_size=1, model_parallel=1, dtype="float32", model=model, api=captioner.api, body=_body(captioner.body))


def _body(body: object) -> dict:
    if body is not None and not isinstance(body, dict):
        raise InputError(f"captioner.body={body!r}: a mapping of fields, such as {{top_k: 50}}")
    return {str(k): v for k, v in (body or {}).items()}


def _config(captioner: Captioner, name: str, model_parallel: int | None = None) -> CaptionerConfig:
    return CaptionerConfig(
        engine=captioner.engine,
        id=name,
        temperature=captioner.temperature,
        top_p=captioner.top_p,
        max_seq_len=captioner.max_seq_len,
        max_gen_len=captioner.max_gen_len,
        max_batch_size=captioner.max_batch_size,
        model_parallel=model_parallel or captioner.model_parallel or 1,
        stop=tuple(captioner.stop),
        dtype=captioner.dtype,
    )


PLANNERS: dict[str, tuple[type[Captioner], Callable]] = {
    "llama": (Llama, _llama),
    "hf": (Hf, _hf),
    "openai": (OpenAI, _openai),
    "served": (Served, _served),
    "none": (Captioner, _none),
}
