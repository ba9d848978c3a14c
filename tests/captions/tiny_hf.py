"""Tiny causal models in transformers' layout: a LLaMA of random weights with a byte-level tokenizer trained in a second."""

import random
from pathlib import Path

from tests.captions.llama.tiny import WORDS

CHAT = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system message') }}{% endif %}" + CHAT


def tokenizer(vocab_size: int = 400):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(0)
    lines = [" ".join(rng.choices(WORDS, k=rng.randint(3, 9))) + "\n" for _ in range(1000)]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")


def save(folder: Path, template: str | None = None, nan: bool = False, positions: int = 512, newline_boost: float = 1.2) -> Path:
    """A model folder. Logits have a standard deviation near 3, so that a nucleus holds a few tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizer()
    words.chat_template = template
    words.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=positions, tie_word_embeddings=False,
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                scale = 1.0 if "embed" in name else (3.0 if "lm_head" in name else 1.0) / weight.shape[1] ** 0.5
                weight.copy_(scale * torch.randn(weight.shape))
        model.lm_head.weight[words("\n")["input_ids"]] *= newline_boost
        if nan:
            model.lm_head.weight[0, 0] = torch.nan
    model.generation_config.do_sample = True
    model.save_pretrained(folder)
    return folder
