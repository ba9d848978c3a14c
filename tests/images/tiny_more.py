"""More tiny random pipelines of diffusers' own classes, one builder a class: `build` of tests/images/tiny.py finds them."""

from pathlib import Path

from tests.images.tiny import LATENT, SIZE, clip, clip_tokenizer, t5, t5_tokenizer, unet, vae

FREE_ATTENTION = {
    "resnet_time_scale_shift": "scale_shift", "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
}  # fmt: skip


def pixart_sigma(folder: Path):
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    pieces = t5_tokenizer(300)
    denoiser = PixArtTransformer2DModel(
        sample_size=SIZE, patch_size=2, in_channels=4, out_channels=8, num_layers=1, attention_head_dim=8, num_attention_heads=4,
        cross_attention_dim=32, caption_channels=32, use_additional_conditions=False,
    ).eval()  # fmt: skip
    return PixArtSigmaPipeline(pieces, t5(pieces), vae(), denoiser, DPMSolverMultistepScheduler(**LATENT))


def chatglm_tokenizer(folder: Path):
    """ChatGLM3's tokenizer, over a sentencepiece model of single characters."""
    import sentencepiece
    from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer

    letters = "".join(chr(c) for c in range(33, 127))
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "tokenizer.model", "wb") as f:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([letters, " ".join(letters)] * 4), model_writer=f, model_type="char", vocab_size=128,
            character_coverage=1.0, hard_vocab_limit=False, minloglevel=9,
        )  # fmt: skip
    return ChatGLMTokenizer(str(folder / "tokenizer.model"))


def kolors(folder: Path):
    import torch
    from diffusers import EulerDiscreteScheduler, KolorsPipeline
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel

    words = chatglm_tokenizer(folder)
    config = ChatGLMConfig(
        num_layers=2, padded_vocab_size=256, hidden_size=32, ffn_hidden_size=37, kv_channels=8, num_attention_heads=4, seq_length=256,
        multi_query_attention=True, multi_query_group_num=2, add_qkv_bias=True, original_rope=True,
    )  # fmt: skip
    reader = ChatGLMModel(config, empty_init=False).eval()
    for name, weight in reader.named_parameters():
        if weight.ndim == 1:  # its norms are not initialised
            torch.nn.init.constant_(weight, 1.0 if "norm" in name else 0.0)
    denoiser = unet(
        32, encoder_hid_dim=32, encoder_hid_dim_type="text_proj", addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32 + 6 * 8, use_linear_projection=True,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(**LATENT, timestep_spacing="leading", steps_offset=1)
    return KolorsPipeline(vae(), reader, words, denoiser, scheduler)


def kandinsky22(folder: Path):
    from diffusers import DDPMScheduler, KandinskyV22Pipeline, VQModel

    denoiser = unet(
        32, sample_size=8, out_channels=8, encoder_hid_dim=32, encoder_hid_dim_type="image_proj", addition_embed_type="image",
        **FREE_ATTENTION
    )  # fmt: skip
    movq = VQModel(
        block_out_channels=(32, 32), norm_num_groups=8, latent_channels=4, vq_embed_dim=4, num_vq_embeddings=12, norm_type="spatial",
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"), up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
    ).eval()  # fmt: skip
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, variance_type="learned_range", clip_sample=True)
    return KandinskyV22Pipeline(denoiser, scheduler, movq)


def _prior():
    from diffusers import PriorTransformer

    return PriorTransformer(num_attention_heads=2, attention_head_dim=8, embedding_dim=32, num_layers=1).eval()


def _prior_scheduler():
    from diffusers import UnCLIPScheduler

    return UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0)


def kandinsky22_prior(folder: Path):
    from diffusers import KandinskyV22PriorPipeline
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    words = clip_tokenizer(folder)
    config = CLIPVisionConfig(
        hidden_size=32, projection_dim=32, image_size=16, patch_size=8, intermediate_size=37, num_hidden_layers=1, num_attention_heads=4
    )  # fmt: skip
    eye, cutter = CLIPVisionModelWithProjection(config).eval(), CLIPImageProcessor(size=16, crop_size=16)
    return KandinskyV22PriorPipeline(_prior(), eye, clip(words, projection=True), words, _prior_scheduler(), cutter)


def karlo(folder: Path):
    from diffusers import UnCLIPPipeline, UnCLIPScheduler, UNet2DModel
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    words = clip_tokenizer(folder)
    decoder = unet(32, sample_size=8, in_channels=3, out_channels=6, class_embed_type="identity", **FREE_ATTENTION)
    small = {"block_out_channels": (16, 16), "layers_per_block": 1, "norm_num_groups": 8}
    blocks = {"down_block_types": ("ResnetDownsampleBlock2D",) * 2, "up_block_types": ("ResnetUpsampleBlock2D",) * 2}
    enlargers = [UNet2DModel(sample_size=16, in_channels=6, out_channels=3, **small, **blocks).eval() for _ in range(2)]
    project = UnCLIPTextProjModel(clip_embeddings_dim=32, time_embed_dim=64, cross_attention_dim=32).eval()
    schedulers = UnCLIPScheduler(variance_type="learned_range"), UnCLIPScheduler(variance_type="fixed_small_log")
    return UnCLIPPipeline(_prior(), decoder, clip(words, projection=True), words, project, *enlargers, _prior_scheduler(), *schedulers)


def glm_tokenizer():
    """A fast tokenizer of single characters with GLM-4's habits: two marks before the text, padding on the left."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    marks = ["<|endoftext|>", "[gMASK]", "<sop>", "<unk>"]
    vocab = {t: i for i, t in enumerate([*marks, *(chr(c) for c in range(32, 127))])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing("[gMASK] <sop> $A", None, [("[gMASK]", 1), ("<sop>", 2)])
    names = {"pad_token": marks[0], "eos_token": marks[0], "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, padding_side="left", model_max_length=1024)


def cogview4(folder: Path):
    from diffusers import CogView4Pipeline, CogView4Transformer2DModel, FlowMatchEulerDiscreteScheduler
    from transformers import GlmConfig, GlmModel

    words = glm_tokenizer()
    config = GlmConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, pad_token_id=0, eos_token_id=0,
    )  # fmt: skip
    denoiser = CogView4Transformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4, text_embed_dim=32,
        time_embed_dim=16, condition_dim=8, sample_size=SIZE, rope_axes_dim=(32, 32),
    ).eval()  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, time_shift_type="linear")
    return CogView4Pipeline(words, GlmModel(config).eval(), vae(), denoiser, scheduler)
