"""What makes a loaded family fast, in the one order that works: layout, kernels, fused projections, compilation, then the wrappers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synth.images import compiling
from synth.images.attention import set_backend
from synth.images.compile_cache import Archive, key_of, use_folder
from synth.images.families import Family
from synth.images.guidance import Interval
from synth.images.text_encoders import TextEncoders, components
from synth.images.vae_batches import decode_in, decoders
from synth.numerics import on

WHOLE = (0.0, 1.0)
TUNES_FROM = 100  # pictures of a size: cuDNN takes some seconds to choose its kernels for one


@dataclass(frozen=True)
class Prepared:
    """What was done to a family."""

    text_encoders: TextEncoders
    intervals: Sequence[Interval]
    compiled: str  # a key of compiling.MODES, or none
    shapes: compiling.Shapes


def prepare(
    family: Family,
    numerics: Mapping,
    *,
    slots: int,
    model_digest: str,
    versions: Mapping[str, str],
    text_offload: bool = False,
    sizes: int = 1,
    shared: Path | None = None,
) -> Prepared:
    """Make `family` draw faster by the stage's numerics and sample config, in place.

    slots: pictures, of each of the `sizes`, that this worker has to draw as far as is known. shared: a folder that all nodes see, for what
    is compiled; None: it stays on this node.
    """
    pipes, device = [family.pipe, *family.parts.values()], family.pipe.device
    numerics, denoisers = on(numerics, device.type), compiling.denoisers(pipes)
    if numerics.get("channels_last"):
        _channels_last(pipes)
    set_backend(denoisers, family.config.model.attention_backend)
    mode = _mode(family, numerics.get("compile", compiling.NONE), denoisers, device, slots)
    archive = None
    if mode != compiling.NONE:
        called = f"{model_digest} {mode} {family.config.height}x{family.config.width} {family.batch}"
        archive = _kept(key_of(called, _name(device), versions), shared)
        compiling.compile_pipelines(pipes, mode, sizes)
    elif numerics.get("fuse_qkv") and device.type == "cuda" and not family.config.model.adapters:  # these are added to the three
        for module in denoisers:  # one large matrix product instead of three; under compilation it brings nothing
            fuse_projections(module)
    tunes = not numerics.get("deterministic", True)
    if tunes and (not family.one_shape or (sizes > 1 and slots < TUNES_FROM)):
        _choose_no_kernels()
        tunes = False
    if family.config.vae_batch:
        for decoder in decoders(pipes):
            decode_in(decoder, family.config.vae_batch)
    interval = tuple(family.config.guidance_interval)
    wrapped = (
        [Interval(p, components(p)[n], *interval) for p in pipes for n in compiling.DENOISERS if n in components(p)]
        if interval != WHOLE
        else []
    )
    shapes = compiling.Shapes(tunes or mode != compiling.NONE, archive, sizes)
    return Prepared(TextEncoders(pipes, device, text_offload), wrapped, mode, shapes)


def _mode(family: Family, name: str, denoisers: Sequence, device, slots: int) -> str:
    """A key of compiling.MODES, or none: for a family whose shapes follow the captions, compiling never comes to an end."""
    if name == compiling.AUTO and not family.one_shape:
        return compiling.NONE
    return compiling.resolve(name, device.type, slots, all(map(compiling.has_blocks, denoisers)))


def _kept(key: str, shared: Path | None) -> Archive | None:
    """Keep what will be compiled on this node, and in an archive in the folder that all nodes see; the archive, unpacked."""
    use_folder(key)
    if shared is None:
        return None
    archive = Archive(shared, key)
    archive.load()
    return archive


def fuse_projections(module) -> bool:
    """Compute queries, keys and values of each attention layer by one matrix product, and free the weights of the three; whether it can be.

    Layers with added key and value projections cannot in diffusers, nor can models that do not say how.
    """
    layers = [m for m in module.modules() if hasattr(m, "to_q") and hasattr(m, "fuse_projections")]
    if not hasattr(module, "fuse_qkv_projections") or any("AddedKV" in type(m.processor).__name__ for m in layers):
        return False
    module.fuse_qkv_projections()
    for layer in layers:
        for fused, parts in FUSED.items():
            if getattr(layer, fused, None) is not None:
                for name in parts:
                    delattr(layer, name)
    return True


FUSED: Mapping[str, Sequence[str]] = {  # diffusers' name of a fused projection -> those that it stands for
    "to_qkv": ("to_q", "to_k", "to_v"),
    "to_kv": ("to_k", "to_v"),
    "to_added_qkv": ("add_q_proj", "add_k_proj", "add_v_proj"),
}


def _choose_no_kernels() -> None:
    """Take cuDNN's first kernel instead of timing all, and none of its attention, which builds a plan for each new shape."""
    import torch

    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.enable_cudnn_sdp(False)


def _name(device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _channels_last(pipes: Sequence) -> None:
    """Convolutions read and write pixel by pixel, as tensor cores want them."""
    import torch

    for pipe in pipes:
        for name, module in components(pipe).items():
            if name in ("unet", "vae"):
                module.to(memory_format=torch.channels_last)
