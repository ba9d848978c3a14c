"""Pipelines of random weights in the shapes of real ones: speed does not depend on the values."""

from pathlib import Path


def build(name: str, path: Path, device: str, dtype: str) -> Path:
    """Save a pipeline of `name` (sd15, sdxl) to a folder. device "meta" keeps no weights and saves nothing: for counting."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            pipe = {"sd15": _sd15, "sdxl": _sdxl}[name](path)
    finally:
        torch.set_default_dtype(before)
    if device != "meta":
        pipe.save_pretrained(path)
    return pipe if device == "meta" else path


def _text(tokenizer, width: int, layers: int, heads: int, projection: bool):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def _vae(size: int, scale: float):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=size, scaling_factor=scale,
        force_upcast=False,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip


def _scheduler():
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def _sd15(path: Path):
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    from tests.images.tiny import clip_tokenizer

    tokenizer = clip_tokenizer(path)
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)  # diffusers' defaults are SD 1's
    text = _text(tokenizer, 768, 12, 12, False)
    return StableDiffusionPipeline(_vae(512, 0.18215), text, tokenizer, unet, _scheduler(), None, None, requires_safety_checker=False)


def _sdxl(path: Path):
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

    from tests.images.tiny import clip_tokenizer

    tokenizer = clip_tokenizer(path)
    unet = UNet2DConditionModel(
        sample_size=128, block_out_channels=(320, 640, 1280), attention_head_dim=(5, 10, 20), transformer_layers_per_block=(1, 2, 10),
        cross_attention_dim=2048, use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    first, second = _text(tokenizer, 768, 12, 12, False), _text(tokenizer, 1280, 32, 20, True)
    return StableDiffusionXLPipeline(_vae(1024, 0.13025), first, second, tokenizer, tokenizer, unet, _scheduler(), add_watermarker=False)
