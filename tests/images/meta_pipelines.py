"""Pipelines of true shapes on the meta device, drawn by their families: one step of denoising, then the decoder."""

import contextlib
import inspect
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput

from tests.images.counting import counted
from tests.images.true_shapes import FOLDERS, module, words


@dataclass
class Step(BaseOutput):
    prev_sample: torch.Tensor


class OneStep(SchedulerMixin, ConfigMixin):
    """A scheduler that reads no value of a tensor, of which there is none on the meta device. Its step keeps one copy, as Euler's does."""

    order = 1
    init_noise_sigma = 1.0
    where = "meta"

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        variance_type: str = "fixed",
        prediction_type: str = "epsilon",
        base_image_seq_len: int = 256,
        max_image_seq_len: int = 4096,
        base_shift: float = 0.5,
        max_shift: float = 1.15,
        use_dynamic_shifting: bool = False,
    ): ...

    def set_timesteps(self, num_inference_steps=None, device=None, sigmas=None, mu=None, timesteps=None):
        self.timesteps = torch.full((1,), 500, device=self.where)
        self.sigmas = torch.ones(2)

    def set_begin_index(self, begin_index=0): ...

    def scale_model_input(self, sample, timestep=None):
        return sample * 1.0

    def add_noise(self, original_samples, noise, timesteps):
        return original_samples + noise

    def step(self, model_output, timestep, sample, *, prev_timestep=None, generator=None, return_dict=True, **_):
        prev = sample.float() + model_output[:, : sample.shape[1]].float()
        prev = prev.to(sample.dtype)
        return Step(prev) if return_dict else (prev,)


def pipeline(name: str, folder: Path, dtype: torch.dtype):
    """A pipeline of FOLDERS on the meta device."""
    import diffusers

    kind, components = FOLDERS[name]
    cls = getattr(diffusers, kind)
    parts = {n: words(folder / n, v) if isinstance(v, str) else module(*v).to(dtype) for n, v in components.items()}
    for part in parts.values():
        if dtype == torch.float16 and type(part).__name__ in ("T5EncoderModel", "UMT5EncoderModel"):
            for key, value in part.named_modules():
                if key.endswith(".wo"):
                    value.float()
    takes = inspect.signature(cls.__init__).parameters
    schedulers = {n: OneStep() for n in takes if n.endswith("scheduler")}
    if kind == "AuraFlowPipeline":  # it reads its timesteps
        schedulers["scheduler"].where = "cpu"
    rest = {n: None for n in takes if n in ("safety_checker", "feature_extractor", "image_encoder", "watermarker", "image_processor")}
    off = {n: False for n in ("requires_safety_checker", "add_watermarker") if n in takes}
    pipe = cls(**rest | schedulers | parts | off)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def weights_of(pipes) -> int:
    modules = {id(m): m for p in pipes for m in p.components.values() if isinstance(m, torch.nn.Module)}
    tensors = {id(t): t for m in modules.values() for t in (*m.parameters(), *m.buffers())}
    return sum(t.untyped_storage().nbytes() for t in tensors.values())


def count(family, batch: int, math: bool = False) -> dict[str, int]:
    """Bytes at the peak of each phase (encode, denoise, decode; a model of pixels has no decoder), without the weights."""
    peaks: dict[str, int] = {}

    def ends(phase: str) -> None:
        peaks[phase] = max(peaks.get(phase, 0), live.peak)
        live.restart()

    for pipe in (family.pipe, *family.parts.values()):
        for name in ("vae", "movq"):
            if (part := pipe.components.get(name)) is not None:
                part.decode = between(part.decode, lambda: ends("denoise"), lambda: ends("decode"))
    with counted(math) as live:
        items = family.embed(["a cat"] * batch)
        if family.negative_prompts and family.guided:
            family.negative()
        ends("encode")
        generators = [torch.Generator().manual_seed(i) for i in range(batch)]
        with contextlib.suppress(NotImplementedError):  # a copy to the host, the last thing that a pipeline with output "np" does
            family.draw(items, generators)
        ends("decode" if "decode" in peaks else "denoise")
    return peaks


def between(call, before, after):
    def wrapped(*args, **kwargs):
        before()
        try:
            return call(*args, **kwargs)
        finally:
            after()

    return wrapped
