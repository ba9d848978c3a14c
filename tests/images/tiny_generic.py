"""Tiny random pipelines that no family knows, of diffusers' own classes: `build` of tests/images/tiny.py finds them."""

from pathlib import Path

from tests.images.tiny import SIZE, t5, t5_tokenizer, vae

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"


def words():
    """A tokenizer of bytes in Qwen's layout, with a chat template."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    letters = sorted(ByteLevel.alphabet())
    vocab = {t: i for i, t in enumerate([*letters, "<|endoftext|>", "<|im_start|>", "<|im_end|>"])}
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=[], model_max_length=512)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def flow():
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler()


def chroma(folder: Path):
    from diffusers import ChromaPipeline, ChromaTransformer2DModel

    pieces = t5_tokenizer(64)
    denoiser = ChromaTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 4, 8), approximator_num_channels=8, approximator_hidden_dim=8, approximator_layers=1,
    ).eval()  # fmt: skip
    latents = vae(shift_factor=0.1, scaling_factor=0.36, use_quant_conv=False, use_post_quant_conv=False)
    return ChromaPipeline(flow(), latents, t5(pieces), pieces, denoiser)


def klein(folder: Path, distilled: bool = False):
    from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = words()
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=28, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    denoiser = Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=3 * 16, timestep_guidance_channels=256, axes_dims_rope=[4, 4, 4, 4], guidance_embeds=False,
    ).eval()  # fmt: skip
    latents = AutoencoderKLFlux2(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, sample_size=2 * SIZE, use_quant_conv=False,
        use_post_quant_conv=False, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip
    return Flux2KleinPipeline(flow(), latents, Qwen3ForCausalLM(config).eval(), tokenizer, denoiser, is_distilled=distilled)


def klein_distilled(folder: Path):
    return klein(folder, distilled=True)


def qwen(folder: Path):
    from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = words()
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 2, "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
            "rope_theta": 1000000.0,
        },
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16},
        vision_start_token_id=0, vision_end_token_id=1, vision_token_id=2, image_token_id=3, video_token_id=4,
    )  # fmt: skip
    denoiser = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, guidance_embeds=False, axes_dims_rope=(4, 6, 6),
    ).eval()  # fmt: skip
    latents = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False], latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    ).eval()  # fmt: skip
    return QwenImagePipeline(flow(), latents, Qwen2_5_VLForConditionalGeneration(config).eval(), tokenizer, denoiser)


def sana(folder: Path):
    from diffusers import AutoencoderDC, SanaPipeline, SanaTransformer2DModel
    from transformers import Gemma2Config, Gemma2Model

    tokenizer = words()
    config = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, head_dim=8,
        num_key_value_heads=2,
    )  # fmt: skip
    denoiser = SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2, num_cross_attention_heads=2,
        cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=16, sample_size=4, mlp_ratio=2.0,
    ).eval()  # fmt: skip
    latents = AutoencoderDC(
        in_channels=3, latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)), encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=[1, 1], downsample_block_type="conv", upsample_block_type="interpolate",
        decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41407,
    ).eval()  # fmt: skip
    return SanaPipeline(tokenizer, Gemma2Model(config).eval(), latents, denoiser, flow())


def hunyuan(folder: Path):
    """Its true sizes of text: 77 tokens of BERT, 256 of T5."""
    from diffusers import DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline
    from transformers import BertConfig, BertModel, BertTokenizer

    letters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    vocab = {t: i for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters)])}
    tokenizer, pieces = BertTokenizer(vocab=vocab, model_max_length=77), t5_tokenizer()
    config = BertConfig(
        vocab_size=len(vocab), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=37, max_position_embeddings=77
    )
    denoiser = HunyuanDiT2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, patch_size=2, sample_size=4, hidden_size=16, num_layers=2,
        cross_attention_dim=32, cross_attention_dim_t5=32, pooled_projection_dim=16,
    ).eval()  # fmt: skip
    return HunyuanDiTPipeline(
        vae(levels=4), BertModel(config).eval(), tokenizer, denoiser, DDPMScheduler(), None, None, False, t5(pieces), pieces
    )
