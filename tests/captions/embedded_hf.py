"""The embedded tiny LLaMA in transformers' layout, with its sentencepiece model as a fast tokenizer: the same captions, another engine."""

from pathlib import Path

import synth
from synth.captions.llama.checkpoint import load_shard
from synth.captions.llama.params import read_params
from synth.captions.llama.tokenizer import Tokenizer
from tests.captions.llama.as_transformers import to_transformers

MODEL = Path(synth.__file__).parent / "embedded" / "models" / "tiny_llama"
# it has never seen a chat: a message is continued as a text is
CHAT = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% if not loop.last %}{{ '\\n\\n' }}{% endif %}{% endfor %}"


def fast_tokenizer(path: Path):
    """A sentencepiece BPE model (identity normalisation, byte fallback) for the tokenizers library."""
    import sentencepiece
    from tokenizers import AddedToken, decoders, models, normalizers, processors
    from tokenizers import Tokenizer as Fast
    from transformers import PreTrainedTokenizerFast

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
    vocab = {pieces.id_to_piece(i): i for i in range(pieces.vocab_size())}
    special = {i for i in vocab.values() if pieces.is_control(i) or pieces.is_unknown(i) or pieces.is_byte(i)}
    whole = [i for i in vocab.values() if i > 3 + 256 and pieces.get_score(i) == 0]  # phrases, taken before anything is merged
    merges = []
    for piece, i in vocab.items():  # ids fall in score
        if i not in special and i not in whole:
            merges += [(piece[:k], piece[k:]) for k in range(1, len(piece)) if piece[:k] in vocab and piece[k:] in vocab]
    raw = Fast(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    raw.add_tokens([AddedToken(pieces.id_to_piece(i), normalized=True) for i in whole])
    raw.normalizer = normalizers.Replace(" ", "\u2581")
    raw.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", pieces.bos_id())])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def save(folder: Path) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    words = Tokenizer(MODEL / "tokenizer.model")
    p = read_params(MODEL).with_vocab(words.n_words)
    config = LlamaConfig(
        vocab_size=p.vocab_size, hidden_size=p.dim, intermediate_size=p.ffn_dim, num_hidden_layers=p.n_layers,
        num_attention_heads=p.n_heads, num_key_value_heads=p.n_kv_heads, rms_norm_eps=p.norm_eps, tie_word_embeddings=False,
        max_position_embeddings=1024, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    weights = {name: w.float() for name, w in load_shard(MODEL / "consolidated.00.pth").items()}
    model.load_state_dict(to_transformers(weights, p), strict=True)
    model.generation_config.do_sample = True
    model.save_pretrained(folder)
    return set_template(folder, None)


def set_template(folder: Path, template: str | None) -> Path:
    """Write the tokenizer of `folder` with this chat template."""
    tokenizer = fast_tokenizer(MODEL / "tokenizer.model")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder
