"""The presets of conf/model in their true shapes: the published values of each component's config. No weights: built on the meta device.

Tokenizers are those of the tiny pipelines: what they cut a caption into does not matter, every encoder pads to a fixed length.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from synth.store import identity

HALF = "F16"  # of the headers that are written

CLIP_L = {
    "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "projection_dim": 768, "hidden_act": "quick_gelu",
}  # fmt: skip
CLIP_H = CLIP_L | {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16, "projection_dim": 512,
    "hidden_act": "gelu",
}  # fmt: skip
CLIP_G = CLIP_L | {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20, "projection_dim": 1280,
    "hidden_act": "gelu",
}  # fmt: skip
T5_XXL = {
    "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu",
}  # fmt: skip
PILE_T5_XL = T5_XXL | {"d_model": 2048, "d_ff": 5120, "num_heads": 32}
CHATGLM3 = {
    "num_layers": 28, "padded_vocab_size": 65024, "hidden_size": 4096, "ffn_hidden_size": 13696, "kv_channels": 128,
    "num_attention_heads": 32, "seq_length": 8192, "multi_query_attention": True, "multi_query_group_num": 2, "add_qkv_bias": True,
    "original_rope": True,
}  # fmt: skip
GLM4 = {
    "vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40, "num_attention_heads": 32,
    "num_key_value_heads": 2, "head_dim": 128, "pad_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
VIT_G = {
    "hidden_size": 1664, "intermediate_size": 8192, "num_hidden_layers": 48, "num_attention_heads": 16, "patch_size": 14,
    "image_size": 224, "projection_dim": 1280,
}  # fmt: skip

VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "norm_num_groups": 32,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
VAE_16 = VAE | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": 0.06}
VAE_COGVIEW = VAE_16 | {"block_out_channels": (128, 512, 1024, 1024), "layers_per_block": 3, "mid_block_add_attention": False}
VAE_X4 = VAE | {
    "block_out_channels": (128, 256, 512), "down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3,
}  # fmt: skip
MOVQ = {
    "block_out_channels": (128, 256, 256, 512), "layers_per_block": 2, "latent_channels": 4, "vq_embed_dim": 4, "num_vq_embeddings": 16384,
    "norm_type": "spatial", "norm_num_groups": 32,
    "down_block_types": ("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
    "up_block_types": ("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
}  # fmt: skip

UNET_1 = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}  # the rest is diffusers' own default
UNET_2 = {"sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
UNET_XL = {
    "sample_size": 128, "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10), "cross_attention_dim": 2048, "use_linear_projection": True,
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
UNET_KOLORS = UNET_XL | {"encoder_hid_dim": 4096, "encoder_hid_dim_type": "text_proj", "projection_class_embeddings_input_dim": 5632}
RESNET = {"layers_per_block": 3, "attention_head_dim": 64, "resnet_time_scale_shift": "scale_shift"}
FREE = RESNET | {
    "down_block_types": ("ResnetDownsampleBlock2D",) + ("SimpleCrossAttnDownBlock2D",) * 3,
    "up_block_types": ("SimpleCrossAttnUpBlock2D",) * 3 + ("ResnetUpsampleBlock2D",),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
}  # fmt: skip
UNET_KANDINSKY = FREE | {
    "sample_size": 64, "in_channels": 4, "out_channels": 8, "block_out_channels": (384, 768, 1152, 1536), "cross_attention_dim": 768,
    "addition_embed_type": "image", "encoder_hid_dim": 1280, "encoder_hid_dim_type": "image_proj",
}  # fmt: skip
UNET_KARLO = FREE | {
    "sample_size": 64, "in_channels": 3, "out_channels": 6, "block_out_channels": (320, 640, 960, 1280), "cross_attention_dim": 1536,
    "class_embed_type": "identity",
}  # fmt: skip
ENLARGER_KARLO = {
    "sample_size": 256, "in_channels": 6, "out_channels": 3, "layers_per_block": 3, "block_out_channels": (320, 640, 960, 1280),
    "down_block_types": ("ResnetDownsampleBlock2D",) * 4, "up_block_types": ("ResnetUpsampleBlock2D",) * 4, "add_attention": False,
    "resnet_time_scale_shift": "scale_shift",
}  # fmt: skip
UNET_IF = FREE | {
    "sample_size": 64, "in_channels": 3, "out_channels": 6, "block_out_channels": (704, 1408, 2112, 2816), "cross_attention_dim": 2816,
    "encoder_hid_dim": 4096, "encoder_hid_dim_type": "text_proj", "addition_embed_type": "text", "addition_embed_type_num_heads": 64,
    "cross_attention_norm": "group_norm", "act_fn": "gelu",
}  # fmt: skip
UNET_X4 = {
    "sample_size": 128, "in_channels": 7, "out_channels": 4, "block_out_channels": (256, 512, 512, 1024), "cross_attention_dim": 1024,
    "attention_head_dim": 8, "num_class_embeds": 1000, "use_linear_projection": True,
    "only_cross_attention": (True, True, True, False),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip

SD3 = {
    "sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 24, "attention_head_dim": 64,
    "num_attention_heads": 24, "joint_attention_dim": 4096, "caption_projection_dim": 1536, "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}  # fmt: skip
SD35 = SD3 | {"dual_attention_layers": tuple(range(13)), "qk_norm": "rms_norm", "pos_embed_max_size": 384}
FLUX = {"patch_size": 1, "in_channels": 64, "num_layers": 19, "num_single_layers": 38}  # the rest is diffusers' own default
AURAFLOW = {
    "sample_size": 64, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_mmdit_layers": 4, "num_single_dit_layers": 32,
    "attention_head_dim": 256, "num_attention_heads": 12, "joint_attention_dim": 2048, "caption_projection_dim": 3072,
    "pos_embed_max_size": 9216,
}  # fmt: skip
PIXART = {
    "sample_size": 128, "patch_size": 2, "in_channels": 4, "out_channels": 8, "num_layers": 28, "attention_head_dim": 72,
    "num_attention_heads": 16, "cross_attention_dim": 1152, "caption_channels": 4096, "use_additional_conditions": False,
}  # fmt: skip
COGVIEW4 = {
    "sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 28, "attention_head_dim": 128,
    "num_attention_heads": 32, "text_embed_dim": 4096, "time_embed_dim": 512, "condition_dim": 256, "rope_axes_dim": (256, 256),
}  # fmt: skip


def module(cls: str, config: Mapping[str, Any]):
    """A module of diffusers or transformers without weights."""
    import diffusers
    import torch
    import transformers
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel

    with torch.device("meta"):
        if cls == "ChatGLMModel":
            return ChatGLMModel(ChatGLMConfig(**config), empty_init=False).eval()
        if cls == "UnCLIPTextProjModel":
            return UnCLIPTextProjModel(**config).eval()
        if hasattr(diffusers, cls):
            return getattr(diffusers, cls)(**config).eval()
        own = getattr(transformers, cls)
        return own(own.config_class(**config)).eval()


def words(folder: Path, kind: str):
    from tests.images import tiny, tiny_more

    return {
        "clip": lambda: tiny.clip_tokenizer(folder),
        "t5": lambda: tiny.t5_tokenizer(512),
        "chatglm": lambda: tiny_more.chatglm_tokenizer(folder),
        "glm": tiny_more.glm_tokenizer,
    }[kind]()


CLIP_LP, CLIP_GP = ("CLIPTextModelWithProjection", CLIP_L), ("CLIPTextModelWithProjection", CLIP_G)
T5, SMALL_VAE = ("T5EncoderModel", T5_XXL), ("AutoencoderKL", VAE)
XL_VAE = ("AutoencoderKL", VAE | {"force_upcast": True})
PRIOR = ("PriorTransformer", {})  # diffusers' own default


def _sd(unet: Mapping, text: Mapping) -> dict:
    return {"unet": ("UNet2DConditionModel", unet), "vae": SMALL_VAE, "text_encoder": ("CLIPTextModel", text), "tokenizer": "clip"}


def _xl(**more: Any) -> dict:
    both = {"text_encoder": ("CLIPTextModel", CLIP_L), "text_encoder_2": CLIP_GP, "tokenizer": "clip", "tokenizer_2": "clip"}
    return {"unet": ("UNet2DConditionModel", UNET_XL), "vae": XL_VAE, **both, **more}


def _sd3(transformer: Mapping) -> dict:
    texts = {"text_encoder": CLIP_LP, "text_encoder_2": CLIP_GP, "text_encoder_3": T5}
    words = {"tokenizer": "clip", "tokenizer_2": "clip", "tokenizer_3": "t5"}
    return {"transformer": ("SD3Transformer2DModel", transformer), "vae": ("AutoencoderKL", VAE_16), **texts, **words}


def _flux(guidance: bool) -> dict:
    texts = {"text_encoder": ("CLIPTextModel", CLIP_L), "text_encoder_2": T5, "tokenizer": "clip", "tokenizer_2": "t5"}
    return {
        "transformer": ("FluxTransformer2DModel", FLUX | {"guidance_embeds": guidance}),
        "vae": ("AutoencoderKL", VAE_16),
        **texts,
    }


# preset -> its folder: (pipeline class, component -> (class, config), or the kind of a tokenizer); further folders of a chain by name
FOLDERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "sd14": ("StableDiffusionPipeline", _sd(UNET_1, CLIP_L)),
    "sd15": ("StableDiffusionPipeline", _sd(UNET_1, CLIP_L)),
    "sd21": ("StableDiffusionPipeline", _sd(UNET_2, CLIP_H)),
    "sdxl": ("StableDiffusionXLPipeline", _xl()),
    "sdxl_turbo": ("StableDiffusionXLPipeline", _xl(unet=("UNet2DConditionModel", UNET_XL | {"sample_size": 64}))),
    "sd3": ("StableDiffusion3Pipeline", _sd3(SD3)),
    "sd35": ("StableDiffusion3Pipeline", _sd3(SD35)),
    "flux_dev": ("FluxPipeline", _flux(True)),
    "flux_schnell": ("FluxPipeline", _flux(False)),
    "auraflow": (
        "AuraFlowPipeline",
        {
            "transformer": ("AuraFlowTransformer2DModel", AURAFLOW),
            "vae": XL_VAE,
            "text_encoder": ("UMT5EncoderModel", PILE_T5_XL),
            "tokenizer": "t5",
        },
    ),
    "pixart_sigma": (
        "PixArtSigmaPipeline",
        {"transformer": ("PixArtTransformer2DModel", PIXART), "vae": SMALL_VAE, "text_encoder": T5, "tokenizer": "t5"},
    ),
    "kolors": (
        "KolorsPipeline",
        {
            "unet": ("UNet2DConditionModel", UNET_KOLORS),
            "vae": XL_VAE,
            "text_encoder": ("ChatGLMModel", CHATGLM3),
            "tokenizer": "chatglm",
        },
    ),
    "cogview4": (
        "CogView4Pipeline",
        {
            "transformer": ("CogView4Transformer2DModel", COGVIEW4),
            "vae": ("AutoencoderKL", VAE_COGVIEW),
            "text_encoder": ("GlmModel", GLM4),
            "tokenizer": "glm",
        },
    ),
    "kandinsky22": ("KandinskyV22Pipeline", {"unet": ("UNet2DConditionModel", UNET_KANDINSKY), "movq": ("VQModel", MOVQ)}),
    "kandinsky22.prior": (
        "KandinskyV22PriorPipeline",
        {
            "prior": ("PriorTransformer", {"embedding_dim": 1280}),
            "image_encoder": ("CLIPVisionModelWithProjection", VIT_G),
            "text_encoder": CLIP_GP,
            "tokenizer": "clip",
        },
    ),
    "karlo": (
        "UnCLIPPipeline",
        {
            "prior": PRIOR,
            "decoder": ("UNet2DConditionModel", UNET_KARLO),
            "text_encoder": CLIP_LP,
            "tokenizer": "clip",
            "text_proj": ("UnCLIPTextProjModel", {"time_embed_dim": 1280, "cross_attention_dim": 1536}),
            "super_res_first": ("UNet2DModel", ENLARGER_KARLO),
            "super_res_last": ("UNet2DModel", ENLARGER_KARLO),
        },
    ),
    "floyd": ("IFPipeline", {"unet": ("UNet2DConditionModel", UNET_IF), "text_encoder": T5, "tokenizer": "t5"}),
    "floyd.stage_3": (
        "StableDiffusionUpscalePipeline",
        {
            "unet": ("UNet2DConditionModel", UNET_X4),
            "vae": ("AutoencoderKL", VAE_X4),
            "text_encoder": ("CLIPTextModel", CLIP_H),
            "tokenizer": "clip",
        },
    ),
}


FLOW = ("FluxPipeline", "StableDiffusion3Pipeline", "AuraFlowPipeline", "CogView4Pipeline")


def write(name: str, folder: Path) -> Path:
    """The folder of a pipeline with its true configs, and weight files that have true headers and, but for those, no bytes."""
    kind, components = FOLDERS[name]
    scheduler = "FlowMatchEulerDiscreteScheduler" if kind in FLOW else "DDIMScheduler"
    index: dict[str, Any] = {"_class_name": kind, "scheduler": ["diffusers", scheduler]}
    for part, what in components.items():
        place = folder / part
        if isinstance(what, str):
            index[part] = ["transformers", "CLIPTokenizer"]
            _json(place / "tokenizer_config.json", {})
            continue
        built = module(*what)
        where = type(built).__module__.split(".")
        index[part] = [where[2] if where[1] == "pipelines" else where[0], what[0]]  # a pipeline's own class by the pipeline
        config = built.config.to_dict() if hasattr(built.config, "to_dict") else dict(built.config)
        diffusers = where[0] == "diffusers"
        _json(place / "config.json", config | ({"_class_name": what[0]} if diffusers else {"architectures": [what[0]]}))
        _headers_only(built, place / f"{'diffusion_pytorch_model' if diffusers else 'model'}.safetensors")
    _json(folder / "scheduler" / "scheduler_config.json", {"_class_name": scheduler})
    _json(folder / "model_index.json", index)
    return folder


def _json(file: Path, data: Mapping) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data, default=str))


def _headers_only(built, file: Path) -> None:
    """A .safetensors file with the header of a module's half precision weights; its data are a hole."""
    header, end = {}, 0
    for key, value in {id(v): (k, v) for k, v in built.state_dict(keep_vars=True).items()}.values():
        start, end = end, end + 2 * value.numel()
        header[key] = {"dtype": HALF, "shape": list(value.shape), "data_offsets": [start, end]}
    head = json.dumps(header).encode()
    with open(file, "wb") as f:
        f.write(len(head).to_bytes(8, "little") + head)
        f.truncate(8 + len(head) + end)


def by_first_block(patch: Callable[[Any, str, Any], None]) -> None:
    """From here on a large file is known by its size and its first block: behind the headers that `write` writes lie up to 24 GB of holes.

    patch: monkeypatch.setattr, or setattr.
    """
    whole = identity._hash
    patch(identity, "_hash", lambda file, start, size: hashlib.sha256() if start else whole(file, start, size))
