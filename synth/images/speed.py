"""What makes a loaded family fast, in the one order that works: layout, fused projections, compilation, then the wrappers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synth.images import compiling
from synth.images.families import Family
from synth.images.guidance import Interval
from synth.images.text_encoders import TextEncoders, components
from synth.images.vae_batches import decode_in
from synth.numerics import on

WHOLE = (0.0, 1.0)


@dataclass(frozen=True)
class Prepared:
    """What was done to a family."""

    text_encoders: TextEncoders
    intervals: Sequence[Interval]
    compiled: str  # a key of compiling.MODES, or none


def prepare(
    family: Family, numerics: Mapping, *, slots: int, model_digest: str, versions: Mapping[str, str], text_offload: bool = False
) -> Prepared:
    """Make `family` draw faster by the stage's numerics and sample config, in place. slots: pictures of the stage, for each size."""
    pipes, device = [family.pipe, *family.parts.values()], family.pipe.device
    numerics = on(numerics, device.type)
    mode = compiling.resolve(numerics.get("compile", compiling.NONE), device.type, slots)
    if numerics.get("channels_last"):
        _channels_last(pipes)
    if mode != compiling.NONE:
        compiling.keep_results(model_digest, _name(device), versions)
        compiling.compile_pipelines(pipes, mode)
    elif numerics.get("fuse_qkv") and device.type == "cuda":
        _fuse_projections(pipes)  # one large matrix product instead of three; under compilation it brings nothing
    if family.config.vae_batch:
        for vae in {id(v): v for v in (components(p).get("vae") for p in pipes) if v is not None}.values():
            decode_in(vae, family.config.vae_batch)
    interval = tuple(family.config.guidance_interval)
    wrapped = (
        [Interval(p, components(p)[n], *interval) for p in pipes for n in compiling.DENOISERS if n in components(p)]
        if interval != WHOLE
        else []
    )
    return Prepared(TextEncoders(pipes, device, text_offload), wrapped, mode)


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


def _fuse_projections(pipes: Sequence) -> None:
    for pipe in pipes:
        for name in compiling.DENOISERS:
            module = components(pipe).get(name)
            if module is not None and hasattr(module, "fuse_qkv_projections"):
                module.fuse_qkv_projections()
