"""A tiny CLIP in transformers' layout, written without torch: the same bytes on every machine and with all versions.

tests/fixtures_clip.py makes one as transformers does, with weights by torch's normal draws; those depend on the CPU.
"""

import json
import random
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

SIDE, PATCH, WIDTH, MLP, FEATURES, LENGTH = (
    16,
    4,
    16,
    24,
    12,
    32,
)  # pixels, pixels, numbers of a token, of its MLP, of a feature; tokens
LETTERS = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
VOCAB = [*LETTERS, *(c + "</w>" for c in LETTERS), "<|startoftext|>", "<|endoftext|>"]


def build_clip(path: Path) -> Path:
    """Write the folder: one layer of text, one of pictures, byte pairs without merges."""
    path.mkdir(parents=True)
    layers = {"hidden_size": WIDTH, "intermediate_size": MLP, "num_hidden_layers": 1, "num_attention_heads": 2}
    start, end = len(VOCAB) - 2, len(VOCAB) - 1
    text = {
        "vocab_size": len(VOCAB),
        "max_position_embeddings": LENGTH,
        "bos_token_id": start,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    vision = {"image_size": SIDE, "patch_size": PATCH}
    config = {"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": FEATURES, "dtype": "float32"}
    files = {
        "config.json": config | {"text_config": layers | text, "vision_config": layers | vision},
        "vocab.json": {token: number for number, token in enumerate(VOCAB)},
        "tokenizer_config.json": {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH},
    }
    for name, content in files.items():
        (path / name).write_text(json.dumps(content))
    (path / "merges.txt").write_text("#version: 0.2\n")
    (path / "model.safetensors").write_bytes(_safetensors(dict(_weights())))
    return path


def _weights() -> Iterator[tuple[str, tuple[tuple[int, ...], array]]]:
    """(name, (shape, numbers)): norms and biases as new, all others drawn evenly from multiples of 1/512 in [-1/4, 1/4)."""
    rng = random.Random(0)

    def drawn(name: str, *shape: int) -> tuple[str, tuple[tuple[int, ...], array]]:
        n = 1
        for side in shape:
            n *= side
        return name, (shape, array("f", ((rng.getrandbits(8) - 128) / 512 for _ in range(n))))

    def constant(name: str, n: int, value: float) -> tuple[str, tuple[tuple[int, ...], array]]:
        return name, ((n,), array("f", [value] * n))

    yield "logit_scale", ((), array("f", [2.625]))
    yield drawn("text_model.embeddings.token_embedding.weight", len(VOCAB), WIDTH)
    yield drawn("text_model.embeddings.position_embedding.weight", LENGTH, WIDTH)
    yield drawn("vision_model.embeddings.class_embedding", WIDTH)
    yield drawn("vision_model.embeddings.patch_embedding.weight", WIDTH, 3, PATCH, PATCH)
    yield drawn("vision_model.embeddings.position_embedding.weight", (SIDE // PATCH) ** 2 + 1, WIDTH)
    for side in ("text", "vision"):
        layer = f"{side}_model.encoder.layers.0"
        linear = [(f"self_attn.{name}_proj", WIDTH, WIDTH) for name in "qkv"]
        for name, rows, columns in (
            *linear,
            ("self_attn.out_proj", WIDTH, WIDTH),
            ("mlp.fc1", MLP, WIDTH),
            ("mlp.fc2", WIDTH, MLP),
        ):
            yield drawn(f"{layer}.{name}.weight", rows, columns)
            yield constant(f"{layer}.{name}.bias", rows, 0.0)
        outer = ("text_model.final_layer_norm",) if side == "text" else ("vision_model.pre_layrnorm", "vision_model.post_layernorm")
        for norm in (f"{layer}.layer_norm1", f"{layer}.layer_norm2", *outer):  # "layrnorm" is transformers' own
            yield constant(f"{norm}.weight", WIDTH, 1.0)
            yield constant(f"{norm}.bias", WIDTH, 0.0)
    yield drawn("text_projection.weight", FEATURES, WIDTH)
    yield drawn("visual_projection.weight", FEATURES, WIDTH)


def _safetensors(weights: dict[str, tuple[tuple[int, ...], array]]) -> bytes:
    """Length of the header, header, numbers in the order of the header (little endian, as this machine's arrays are)."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (shape, numbers) in weights.items():
        size = 4 * len(numbers)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    told = json.dumps(header).encode()
    told += b" " * (-len(told) % 8)
    return struct.pack("<Q", len(told)) + told + b"".join(numbers.tobytes() for _, numbers in weights.values())
