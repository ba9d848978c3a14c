"""Tiny random pipelines of diffusers' own classes, saved as folders: one builder a class."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path

SIZE = 16  # latents a side that the denoisers say they were trained on


def clip_tokenizer(folder: Path):
    """A CLIP tokenizer of single characters."""
    from transformers import CLIPTokenizer

    letters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    vocab = letters + [c + "</w>" for c in letters] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocab)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def t5_tokenizer(limit: int = 256):
    """A T5 tokenizer of single characters."""
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("\u2581", -2.0)]
    pieces += [(chr(c), -3.0) for c in range(33, 127)] + [("\u2581" + chr(c), -2.5) for c in range(97, 123)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=limit)


def clip(tokenizer, width: int = 32, projection: bool = False):
    """A CLIP text encoder, with a projection as large as its width if asked for."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def t5(tokenizer, width: int = 32, cls: str = "T5"):
    import transformers

    config = getattr(transformers, f"{cls}Config")(
        vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return getattr(transformers, f"{cls}EncoderModel")(config).eval()


def vae(channels: int = 4, levels: int = 2, **more):
    """A VAE that shrinks by 2 for each level but the first."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16,) * levels, norm_num_groups=8, latent_channels=channels, sample_size=2 * SIZE,
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels, **more,
    ).eval()  # fmt: skip


def unet(cross: int = 32, **more):
    from diffusers import UNet2DConditionModel

    config = {
        "sample_size": SIZE, "in_channels": 4, "out_channels": 4, "block_out_channels": (16, 32), "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": cross, "attention_head_dim": 8, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    return UNet2DConditionModel(**config | more).eval()


LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def sd(folder: Path, prediction: str = "epsilon"):
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    words = clip_tokenizer(folder)
    scheduler = DDIMScheduler(**LATENT, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=prediction)
    return StableDiffusionPipeline(vae(), clip(words), words, unet(), scheduler, None, None, requires_safety_checker=False)


def sd_v(folder: Path):
    """As Stable Diffusion 2.1: predicts velocity."""
    return sd(folder, "v_prediction")


def lcm(folder: Path):
    """A pipeline that has no family of its own: guidance is an input of its U-Net."""
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler

    words = clip_tokenizer(folder)
    scheduler = LCMScheduler(**LATENT, clip_sample=False, set_alpha_to_one=True)
    parts = vae(), clip(words), words, unet(time_cond_proj_dim=8), scheduler
    return LatentConsistencyModelPipeline(*parts, None, None, requires_safety_checker=False)


def sdxl(folder: Path, turbo: bool = False):
    from diffusers import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, StableDiffusionXLPipeline

    words = clip_tokenizer(folder)
    cls = EulerAncestralDiscreteScheduler if turbo else EulerDiscreteScheduler
    scheduler = cls(**LATENT, timestep_spacing="trailing" if turbo else "leading", steps_offset=1)
    denoiser = unet(
        64, addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=32 + 6 * 8,
        transformer_layers_per_block=(1, 1), use_linear_projection=True,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae(), clip(words), clip(words, projection=True), words, words, denoiser, scheduler, force_zeros_for_empty_prompt=True,
        add_watermarker=False
    )  # fmt: skip


def sdxl_turbo(folder: Path):
    return sdxl(folder, turbo=True)


def sdxl_refiner(folder: Path):
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline

    words = clip_tokenizer(folder)
    denoiser = unet(
        32, addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=32 + 5 * 8,
        use_linear_projection=True,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(**LATENT, timestep_spacing="leading", steps_offset=1)
    return StableDiffusionXLImg2ImgPipeline(
        vae(), None, clip(words, projection=True), None, words, denoiser, scheduler,
        requires_aesthetics_score=True, force_zeros_for_empty_prompt=False, add_watermarker=False,
    )  # fmt: skip


def sd3(folder: Path, stochastic: bool = False):
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    words, pieces = clip_tokenizer(folder), t5_tokenizer()
    denoiser = SD3Transformer2DModel(
        sample_size=SIZE, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=64, caption_projection_dim=32, pooled_projection_dim=64, pos_embed_max_size=32,
    ).eval()  # fmt: skip
    return StableDiffusion3Pipeline(
        denoiser, FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=stochastic), vae(shift_factor=0.06, scaling_factor=1.5),
        clip(words, projection=True), words, clip(words, projection=True), words, t5(pieces, 64), pieces,
    )  # fmt: skip


def sd3_stochastic(folder: Path):
    """A scheduler that draws noise at every step, in a pipeline that hands no generator on."""
    return sd3(folder, stochastic=True)


def flux(folder: Path, guidance: bool = False):
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    words, pieces = clip_tokenizer(folder), t5_tokenizer(512)
    denoiser = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32, axes_dims_rope=(4, 4, 8), guidance_embeds=guidance,
    ).eval()  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0 if guidance else 1.0, use_dynamic_shifting=guidance)
    latents = vae(shift_factor=0.1, scaling_factor=0.36, use_quant_conv=False, use_post_quant_conv=False)
    return FluxPipeline(scheduler, latents, clip(words), words, t5(pieces), pieces, denoiser)


def flux_dev(folder: Path):
    return flux(folder, guidance=True)


def auraflow(folder: Path):
    from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel, FlowMatchEulerDiscreteScheduler

    pieces = t5_tokenizer()
    denoiser = AuraFlowTransformer2DModel(
        sample_size=SIZE, patch_size=2, in_channels=4, out_channels=4, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=32, caption_projection_dim=32, pos_embed_max_size=256,
    ).eval()  # fmt: skip
    return AuraFlowPipeline(pieces, t5(pieces, cls="UMT5"), vae(), denoiser, FlowMatchEulerDiscreteScheduler(shift=1.73))


def _if_unet(**more):
    return unet(
        32, out_channels=6, sample_size=8, encoder_hid_dim=32, encoder_hid_dim_type="text_proj", addition_embed_type="text",
        addition_embed_type_num_heads=2, cross_attention_norm="group_norm", resnet_time_scale_shift="scale_shift", act_fn="gelu",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), **more,
    )  # fmt: skip


def _if_scheduler():
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", thresholding=True, dynamic_thresholding_ratio=0.95, sample_max_value=1.5,
        variance_type="learned_range"
    )  # fmt: skip


def floyd(folder: Path):
    from diffusers import IFPipeline

    pieces = t5_tokenizer(77)
    return IFPipeline(pieces, t5(pieces), _if_unet(in_channels=3), _if_scheduler(), None, None, None, requires_safety_checker=False)


def floyd_2(folder: Path):
    from diffusers import DDPMScheduler, IFSuperResolutionPipeline

    pieces = t5_tokenizer(77)
    denoiser = _if_unet(in_channels=6, class_embed_type="timestep")
    noising = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    return IFSuperResolutionPipeline(
        pieces, t5(pieces), denoiser, _if_scheduler(), noising, None, None, None, requires_safety_checker=False
    )


def floyd_3(folder: Path):
    from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableDiffusionUpscalePipeline

    words = clip_tokenizer(folder)
    decoder = AutoencoderKL(
        block_out_channels=(8, 8, 8), norm_num_groups=4, latent_channels=4, sample_size=32, scaling_factor=0.08333,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
    ).eval()  # fmt: skip
    denoiser = unet(32, in_channels=7, num_class_embeds=1000)
    scheduler = DDIMScheduler(**LATENT, clip_sample=False, prediction_type="v_prediction")
    return StableDiffusionUpscalePipeline(decoder, clip(words), words, denoiser, DDPMScheduler(), scheduler, max_noise_level=350)


def build(name: str, folder: Path) -> Path:
    """Save the pipeline of a builder of this module, tiny_more or tiny_generic at `folder`, with weights that depend on its name alone."""
    import torch

    modules = [importlib.import_module(f"tests.images.{m}") for m in ("tiny", "tiny_more", "tiny_generic")]
    maker: Callable = next(getattr(module, name) for module in modules if hasattr(module, name))
    torch.manual_seed(sum(name.encode()))
    pipe = maker(folder)
    spread(pipe)
    pipe.save_pretrained(folder)
    for file in ("vocab.json", "merges.txt", "tokenizer.model"):
        (folder / file).unlink(missing_ok=True)
    if name == "karlo":  # published folders were saved by a diffusers that called its module so
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps(index | {"text_proj": ["unclip", "UnCLIPTextProjModel"]}))
    return folder


def spread(pipe) -> None:
    """Weights so large that captions, noise and steps all show in the picture; fresh transformers start with zeros."""
    import torch

    for module in pipe.components.values():
        if isinstance(module, torch.nn.Module):
            for name, value in module.named_parameters():
                if value.ndim > 1 and ("transformer" in type(module).__name__.lower() or "proj_out" in name):
                    torch.nn.init.normal_(value, std=0.2)
