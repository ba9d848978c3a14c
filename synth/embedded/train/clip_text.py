"""The image model's text side: a CLIPTokenizer whose vocabulary is the caption grammar, and a small CLIPTextModel."""

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from synth.embedded.pictures import grammar

LENGTH = 32  # tokens; the longest grammar caption has 23


def train_tokenizer(texts: list[str], folder: Path, size: int = 600) -> CLIPTokenizer:
    """Byte-level BPE in CLIP's form: every word of the grammar becomes one token, anything else falls back to bytes."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", behavior="removed"),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False)
    )
    merges = [tuple(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]
    tokens = alphabet + [letter + "</w>" for letter in alphabet]
    tokens += [a + b for a, b in merges if a + b not in tokens]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    clip_tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH)
    clip_tokenizer.save_pretrained(folder)
    return clip_tokenizer


def grammar_texts(count: int = 4000, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [grammar.sample(rng).caption for _ in range(count)]


def text_model(tokenizer: CLIPTokenizer, width: int = 128) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            projection_dim=width,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def encode(tokenizer: CLIPTokenizer, texts: list[str]) -> np.ndarray:
    """int16 [N, LENGTH], padded as StableDiffusionPipeline pads."""
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH)["input_ids"]
    return np.asarray(ids, np.int16)
