"""Models of layout labels for tests.bench.layout: the tiny ones of the tests, or random weights in the shapes of published ones."""

import json
from pathlib import Path

NAMES = ("mm_grounding_dino", "sam", "florence2")


def build(root: Path, shapes: str) -> dict[str, Path]:
    """name -> folder of a model, saved with its tokenizer."""
    from tests.layout import tiny

    root.mkdir()
    if shapes == "tiny":
        return {name: getattr(tiny, name)(root / name) for name in NAMES}
    return {name: globals()[f"_{name}"](root / name) for name in NAMES}


def _mm_grounding_dino(folder: Path) -> Path:
    """Swin-T, 900 queries."""
    import transformers as t

    from tests.layout.tiny import bert_tokenizer

    swin = t.SwinConfig(
        image_size=224, embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7,
        out_features=["stage2", "stage3", "stage4"], out_indices=None,
    )  # fmt: skip
    t.MMGroundingDinoForObjectDetection(t.MMGroundingDinoConfig(backbone_config=swin, text_config=t.BertConfig())).save_pretrained(folder)
    bert_tokenizer().save_pretrained(folder)
    return _prepares(folder, {"shortest_edge": 800, "longest_edge": 1333})


def _sam(folder: Path) -> Path:
    """ViT-B."""
    import transformers as t

    t.SamModel(t.SamConfig()).save_pretrained(folder)
    return _prepares(folder, {"longest_edge": 1024})


def _florence2(folder: Path) -> Path:
    """Florence-2 base: DaViT-B and BART-base."""
    import transformers as t

    from tests.layout.tiny import bart_tokenizer

    words = bart_tokenizer()
    text = t.BartConfig(
        vocab_size=51289, d_model=768, encoder_layers=6, decoder_layers=6, encoder_attention_heads=12, decoder_attention_heads=12,
        encoder_ffn_dim=3072, decoder_ffn_dim=3072, max_position_embeddings=4096, decoder_start_token_id=2, forced_bos_token_id=0,
    )  # fmt: skip
    config = t.Florence2Config(
        text_config=text.to_dict(), vision_config=t.Florence2VisionConfig().to_dict(), image_token_id=words.convert_tokens_to_ids("<image>")
    )
    model = t.Florence2ForConditionalGeneration(config)
    model.generation_config.update(decoder_start_token_id=2, forced_bos_token_id=0, eos_token_id=2, pad_token_id=1, max_length=None)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return _prepares(folder, {"height": 768, "width": 768})


def _prepares(folder: Path, size: dict[str, int]) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": size}))
    return folder
