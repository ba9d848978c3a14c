"""Weight files, judged from their names and headers: variants, shards, torn safetensors, single-file checkpoints. No torch."""

import math
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from synth import foreign
from synth.errors import InputError

_TWO = foreign.Shape("two whole numbers", lambda v: foreign.fits(v, [foreign.COUNT]) and len(v) == 2)
SUFFIXES = (".safetensors", ".bin")
OLD_PICKLE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P"  # how a checkpoint of torch before 1.6 begins
_SCALES = ("scaled_fp8", ".scale_weight", ".weight_scale", ".scale_input")  # ends of the names of scales of fp8 weights
_ADAPTER = re.compile(r"(^|[._])(lora_|lora\.|hada_w|lokr_w|to_[kv]_ip\.)")  # in the names of matrices of LoRA and its kin
_NONE, _AGAIN = "not a safetensors file", "fetch the model again"
_OTHERS = (".gguf", ".onnx", ".msgpack", ".h5", ".pth", ".pt", ".ckpt")  # forms of weights that are not loaded
_NOT_ONE = {  # suffix -> what such a file is
    ".yaml": "; this is the original config of one, which diffusers does not need: give the checkpoint itself, and model.config=FOLDER",
    ".gguf": "; GGUF is not read here",
    ".json": "; a model in diffusers' layout is given by its folder",
}
_NOT_ONE[".yml"] = _NOT_ONE[".yaml"]
_MAX_HEADER = 100 << 20  # bytes; the format's own limit
_PLAIN = re.compile(r"^(diffusion_pytorch_model|pytorch_model|model)(-\d{5}-of-\d{5})?\.(safetensors|bin)$")
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")  # of diffusers; of transformers
_SUFFIX_OF = {"model": (".safetensors",), "pytorch_model": (".bin",)}  # which transformers looks for; diffusers for both
_SHARD = re.compile(r"(?P<name>.+)-\d{5}-of-(?P<of>\d{5})(?P<suffix>\.safetensors|\.bin)")
_VARIANT = re.compile(r"^(diffusion_pytorch_model|pytorch_model|model)\.(\w+)(-\d{5}-of-\d{5})?\.(safetensors|bin)$")


def check_weights(folder: Path) -> tuple[bool, frozenset[str]]:
    """(whether there are plain files, names of the variants) of a component whose every weight file is whole."""
    files = weight_files(folder)
    for file in files:
        check_file(file)
    variants = frozenset(m.group(2) for f in files if (m := _VARIANT.match(f.name)))
    return any(_PLAIN.match(f.name) or not _VARIANT.match(f.name) for f in files), variants


def check_file(file: Path) -> None:
    """InputError if a weight file is torn, as far as its size, its beginning and its header show."""
    if file.suffix == ".safetensors":
        check_safetensors(file)
    elif file.stat().st_size == 0:
        raise InputError(f"{file}: empty; {_AGAIN}")
    else:
        _check_pickle(file)


def check_checkpoint(file: Path) -> None:
    """InputError unless a file is a whole single-file checkpoint, .safetensors or what torch.save writes."""
    if file.suffix == ".safetensors":
        check_safetensors(file)
    elif file.suffix in (".ckpt", ".pt", ".pth", ".bin"):
        _check_pickle(file)
    else:
        raise InputError(f"{file}: a single-file checkpoint is a .safetensors or a .ckpt file{_NOT_ONE.get(file.suffix, '')}")


def _check_pickle(file: Path) -> None:
    """Checkpoints written before torch 1.6 are bare pickles: protocol 2, and torch's magic number as the first object; later ones zips."""
    with foreign.open_file(file) as f:
        head = f.read(100)
    if known := foreign.stand_in(head):
        raise InputError(f"{file}: {known}")
    if not zipfile.is_zipfile(file) and not head.startswith(OLD_PICKLE):  # a zip's directory is at its end: a torn one has none
        raise InputError(f"{file}: not a whole checkpoint of torch.save; {_AGAIN}")


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a component that loaders may take, one at least. InputError unless all that their index and the numbers of
    their shards name are there. Pickles beside safetensors of the same weights, and the pickles' index, are left over and not looked at.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES)
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: {foreign.absent(file) if file.is_symlink() else 'is no file'}; {_AGAIN}")
    if not files:
        others = sorted(p.name for p in folder.iterdir() if p.suffix in _OTHERS)
        raise InputError(f"{folder}: holds no weights (*.safetensors or *.bin){f', but {others[0]}' if others else ''}; {_AGAIN}")
    _check_stems(folder, files)
    safe = {_variant(f) for f in files if f.suffix == ".safetensors"}
    files = [f for f in files if f.suffix == ".safetensors" or (_variant(f) not in safe and _is_called(f, STEMS))]
    for index in sorted(folder.glob("*.index*.json")):
        if ".bin.index." not in index.name or index.name.partition(".index.")[2].removesuffix("json").rstrip(".") not in safe:
            _check_index(folder, index)
    _check_numbers(files)
    return files


def _variant(file: Path) -> str:
    """ "fp16" of model.fp16.safetensors, "" of a plain one."""
    return m.group(2) if (m := _VARIANT.match(file.name)) else ""


def _check_stems(folder: Path, files: list[Path]) -> None:
    """InputError unless some file has a name that the component's library looks for."""
    config = read_json(folder / "config.json", _AGAIN) if (folder / "config.json").is_file() else {}
    stems = STEMS[:1] if "_class_name" in config else STEMS[1:] if "architectures" in config else STEMS
    if not any(_is_called(file, stems) for file in files):
        stem = next(s for s in stems if files[0].suffix in _SUFFIX_OF.get(s, SUFFIXES))
        raise InputError(
            f"{folder}: its weights are called {files[0].name}, by which nobody looks for them; rename it {stem}{files[0].suffix}"
        )


def _is_called(file: Path, stems: Iterable[str]) -> bool:
    return any(file.name.startswith((f"{stem}.", f"{stem}-")) and file.suffix in _SUFFIX_OF.get(stem, SUFFIXES) for stem in stems)


def _check_index(folder: Path, index: Path) -> None:
    """InputError unless every shard that an index names is there and holds what the index says. Reads headers only."""
    shards = read_json(index, _AGAIN).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise InputError(f"{index}: names no weights, it has no weight_map of file names; {_AGAIN}")
    for name in sorted(set(shards.values())):
        file = folder / name
        if "/" in name or not file.is_file():
            raise InputError(f"{file}: {foreign.absent(file)}, but {index.name} names it; {_AGAIN}")
        if file.suffix == ".safetensors":
            inside = tensor_names(file)
            if lost := sorted(tensor for tensor, shard in shards.items() if shard == name and tensor not in inside):
                raise InputError(f"{file}: holds no {lost[0]}, which {index.name} says is in it; {_AGAIN}")


def _check_numbers(files: list[Path]) -> None:
    """InputError unless shards are all there by their own numbers, and beside an index, where no whole file is loaded instead of them."""
    sets: dict[tuple[str, str, str], list[Path]] = {}  # (name, number of shards, suffix) -> those that are there
    for file in files:
        if m := _SHARD.fullmatch(file.name):
            sets.setdefault((m["name"], m["of"], m["suffix"]), []).append(file)
    names = {f.name for f in files}
    for (name, of, suffix), shards in sets.items():
        if names & {f"{name}{whole}" for whole in SUFFIXES}:
            continue
        folder, stem = shards[0].parent, name.partition(".")[0]
        if len(shards) != int(of):
            there = {f.name for f in shards}
            lost = next(n for i in range(1, int(of) + 1) if (n := f"{name}-{i:05d}-of-{of}{suffix}") not in there)
            raise InputError(f"{folder / lost}: missing, one of {int(of)} shards; {_AGAIN}")
        if not any(folder.glob(f"{stem}{suffix}.index*.json")):
            raise InputError(f"{folder}: holds {len(shards)} shards and no {stem}{suffix}.index.json to find them by; {_AGAIN}")
        if suffix == ".bin" and stem == STEMS[0]:
            fix = "save it anew with save_pretrained(max_shard_size='100GB'), or fetch its .safetensors"
            raise InputError(f"{folder}: {of} shards of pickles ({shards[0].name}), which diffusers does not load; {fix}")


def elements(place: Path, variant: str = "") -> Iterator[tuple[str, int]]:
    """(name, number of elements) of the tensors that are loaded of a component's folder, or of one file. Reads headers only.

    A pickle tells no names: one entry, by its size, as float32 or as the half precision that its variant names.
    """
    for file in [place] if place.is_file() else _chosen(place, variant):
        status = file.stat()
        if file.suffix == ".safetensors":
            yield from _elements(file, (status.st_ino, status.st_size, status.st_mtime_ns))
        else:
            yield "", status.st_size // (2 if "16" in variant else 4)


@lru_cache(maxsize=64)
def _elements(file: Path, state: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
    """Of a .safetensors file in one state: a plan asks anew for every batch that it tries, and a header has thousands of tensors."""
    return tuple((name, math.prod(t["shape"])) for name, t in _header(file)[0].items())


def _chosen(folder: Path, variant: str) -> list[Path]:
    """The weight files of a component that a loader takes: of the variant or else the plain ones, whole or else in shards,
    safetensors before pickles."""
    files = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file()) if folder.is_dir() else []
    of_variant = [p for p in files if variant and (m := _VARIANT.match(p.name)) and m.group(2) == variant]
    for suffix in SUFFIXES:
        fit = [p for p in of_variant or [p for p in files if _PLAIN.match(p.name)] or files if p.suffix == suffix]
        if fit:
            return [p for p in fit if "-of-" not in p.name] or fit
    return []


def check_safetensors(file: Path) -> None:
    """InputError if a .safetensors file is shorter or longer than its header says. Reads the header only."""
    tensors, start = _header(file)
    wanted, size = start + max((t["data_offsets"][1] for t in tensors.values()), default=0), file.stat().st_size
    if size != wanted:
        raise InputError(f"{file}: {size} bytes, its header says {wanted}; it is torn: fetch the model again")


def check_adapters(files: Iterable[Path]) -> None:
    """InputError for weights that are those of an adapter, or have one beside them: loaders pass it over. Reads headers only."""
    for file in files:
        if file.suffix == ".safetensors" and (names := tensor_names(file)) and (of := sorted(filter(_ADAPTER.search, names))):
            if all(_ADAPTER.search(name) or name.endswith(".alpha") for name in names):
                raise InputError(f"{file}: is an adapter (LoRA: {of[0]}) and no model; give it to model.lora, beside its model")
            why = f"holds an adapter beside its weights ({of[0]}), which would be left out"
            raise InputError(f"{file}: {why}; merge it into them, or take it out and give it to model.lora")


def check_scales(files: Iterable[Path]) -> None:
    """InputError for weights in 8 bits with scales of their own: diffusers drops the scales. Reads headers only."""
    for file in files:
        if file.suffix == ".safetensors" and (scaled := next((name for name in _header(file)[0] if name.endswith(_SCALES)), None)):
            why = f"holds weights in 8 bits with scales of their own ({scaled}), which diffusers drops"
            raise InputError(f"{file}: {why}: its pictures would be noise; use the file in 16 bits")


def _header(file: Path) -> tuple[dict[str, dict], int]:
    """(name -> {"shape", "data_offsets", ..} of the tensors in a .safetensors file, where their data begin). Not one: an InputError."""
    header, start = _whole_header(file)
    shapes, where = {"data_offsets": _TWO, "shape": [foreign.COUNT]}, f"{file}: {_NONE}"
    tensors = {
        name: t | foreign.obj(t, f"{where}: {foreign.seen(name)}", _AGAIN, **shapes) for name, t in header.items() if name != "__metadata__"
    }
    return tensors, start


def _whole_header(file: Path) -> tuple[dict[str, object], int]:
    """(the JSON object that a .safetensors file begins with, where the data begin)"""
    where = f"{file}: {_NONE}"
    with foreign.open_file(file) as f:
        size = os.fstat(f.fileno()).st_size
        head = f.read(8)
        n = int.from_bytes(head, "little")
        # whole files may begin with a 3C, which is <, too; eight letters are no length that fits
        if (len(head) < 8 or n > min(size - 8, _MAX_HEADER)) and (known := foreign.stand_in(head + f.peek(100)[:92])):
            raise InputError(f"{file}: {known}")
        if len(head) < 8 or n > size - 8:
            raise InputError(f"{file}: torn inside its header ({size} bytes); {_AGAIN}")
        if n > _MAX_HEADER:
            raise InputError(f"{where} (a header of {n} bytes); {_AGAIN}")
        header = foreign.parse(f.read(n), where, _AGAIN, once=True)  # a name that stands twice would be read otherwise elsewhere
    if not foreign.fits(header, dict):
        raise InputError(f"{where} (its header is {foreign.seen(header)}); {_AGAIN}")
    return header, 8 + n


def tensor_names(file: Path) -> frozenset[str]:
    """Names of the tensors in a .safetensors file."""
    return frozenset(_header(file)[0])


def shapes_of(file: Path) -> dict[str, tuple[int, ...]]:
    """name -> shape of the tensors in a .safetensors file."""
    return {name: tuple(tensor["shape"]) for name, tensor in _header(file)[0].items()}


def shape_of(file: Path, name: str) -> tuple[int, ...]:
    """Shape of a tensor in a .safetensors file."""
    return tuple(_header(file)[0][name]["shape"])


def metadata(file: Path) -> dict[str, str]:
    """What a .safetensors file says of itself, {} if it says nothing; only texts."""
    said = _whole_header(file)[0].get("__metadata__")
    return {k: v for k, v in said.items() if isinstance(v, str)} if isinstance(said, dict) else {}


def read_json(file: Path, fix: str) -> dict:
    """A JSON object from a file; anything else is an InputError that ends in `fix`."""
    try:
        data = foreign.read_json(file, foreign.STAGE, fix, infinite=True)
    except FileNotFoundError as e:
        raise InputError(f"{file}: missing; {fix}") from e
    except OSError as e:
        raise InputError(f"{file}: cannot be read as JSON ({e}); {fix}") from e
    if not isinstance(data, dict):
        raise InputError(f"{file}: expected a JSON object, found {type(data).__name__}; {fix}")
    return data
