"""A tiny random CLIP of transformers' own class, with a tokenizer, saved to a folder."""

import json
from pathlib import Path


def build_tiny_clip(path: Path, side: int = 16) -> Path:
    """CLIPModel of about 60,000 parameters for pictures of `side` pixels; features of 24 numbers."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    letters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    vocab = letters + [c + "</w>" for c in letters] + ["<|startoftext|>", "<|endoftext|>"]
    path.mkdir(parents=True)
    (path / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocab)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(path / "vocab.json"), str(path / "merges.txt"), model_max_length=32)
    torch.manual_seed(1)
    layers = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = layers | {"vocab_size": len(tokenizer), "max_position_embeddings": 32}
    text |= {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(text_config=text, vision_config=layers | {"image_size": side, "patch_size": 4}, projection_dim=24)
    CLIPModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
