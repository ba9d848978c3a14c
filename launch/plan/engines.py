"""Plans the caption engine of a captions stage: its sample config, the files it reads, how it is reached, and whether prompts fit it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.config.root import Config
from launch.config.secrets import names_of
from launch.plan.absent import NotHere, stand_in, unless_absent
from launch.plan.batches import LARGEST, SLOTS
from launch.plan.fetching import fetched
from launch.plan.gpu_memory import GpuMemory
from launch.plan.inputs import existing, identity_of, input_file
from launch.plan.makers import Maker
from synth import foreign
from synth.captions.config import CaptionerConfig, DatasetConfig
from synth.captions.engines import ENGINES
from synth.captions.llama.checkpoint import Checkpoint, check_checkpoint  # reads headers, imports no torch
from synth.captions.prompts import UPSTREAM, make
from synth.captions.remote.settings import Endpoint
from synth.errors import InputError
from synth.keys import WrongKey
from synth.numerics import PRESETS, on
from synth.store.spec import InputFile

if TYPE_CHECKING:
    from synth.captions.llama.tokenizer import Tokenizer

HOST_RANK = 6.0  # GB of host memory of a rank: torch with CUDA's libraries, and the layers that are on their way to the GPU
LOOKED_AT = 32  # slots; single prompts that are too long are rejections of theirs, not an error of the run


@dataclass(frozen=True)
class Engine:
    """What a captions stage needs to know about its engine."""

    config: CaptionerConfig
    inputs: dict[str, InputFile] = field(default_factory=dict)
    settings: dict = field(default_factory=dict)  # see StageSpec.settings
    check: Callable[[], None] = lambda: None  # InputError for what only a stage that is still to be done needs (keys, packages)
    absent: bool = False  # a dry run without the weights


NO_ENGINE = Engine(CaptionerConfig(engine="none", id="none"))


def plan_engine(config: Config, gpu: GpuMemory | None) -> Engine:
    """The engine that `captioner` describes, checked as far as it can be without a device. gpu: None where captions are made on cores."""
    captioner = config.captioner
    if captioner.engine not in _PLANS:
        raise WrongKey("engine", captioner.engine, f"no such engine; there are {', '.join(sorted(ENGINES))}", group="captioner")
    if not all(captioner.stop):
        raise InputError(f"captioner.stop={list(captioner.stop)}: texts, none of them empty")
    engine = _PLANS[captioner.engine](replace(captioner, max_batch_size=_rows(config, gpu)))
    if engine.absent:
        return engine
    return replace(engine, settings=engine.settings | _memory(engine.config, captioner, gpu, _attention(config)))


# -- the native engine -----------------------------------------------------------------------------------------------


def _llama(captioner: CaptionerConfig) -> Engine:
    if unless_absent(lambda: _llama_paths(captioner)["weights"]) is None:
        inputs = {role: stand_in(key) for role, key in (("weights", "captioner.ckpt_dir"), ("tokenizer", "captioner.tokenizer_path"))}
        return Engine(replace(captioner, model_parallel=captioner.model_parallel or 1), inputs, absent=True)
    degree = _checkpoint(captioner).degree  # judged first: whatever else a wrong path leads to must not be read whole
    inputs = {role: InputFile(str(path), identity_of(path)) for role, path in _llama_paths(captioner).items()}
    return Engine(replace(captioner, model_parallel=degree), inputs)


def _checkpoint(captioner: CaptionerConfig) -> Checkpoint:
    """The checkpoint, its headers checked: a torn one must not wait in a queue to be found."""
    paths = _llama_paths(captioner)
    return _checked(str(paths["weights"]), str(paths["tokenizer"]), captioner.model_parallel)


def _llama_paths(captioner: CaptionerConfig) -> dict[str, Path]:
    root = captioner.root
    for key in ("ckpt_dir", "tokenizer_path"):
        path = getattr(captioner, key)
        if path and not root and not Path(path).expanduser().is_absolute() and not Path(path).exists():
            raise NotHere(f"captioner.{key}: {path} is not here; set LLAMA_FOLDER to the folder that holds it, or captioner.{key}=/path")
    below = Path(root).expanduser() if root else Path()
    weights, tokenizer = (path and str(below / path) for path in (captioner.ckpt_dir, captioner.tokenizer_path))
    return {
        "weights": existing(weights, "captioner.ckpt_dir", "a folder in Meta's layout (params.json, consolidated.00.pth)"),
        "tokenizer": existing(tokenizer, "captioner.tokenizer_path", "the tokenizer.model of the checkpoint"),
    }


@cache
def _checked(weights: str, tokenizer: str, asked: int | None) -> Checkpoint:
    return check_checkpoint(weights, _tokenizer(tokenizer).n_words, asked, tokenizer)


@cache
def _tokenizer(path: str) -> "Tokenizer":
    from synth.captions.llama.tokenizer import Tokenizer  # imports no torch

    return Tokenizer(path)


def most_rows(config: Config, gpu: GpuMemory | None) -> int:
    """Captions decoded at once in a window that is large enough."""
    return _rows(config, gpu, LARGEST)


def _rows(config: Config, gpu: GpuMemory | None, most: int | None = None) -> int:
    """max_batch_size. `auto` is resolved once, at plan time: stage.json holds a number, whatever GPU a worker finds.

    most: slots of a window; None: as captions says.
    """
    captioner = config.captioner
    rows, native = captioner.max_batch_size, captioner.engine == "llama"
    if native and rows == "auto":
        window = most or min(config.captions.window, config.captions.unit_size)  # a window ends with its unit
        return _fitting_rows(captioner, None if gpu is None else gpu.gb, window, _attention(config))
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise WrongKey("max_batch_size", rows, f"{'auto, or ' if native else ''}a number of captions, 1 at least", group="captioner")
    return rows


def _attention(config: Config) -> str:
    """The attention kernels of GPUs, which decide how much a prefill holds."""
    return on(PRESETS[config.numerics], "cuda")["attention"]


def _fitting_rows(captioner: CaptionerConfig, memory: float | None, window: int, attention: str) -> int:
    from synth.captions.llama.memory import auto_rows

    if unless_absent(lambda: _llama_paths(captioner)["weights"]) is None:
        return SLOTS
    checkpoint = _checkpoint(captioner)
    shard = checkpoint.shards[0].parent
    return auto_rows(checkpoint.params, captioner.dtype, checkpoint.degree, captioner.max_seq_len, memory, window, shard, attention)


def _memory(engine: CaptionerConfig, captioner: CaptionerConfig, gpu: GpuMemory | None, attention: str) -> dict[str, Any]:
    """For the stage's settings: GB on each GPU, and on the host for each worker, of the native engine."""
    if gpu is None or engine.engine != "llama":
        return {}
    from synth.captions.llama.memory import need

    checkpoint = _checkpoint(captioner)
    cost = need(checkpoint.params, engine.dtype, checkpoint.degree, engine.max_seq_len, attention)
    rows, host = engine.max_batch_size, checkpoint.degree * HOST_RANK
    figures = {"weights": cost.weights / 1e9, "device": cost.gb(rows), "host": host}
    told = {name: round(value, 1) for name, value in figures.items()}
    return {"memory": told | {"rows": rows, "dtype": engine.dtype, "gpu": gpu.gb, "source": gpu.source}}


# -- transformers and servers ----------------------------------------------------------------------------------------


def _hf(captioner: CaptionerConfig) -> Engine:
    path = unless_absent(lambda: _existing(captioner.path or fetched("captioner", captioner.id, captioner.repo)))
    folder = stand_in("captioner.path") if path is None else _folder(str(path), captioner.max_seq_len)
    name = captioner.id or (captioner.repo or "").rpartition("/")[2] if path is None else captioner.id or path.name
    template = captioner.template
    if template is not None and not isinstance(template, Mapping):
        raise WrongKey("template", template, "a mapping of arguments, such as {enable_thinking: false}", group="captioner")
    template = {str(k): v for k, v in template.items()} if template else None
    return Engine(
        replace(captioner, id=name, template=template, model_parallel=captioner.model_parallel or 1), {"model": folder}, absent=path is None
    )


def _existing(path: str | None) -> Path:
    return existing(path, "captioner.path", "a local folder in transformers' layout (config.json, *.safetensors)")


def _folder(path: str | None, max_seq_len: int) -> InputFile:
    """A model in transformers' layout, judged by its files."""
    from synth.captions.hf.folder import check_length, inspect  # imports neither torch nor transformers

    folder = _existing(path)
    check_length(inspect(folder), max_seq_len)  # first: whatever else a wrong path leads to must not be read whole
    return InputFile(str(folder), identity_of(folder))


def _openai(captioner: CaptionerConfig) -> Engine:
    from synth.captions.remote.engine import check_client

    if not captioner.model:
        raise InputError("captioner.model: not set; it is the name that the server knows the model by: captioner.model=gpt-4o-mini")
    endpoint = _endpoint(
        captioner,
        base_url=(captioner.base_url or "").rstrip("/"),
        api_key_env=captioner.api_key_env or "",
        longest_wait=captioner.longest_wait,
        price_in=captioner.price_in,
        price_out=captioner.price_out,
        max_requests=captioner.max_requests or 0,
        max_cost=captioner.max_cost or 0.0,
    )
    if captioner.max_cost == 0:
        raise WrongKey("max_cost", captioner.max_cost, "no answer costs less", "null is no limit", group="captioner")
    if endpoint.max_cost and not (endpoint.price_in or endpoint.price_out):
        fix = "set captioner.price_in and captioner.price_out, the money for a million tokens"
        raise WrongKey("max_cost", captioner.max_cost, "without prices nothing costs anything", fix, group="captioner")
    _check_secret(captioner, endpoint.api_key_env)
    if not endpoint.base_url:
        raise InputError(
            "captioner.base_url: not set; it is the address of an OpenAI-compatible server: captioner.base_url=http://host:8000/v1"
        )

    def check() -> None:
        check_client()
        endpoint.key()

    config = replace(_asked_of_a_server(captioner, captioner.model), model_parallel=1, dtype="float32")  # the server's matter
    return Engine(config, {}, endpoint.settings(), check)


def served(captioner: CaptionerConfig) -> Engine:
    """A server that each worker starts, judged: its command, the model that it loads, how it is reached."""
    from synth.captions.remote.engine import check_client
    from synth.captions.remote.served import check_command

    if bool(captioner.path) == bool(captioner.model):
        raise InputError(
            f"captioner.path={captioner.path}, captioner.model={captioner.model}: "
            "give one of them, a local folder or a name that the server finds"
        )
    flags = captioner.flags or ()
    check_command((*captioner.command, *flags))
    inputs = {"model": _folder_or_file(captioner.path, captioner.max_seq_len)} if captioner.path else {}
    endpoint = _endpoint(
        captioner,
        health=captioner.health,
        start_timeout=captioner.start_timeout,
        restarts=captioner.restarts,
        flags=tuple(flags),
        pass_env=names_of("captioner", captioner.pass_env),
    )
    config = _asked_of_a_server(captioner, captioner.model or Path(captioner.path).name)
    return Engine(replace(config, model_parallel=captioner.model_parallel or 1), inputs, endpoint.settings(), check_client)


def _folder_or_file(path: str, max_seq_len: int) -> InputFile:
    """What a server loads: a folder in transformers' layout, or one file (GGUF) that only it can judge."""
    if Path(path).expanduser().is_file():
        return input_file(path, "captioner.path", "the file that the server loads")
    return _folder(path, max_seq_len)


def _endpoint(captioner: CaptionerConfig, **more: Any) -> Endpoint:
    endpoint = Endpoint(concurrency=captioner.max_batch_size, timeout=captioner.timeout, retries=captioner.retries, **more)
    endpoint.check()
    return endpoint


def _check_secret(captioner: CaptionerConfig, api_key_env: str) -> None:
    """InputError where the key itself stands in the config, which everybody may read."""
    if api_key_env and not api_key_env.replace("_", "").isalnum():
        raise InputError(
            "captioner.api_key_env: it is the name of an environment variable, never the key itself: captioner.api_key_env=OPENAI_API_KEY"
        )
    key = os.environ.get(api_key_env, "").strip() if api_key_env else ""
    if key and any(key in str(value) for value in vars(captioner).values()):
        raise InputError(f"captioner: the key in {api_key_env} stands in the config, where all can read it; leave it in the variable")


def _asked_of_a_server(captioner: CaptionerConfig, name: str) -> CaptionerConfig:
    """What a server's captions depend on. Concurrency and the like are settings: they change no caption and buy none again."""
    body = captioner.body or {}
    if not isinstance(body, Mapping):
        raise WrongKey("body", captioner.body, "a mapping of fields, such as {top_k: 50}", group="captioner")
    body = {str(k): v for k, v in body.items()}
    return replace(captioner, id=captioner.id or name, max_batch_size=1, model=captioner.model or "", body=body)


def _none(captioner: CaptionerConfig) -> Engine:
    """It reads no other key, so that none is in its fingerprint."""
    return Engine(CaptionerConfig(engine="none", id=captioner.id or "none"))


_PLANS: Mapping[str, Callable[[CaptionerConfig], Engine]] = {
    "llama": _llama,
    "hf": _hf,
    "openai": _openai,
    "served": served,
    "none": _none,
}


# -- the length of prompts -------------------------------------------------------------------------------------------


def check_length(dataset: DatasetConfig, maker: Maker, engine: Engine, seed: int) -> None:
    """InputError where none of the first prompts of a stage leaves room in captioner.max_seq_len, with the tokens that they need.

    Of the native engine alone: its tokenizer counts without torch.
    """
    if engine.config.engine != "llama" or engine.absent or not maker.asks or maker.config.maker in UPSTREAM:  # UPSTREAM: not known yet
        return
    room = engine.config.max_seq_len
    tables = {role: _table(file.path, file.identity) for role, file in maker.inputs.items()}
    if _bytes(tables["examples"], maker.config.shots) < 1.5 * room:  # English has 2 bytes a token at least: they fit
        return
    prompts = make(dataset, maker.config, tables.__getitem__)  # needs numpy, which is slow to import
    texts = [prompts.prompt(seed, slot, 0).text for slot in range(LOOKED_AT)]
    tokens = [len(ids) for ids in _tokenizer(engine.inputs["tokenizer"].path).encode(texts)]
    if min(tokens) >= room:
        fix = f"set it to {max(tokens) + engine.config.max_gen_len}, or lower prompts.shots={maker.config.shots}"
        raise InputError(
            f"captioner.max_seq_len={room}: prompts of this run have {min(tokens)} to {max(tokens)} tokens, captions come on top; {fix}"
        )


def _bytes(examples: Mapping, shots: int) -> int:
    """More than a prompt has, but for very long names."""
    longest = max((len("".join(map(str, e.values())).encode()) for of_mode in examples.values() for e in of_mode), default=0)
    return 150 + shots * (longest + 10)


@cache
def _table(path: str, identity: str) -> Any:
    return foreign.read_json(path, foreign.TABLE, once=True)
