"""Meta's checkpoint layout: which tensors lie where, and checks that read headers only (no weights, no torch).

A checkpoint is a folder with params.json, tokenizer.model and consolidated.00.pth, consolidated.01.pth, ...: one shard
a model-parallel rank. Each .pth is a zip whose data.pkl names every tensor, its shape and its storage; that pickle is
read here with stand-ins for torch's classes, so that a 70B checkpoint is checked in a second on a login node.
"""

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from synth import foreign
from synth.captions.llama.params import ModelParams, read_params
from synth.errors import InputError
from synth.host.source import as_module
from synth.layouts import instead
from synth.weights import OLD_PICKLE

_SHARD = re.compile(r"consolidated\.(\d+)\.pth")
_ITEM_BYTES = {"FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "DoubleStorage": 8, "ComplexFloatStorage": 8}
EXTRA = re.compile(r"(layers\.\d+\.attention\.inner_attention\.)?rope\.freqs")  # buffers in Meta's files that the model computes for itself


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose headers agree with its params.json."""

    params: ModelParams  # vocab_size known
    shards: tuple[Path, ...]  # in rank order

    @property
    def degree(self) -> int:
        return len(self.shards)


def layout(params: ModelParams) -> dict[str, tuple[tuple[int, int] | tuple[int], int | None]]:
    """Name -> (full shape, the dimension split among ranks or None for a copy on each)."""
    dim, ffn, vocab = params.dim, params.ffn_dim, params.vocab_size
    q, kv = params.n_heads * params.head_dim, params.n_kv_heads * params.head_dim
    rows = 0 if params.embedding_rows else 1
    table = {"tok_embeddings.weight": ((vocab, dim), rows), "norm.weight": ((dim,), None), "output.weight": ((vocab, dim), 0)}
    for i in range(params.n_layers):
        name = f"layers.{i}."
        table |= {
            name + "attention.wq.weight": ((q, dim), 0),
            name + "attention.wk.weight": ((kv, dim), 0),
            name + "attention.wv.weight": ((kv, dim), 0),
            name + "attention.wo.weight": ((dim, q), 1),
            name + "feed_forward.w1.weight": ((ffn, dim), 0),  # gate
            name + "feed_forward.w2.weight": ((dim, ffn), 1),  # down
            name + "feed_forward.w3.weight": ((ffn, dim), 0),  # up
            name + "attention_norm.weight": ((dim,), None),
            name + "ffn_norm.weight": ((dim,), None),
        }
    return table


def shard_shape(shape: tuple[int, ...], split: int | None, degree: int) -> tuple[int, ...]:
    """Shape of one rank's part, e.g. ((8, 6), 0, 2) -> (4, 6)."""
    return tuple(n // degree if axis == split else n for axis, n in enumerate(shape))


def find_shards(ckpt_dir: str | Path) -> tuple[Path, ...]:
    """consolidated.NN.pth in rank order. InputError if none is there or one of the row is missing."""
    folder = Path(ckpt_dir)
    if not folder.is_dir():
        raise InputError(f"ckpt_dir {folder} is not a folder: give the folder that holds params.json and consolidated.00.pth")
    shards = {int(m[1]): p for p in folder.iterdir() if (m := _SHARD.fullmatch(p.name))}
    if not shards:
        other = instead(folder) or "; transformers' folders are for captioner=hf"
        raise InputError(f"no consolidated.NN.pth in {folder}, as Meta's layout has it{other}")
    missing = sorted(set(range(max(shards) + 1)) - set(shards))
    if missing:
        names = ", ".join(f"consolidated.{i:02d}.pth" for i in missing)
        raise InputError(f"{len(shards)} *.pth shards in {folder}, up to {shards[max(shards)].name}, but {names} is missing: copy it")
    if gone := next((p for p in shards.values() if not p.is_file()), None):
        raise InputError(f"{gone} is {foreign.absent(gone) if gone.is_symlink() else 'no file'}: copy it")
    return tuple(shards[i] for i in sorted(shards))


def check_checkpoint(
    ckpt_dir: str | Path, tokenizer_vocab: int, model_parallel: int | None = None, tokenizer_path: object = "tokenizer.model"
) -> Checkpoint:
    """The checkpoint, its headers checked against params.json, the tokenizer's vocabulary and the number of processes.

    Raises InputError naming the file, the item and the fix; reads no weights.
    """
    shards = find_shards(ckpt_dir)
    degree = len(shards)
    if model_parallel is not None and model_parallel != degree:
        raise InputError(
            f"{degree} *.pth shards in {ckpt_dir}: run with captioner.model_parallel={degree} (or leave it unset), not "
            f"{model_parallel}; or split it anew: {as_module('synth.captions.llama.reshard')} {ckpt_dir} OUT "
            f"--shards {model_parallel}"
        )
    params = read_params(ckpt_dir).with_vocab(tokenizer_vocab, tokenizer_path)
    params.check_degree(degree, f"{degree} *.pth shards in {ckpt_dir}")
    headers = {path: read_header(path) for path in shards}
    params = replace(params, embedding_rows=_embedding_rows(params, headers[shards[0]], degree))
    for path, header in headers.items():
        _check_shard(path, header, params, degree)
    return Checkpoint(params, shards)


def _embedding_rows(params: ModelParams, header: Mapping[str, tuple[int, ...]], degree: int) -> bool:
    """Whether shards hold rows of the embedding: Llama 3's do, those of LLaMA 1 and 2 its columns."""
    return degree > 1 and header.get("tok_embeddings.weight") == (params.vocab_size // degree, params.dim)


def _check_shard(path: Path, header: dict[str, tuple[int, ...]], params: ModelParams, degree: int) -> None:
    table = layout(params)
    if absent := sorted(set(table) - set(header)):
        raise InputError(f"{path} lacks {len(absent)} tensors that params.json asks for, e.g. {absent[0]}")
    if extra := sorted(name for name in set(header) - set(table) if not EXTRA.fullmatch(name)):
        raise InputError(f"{path} holds {len(extra)} tensors that params.json does not know, e.g. {extra[0]}")
    first = "layers.0.attention.wq.weight"
    rows, full = header[first][0], table[first][0][0]
    if rows * degree != full and full % rows == 0:
        raise InputError(f"{path} is one of {full // rows} shards, but {degree} *.pth shards are in {path.parent}: copy them all")
    for name, (shape, split) in table.items():
        expected = shard_shape(shape, split, degree)
        if header[name] != expected:
            raise InputError(
                f"{path}: {name} has shape {list(header[name])}, expected {list(expected)} from params.json and "
                f"{degree} shards: params.json, tokenizer.model and shards must be of one LLaMA checkpoint"
            )


class _Storage(tuple):
    """(item bytes, zip entry, items)"""


class _Header(pickle.Unpickler):
    """Reads the pickle of a torch zip with stand-ins: tensors become their shapes; any other class is refused."""

    def persistent_load(self, pid):
        _, kind, key, _, numel = pid
        return _Storage((kind, str(key), numel))

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, *_: (storage, offset, tuple(size))
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        if module == "torch" and name in _ITEM_BYTES:
            return _ITEM_BYTES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a checkpoint of weights")


def read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape, from the zip's directory and data.pkl. InputError if the file is torn or holds other things."""
    torn = f"{path} ({path.stat().st_size} bytes) is torn: "
    with foreign.open_file(path) as f:
        head = f.read(100)
    if known := foreign.stand_in(head):
        raise InputError(f"{path}: {known}")
    if head.startswith(OLD_PICKLE):
        new = f"{path.name}.new"
        anew = f"python -c \"import torch; torch.save(torch.load('{path.name}', map_location='cpu', weights_only=True), '{new}')\""
        raise InputError(f"{path} is in the form of torch before 1.6, which cannot be mapped: write it anew, {anew}, and rename that")
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
            entries = {i.filename.partition("/")[2]: i for i in archive.infolist()}
            for info in entries.values():  # a hole in the middle leaves the directory whole
                raw.seek(info.header_offset)
                if raw.read(4) != b"PK\x03\x04":
                    raise InputError(torn + f"no zip entry where {info.filename} should be; copy it again")
            with archive.open(entries["data.pkl"]) as stream:
                tensors = _Header(stream).load()
    except (zipfile.BadZipFile, EOFError) as err:
        raise InputError(torn + f"{err}; copy it again") from err
    except KeyError as err:
        raise InputError(f"{path} is a zip but no torch checkpoint (no data.pkl): copy it again") from err
    except (pickle.UnpicklingError, TypeError, ValueError) as err:
        raise InputError(f"{path} is no checkpoint of plain weights: {err}") from err
    if not isinstance(tensors, dict):
        raise InputError(f"{path} holds a {type(tensors).__name__}, not a dict of tensors")
    shapes = {}
    for name, value in tensors.items():
        if not (isinstance(value, tuple) and isinstance(value[0], _Storage)):
            raise InputError(f"{path}: {name} is no tensor; expected Meta's layout of weights")
        (item, key, numel), offset, size = value
        entry = entries.get(f"data/{key}")
        if entry is None or entry.file_size != item * numel or offset + prod(size) > numel:
            raise InputError(torn + f"the data of {name} is not whole; copy it again")
        shapes[name] = size
    return shapes


def load_shard(path: Path) -> dict:
    """The tensors of one shard, mapped from the file: bytes are read when they are used."""
    import torch

    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as err:
        raise InputError(f"{path} cannot be loaded ({err}): copy it again") from err
