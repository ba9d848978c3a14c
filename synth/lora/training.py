"""LoRAs on the attention of a U-Net, trained one behind the other by a model that is loaded once (DreamBooth's and DataDream's way).

All that is random (the first weights, the order of the pictures, which of them are mirrored, timesteps, the noise of the VAE and of the
training) comes from generators on the host, by the seed, the LoRA and the place of a row, so a training that is taken up anywhere gives
the same weights: bit for bit on one kind of machine.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synth.errors import InputError, not_trouble
from synth.host.gpu import device, half_dtype
from synth.images.families import family_class
from synth.images.loras import fuse_loras
from synth.images.pipeline import load, out_of_memory
from synth.images.schedulers import DEFAULT
from synth.lora.config import LoraConfig
from synth.seeds import derive, generator, torch_generator
from synth.store.files import write_atomic

if TYPE_CHECKING:
    from synth.images.model_folder import ModelFolder

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")  # of self- and cross-attention
DECAY, LARGEST = 1e-2, 1.0  # AdamW's weight decay, and the norm that gradients are cut to: those of diffusers' training scripts
MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW
MEMORY = "a step does not fit on the device: lower lora.batch_size, or set lora.checkpointing=true"


class Trainer:
    """A model whose U-Net has a LoRA; `begin` starts a new one. One at a time: they share the weights."""

    def __init__(self, model: "ModelFolder", config: LoraConfig, settings: Mapping[str, Any]):
        """settings: the stage's numerics. InputError for what cannot be loaded."""
        import torch
        from diffusers import DDPMScheduler
        from peft import LoraConfig as Layers

        self.config, self.on = config, device()
        self.pipe = load(model, DEFAULT, settings, _dtype(config.dtype, self.on))
        if config.model.loras:
            fuse_loras(self.pipe, model.loras, config.model.loras)
        self.family = family_class(model.pipeline)(self.pipe, config, batch=1)  # type: ignore[arg-type]  # it encodes texts, no more
        self.unet, self.vae = self.pipe.unet, self.pipe.vae
        self.scheduler = DDPMScheduler.from_config(self.pipe.scheduler.config)
        for module in (m for m in self.pipe.components.values() if isinstance(m, torch.nn.Module)):
            module.requires_grad_(False)
        self.unet.add_adapter(Layers(r=config.rank, lora_alpha=config.rank, target_modules=list(TARGETS)))
        self.trained = {name: p for name, p in sorted(self.unet.named_parameters()) if p.requires_grad}
        for parameter in self.trained.values():
            parameter.data = parameter.data.float()
        if config.checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.unet.train()

    def begin(self, name: str, pictures: Iterable[np.ndarray], prompts: Sequence[str]) -> "Training":
        """A LoRA from nothing. name: all of its random numbers hang on it. pictures: [S, S, 3] uint8 each, one at a time; prompts: one a
        picture, read when all pictures were."""
        with out_of_memory(MEMORY):
            latents = self._latents(pictures)
            return Training(self, name, latents, self._texts(prompts))

    def _texts(self, prompts: Sequence[str]) -> list[Mapping[str, Any]]:
        """What the U-Net is told beside each picture; by argument of the pipeline."""
        import torch

        with torch.no_grad():
            known = {prompt: self.family.embed([prompt])[0].tensors for prompt in dict.fromkeys(prompts)}
        return [known[prompt] for prompt in prompts]

    def _latents(self, pictures: Iterable[np.ndarray]):
        """(mean, standard deviation) [n, 2, C, h, w] float32 on the host: of each picture, as it is and mirrored. Always in float32."""
        import torch

        self.vae.float()
        found = []
        with torch.no_grad():
            for pixels in pictures:
                both = torch.from_numpy(np.stack([pixels, pixels[:, ::-1]])).permute(0, 3, 1, 2).float() / 127.5 - 1
                one_by_one = [self.vae.encode(each[None].contiguous().to(self.on)).latent_dist for each in both]
                found.append(torch.stack([torch.cat([d.mean, d.std]) for d in one_by_one]).cpu())
        stacked = torch.stack(found)  # [n, 2, 2, C, h, w]
        return stacked[:, :, 0], stacked[:, :, 1]

    def scaled(self, latents):
        """As the U-Net takes them."""
        config = self.vae.config
        return (latents - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor

    def predicted(self, latents, steps, texts: Sequence[Mapping[str, Any]]):
        """What the U-Net says of noisy latents [B, C, h, w] at timesteps [B]: float32."""
        import torch

        told = {name: torch.stack([t[name] for t in texts]) for name in texts[0]}
        more = {}
        if "pooled_prompt_embeds" in told:  # SDXL: uncut pictures of this size, as its pipeline asks for
            side = float(self.config.size)
            ids = torch.tensor([[side, side, 0.0, 0.0, side, side]] * len(texts), dtype=self.unet.dtype, device=self.on)
            more["added_cond_kwargs"] = {"text_embeds": told["pooled_prompt_embeds"], "time_ids": ids}
        sample = latents.to(self.on, self.unet.dtype)
        return self.unet(sample, steps.to(self.on), encoder_hidden_states=told["prompt_embeds"], **more).sample.float()


class Training:
    """A LoRA on its way: `leg` trains some more steps, `save` and `load` keep it between two."""

    def __init__(self, trainer: Trainer, name: str, latents, texts: Sequence[Mapping[str, Any]]):
        self.trainer, self.config, self.name, self.done = trainer, trainer.config, name, 0
        self._mean, self._deviation = latents
        self._texts = texts
        self._orders: dict[int, np.ndarray] = {}
        self.restart()

    def restart(self) -> None:
        """As before the first step: the first matrix of each layer is random, the second one zero, so that nothing is added yet."""
        import torch

        with torch.no_grad():
            for name, parameter in self.trainer.trained.items():
                first = "lora_A" in name
                values = torch.randn(parameter.shape, generator=torch_generator(self._seed("first", name)))
                parameter.copy_(values / self.config.rank if first else torch.zeros_like(values))
        parameters = list(self.trainer.trained.values())
        self._optimizer = torch.optim.AdamW(parameters, lr=self.config.learning_rate, weight_decay=DECAY)
        self.done = 0

    def leg(self, steps: int) -> float:
        """Train so many more steps: their mean loss. InputError where it is no finite number."""
        total = 0.0
        for _ in range(steps):
            total += self._step()
            self.done += 1
            if not math.isfinite(total):
                raise InputError(f"lora: training of {self.name} diverged in step {self.done}: lower lora.learning_rate")
        return total / steps

    def _step(self) -> float:
        import torch

        trainer, batch = self.trainer, self.config.batch_size
        torch.manual_seed(self._seed("dropout", self.done) >> 1)  # of models that have some
        rows = [self._row(self.done * batch + n) for n in range(batch)]
        latents, noise = (torch.stack([row[n] for row in rows]) for n in (0, 1))
        steps = torch.cat([row[2] for row in rows])
        noisy, target = trainer.scheduler.add_noise(latents, noise, steps), self._target(latents, noise, steps)
        with out_of_memory(MEMORY), backward_passes():
            predicted = trainer.predicted(noisy, steps, [self._texts[row[3]] for row in rows])
            loss = torch.nn.functional.mse_loss(predicted, target.to(trainer.on))
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(list(trainer.trained.values()), LARGEST)
            self._optimizer.step()
        return loss.item()

    def _row(self, place: int) -> tuple[Any, Any, Any, int]:
        """(latents, noise, timestep [1], number of its picture) of a row: each epoch shows every picture once."""
        import torch

        epoch, at = divmod(place, len(self._mean))
        if epoch not in self._orders:
            self._orders[epoch] = generator(self._seed("order", epoch)).permutation(len(self._mean))
        picture, own = int(self._orders[epoch][at]), torch_generator(self._seed("row", place))
        mirrored = int(torch.rand(1, generator=own) < 0.5) if self.config.mirror else 0
        step = torch.randint(self.trainer.scheduler.config.num_train_timesteps, (1,), generator=own)
        shape = self._mean.shape[2:]
        sampled = self._mean[picture, mirrored] + self._deviation[picture, mirrored] * torch.randn(shape, generator=own)
        return self.trainer.scaled(sampled), torch.randn(shape, generator=own), step, picture

    def _target(self, latents, noise, steps):
        kind = self.trainer.scheduler.config.prediction_type
        targets: dict[str, Callable] = {
            "epsilon": lambda: noise,
            "v_prediction": lambda: self.trainer.scheduler.get_velocity(latents, noise, steps),
            "sample": lambda: latents,
        }
        return targets[kind]()

    def _seed(self, *path: int | str) -> int:
        return derive(self.config.seed, "lora", self.name, *path)

    # -- what came of it, and what lies between two legs -----------------------------------------------------------------

    def file(self) -> bytes:
        """A .safetensors file as diffusers saves LoRAs, in float16. InputError where that cannot hold it."""
        import torch
        from peft.utils import get_peft_model_state_dict
        from safetensors.torch import save

        layers = get_peft_model_state_dict(self.trainer.unet)
        halves = {f"unet.{name}": tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in layers.items()}
        if not all(tensor.isfinite().all() for tensor in halves.values()):
            raise InputError(f"lora: the weights of {self.name} are no finite numbers in float16: lower lora.learning_rate")
        return save(halves, {"format": "pt"})

    def save(self, path: Path, key: str) -> None:
        """Write what the next step needs, whole or not at all. key: of what is trained; another one's file is not taken for it."""
        from safetensors.torch import save

        tensors = {}
        for name, parameter in self.trainer.trained.items():
            tensors[name] = parameter.detach().cpu()
            tensors |= {f"{moment}:{name}": self._optimizer.state[parameter][moment].cpu() for moment in MOMENTS}
        write_atomic(path, save(tensors, {"key": key, "done": str(self.done)}))

    def load(self, path: Path, key: str, done: int) -> bool:
        """Go on where `done` steps were; whether the file has that. One that is torn, or of something else, is as none."""
        import torch
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "pt") as file:
                if file.metadata() != {"key": key, "done": str(done)}:
                    return False
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except FileNotFoundError:
            return False
        except (OSError, SafetensorError) as e:
            not_trouble(path, e)
            return False
        with torch.no_grad():
            for name, parameter in self.trainer.trained.items():
                parameter.copy_(tensors[name])
                moments = {moment: tensors[f"{moment}:{name}"].to(parameter.device) for moment in MOMENTS}
                self._optimizer.state[parameter] = {"step": torch.tensor(float(done)), **moments}
        self.done = done
        return True


@contextlib.contextmanager
def backward_passes() -> Iterator[None]:
    """Inside, backward passes give the same bits every time where the numerics in force promise bytes; InputError names an operation
    that cannot. While torch only warns of such operations, fused attention adds up its gradients in whatever order they come."""
    import torch

    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode(2 if before else 0)
    try:
        yield
    except RuntimeError as e:
        if before and "deterministic" in str(e):
            reason = "the model has an operation that gives other bits each time; numerics=fast takes it, and promises none"
            raise InputError(f"lora: {reason} ({e})") from e
        raise
    finally:
        torch.set_deterministic_debug_mode(before)


def _dtype(name: str, on) -> str:
    """Of the weights that are not trained. float16 is never taken: gradients vanish in it."""
    import torch

    if name == "auto":
        return "bfloat16" if on.type == "cuda" and half_dtype(on) is torch.bfloat16 else "float32"
    return name
