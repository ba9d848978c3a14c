"""torch.compile of what a pipeline calls again and again: which of it, and when that pays."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from synth.errors import InputError
from synth.images.compile_cache import Archive
from synth.images.text_encoders import components


@dataclass(frozen=True)
class Mode:
    """How denoisers are compiled. blocks: only what a model repeats (one of 24 alike is compiled for all), where it says what that is."""

    arguments: Mapping = field(default_factory=dict)  # of torch.compile. CUDA graphs are left out: they matter at batch 1, and cost memory
    blocks: bool = False


REGIONAL, WHOLE = "regional", "default"
MODES: Mapping[str, Mode] = {  # numerics.compile
    "eager": Mode({"backend": "eager"}, blocks=True),  # traced but not compiled: for tests of shapes
    "aot_eager": Mode({"backend": "aot_eager"}),
    REGIONAL: Mode({"mode": "default"}, blocks=True),
    WHOLE: Mode({"mode": "default"}),
    "max-autotune": Mode({"mode": "max-autotune-no-cudagraphs"}),
}
NONE, AUTO = "none", "auto"
# Pictures of a size that a worker must have left. One core compiles what a model repeats in about a minute, the whole of it in six or
# seven (67 and 10 s for FLUX.1 on many cores: pytorch.org/blog/torch-compile-and-diffusers), and saves a tenth of a second a picture.
PAYS_FROM: Mapping[str, int] = {REGIONAL: 600, WHOLE: 4000}
DENOISERS = ("unet", "transformer")
FORMS = 32  # of one function, at most, for one size of pictures: a U-Net's levels, in two widths of attention, with and without guidance


def resolve(name: str, device_type: str, pictures: int, blocks: bool) -> str:
    """A key of MODES, or none. auto: on a GPU, for workers with PAYS_FROM pictures of a size to draw.

    pictures: of a size, that the worker has left to draw. blocks: whether all of the denoisers say what they repeat.
    """
    if name == AUTO:
        mode = REGIONAL if blocks else WHOLE
        return mode if device_type == "cuda" and pictures >= PAYS_FROM[mode] else NONE
    if name != NONE and name not in MODES:
        raise InputError(f"numerics.compile={name!r}: use one of {', '.join((NONE, AUTO, *MODES))}")
    return name


def denoisers(pipes: Iterable) -> list:
    """The modules that pipelines call every step, each once."""
    return list({id(m): m for pipe in pipes for name, m in components(pipe).items() if name in DENOISERS}.values())


def has_blocks(module) -> bool:
    """Whether diffusers can compile what a model repeats, and nothing else of it."""
    names = getattr(module, "_repeated_blocks", None) or ()
    return hasattr(module, "compile_repeated_blocks") and any(type(m).__name__ in names for m in module.modules())


def compile_pipelines(pipes: Iterable, mode: str, sizes: int = 1) -> None:
    """Compile the denoisers of pipelines in place, and the VAE's decoder where not only blocks are compiled.

    For the shapes they will be called with and no others. sizes: how many sizes of pictures there will be.
    """
    import torch._dynamo

    pipes, how = list(pipes), MODES[mode]
    for limit in ("cache_size_limit", "accumulated_cache_size_limit"):  # past them torch goes on uncompiled, and says so in a log alone
        setattr(torch._dynamo.config, limit, max(getattr(torch._dynamo.config, limit), FORMS * sizes))
    for module in denoisers(pipes):
        if how.blocks and has_blocks(module):
            # not fullgraph: a break in a graph costs a little speed, an error the stage
            module.compile_repeated_blocks(dynamic=False, **how.arguments)
        else:
            _compile(module, how)
    if not how.blocks:
        for decoder in {id(d): d for d in map(_decoder, pipes) if d is not None}.values():
            _compile(decoder, how)


class Shapes:
    """Shapes of the calls of a loaded model so far. tunes: the first of each pays for kernels that are compiled or chosen for it.

    archive: what was compiled is written there, once, as torch keeps of several writings the last alone: after the first shape where
    there will be no other, else at the end.
    """

    def __init__(self, tunes: bool = False, archive: Archive | None = None, sizes: int = 1):
        self._tunes, self._archive, self._sizes = tunes, archive, sizes
        self._met: set[Hashable] = set()
        self._new = False

    def met(self, shape: Hashable) -> None:
        """A call of this shape was computed."""
        if shape in self._met:
            return
        self._met.add(shape)
        self._new = self._tunes
        if self._archive is not None and self._sizes == 1:
            self._archive.save()

    def pop_new(self) -> bool:
        """Whether a new one was paid for since this was asked last."""
        new, self._new = self._new, False
        return new

    def close(self) -> None:
        if self._archive is not None and self._met:
            self._archive.save()


def _compile(module, how: Mode) -> None:
    import torch

    module.forward = torch.compile(module.forward, dynamic=False, **how.arguments)


def _decoder(pipe):
    return getattr(components(pipe).get("vae"), "decoder", None)
