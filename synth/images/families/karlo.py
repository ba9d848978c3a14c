"""Karlo (unCLIP): a prior draws a CLIP embedding of the caption, a decoder 64x64 pixels of it, and two more models enlarge
them to 256x256.

All in one folder. Guidance scale and steps are the decoder's; the prior takes as many steps, at its makers' own scale.
"""

from collections.abc import Mapping, Sequence

from synth.images.families.base import Embedded, Family
from synth.keys import WrongKey

PRIOR_SCALE = 4.0  # of its makers
SUPER_RES_STEPS = 7  # what the last stage was distilled to
_TEXT = ("text_embeds", "hidden_states", "text_mask")


class Karlo(Family):
    schedulers = frozenset()  # three of its own kind
    negative_prompts = False  # the pipeline knows the empty one alone
    halves_in_one_call = False  # its denoisers go by other names than the guidance interval looks for
    embeds = False  # all but the empty caption, which the pipeline encodes for itself
    output = "np"

    @classmethod
    def before_loading(cls) -> None:
        """Repositories give "unclip" as the module of a component; diffusers has moved it since, and would not find it."""
        from diffusers import pipelines
        from diffusers.pipelines.deprecated import unclip

        pipelines.unclip = unclip

    @classmethod
    def native_size(cls, model) -> tuple[int, int] | None:
        size = model.component_config("super_res_first").get("sample_size")
        return (size, size) if isinstance(size, int) else None

    @classmethod
    def check(cls, model, config) -> None:
        super().check(model, config)
        for key, native in zip(("height", "width"), cls.native_size(model) or (), strict=False):
            if (value := getattr(config, key)) != native:
                raise WrongKey(key, value, f"{model.name} draws {native}x{native} pixels and no other size", "save_size stores another")
        if config.steps < 2:
            raise WrongKey("steps", config.steps, f"the schedulers of {model.name} need at least 2")

    def encode(self, texts: list[str]) -> Mapping[str, object]:
        return dict(zip(_TEXT, self.pipe._encode_prompt(texts, self.pipe.device, 1, False), strict=True))

    def text(self, items: Sequence[Embedded]) -> dict:
        import torch

        embeds, hidden, mask = (torch.stack([i.tensors[name] for i in items]) for name in _TEXT)  # [B, D], [B, T, D], [B, T]
        return {"text_model_output": (embeds, hidden), "text_attention_mask": mask}

    def call(self, pipe, text: Mapping, generators: list, **more):
        config = self.config
        settings = {
            "prior_num_inference_steps": config.steps,
            "decoder_num_inference_steps": config.steps,
            "super_res_num_inference_steps": SUPER_RES_STEPS,
            "prior_guidance_scale": PRIOR_SCALE if self.guided else 1.0,
            "decoder_guidance_scale": config.guidance_scale if self.guided else 1.0,
        }
        return super().call(pipe, text, generators, **settings, **more)
