"""A tiny random SigLIP of transformers' own class, with a tokenizer, saved to a folder. The tiny CLIP is tests.fixtures_clip's."""

import json
from pathlib import Path


def build_tiny_siglip(path: Path, side: int = 16) -> Path:
    """SiglipModel for pictures of `side` pixels; features of 32 numbers."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel

    letters = {c: n for n, c in enumerate(["<pad>", "<unk>", *map(chr, range(33, 127))])}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    torch.manual_seed(2)
    layers = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    text = layers | {"vocab_size": len(letters), "max_position_embeddings": 24, "projection_size": 32} | ends
    SiglipModel(SiglipConfig(text_config=text, vision_config=layers | {"image_size": side, "patch_size": 4})).save_pretrained(path)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps({"size": {"height": side, "width": side}}))
    return path
