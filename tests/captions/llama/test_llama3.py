"""Llama 3 in Meta's layout: a table of ranks, slowed rotations, rows of the embedding; transformers' numbers and tiktoken's ids."""

import json
import shutil

import pytest
import torch

from synth.captions.llama.checkpoint import check_checkpoint, load_shard
from synth.captions.llama.model import prefill
from synth.captions.llama.parallel import held_rows
from synth.captions.llama.ragged import Ragged
from synth.captions.llama.reshard import reshard
from synth.captions.llama.tokenizer import Tokenizer
from synth.errors import InputError
from tests.captions.llama import tiny
from tests.captions.llama.as_transformers import to_transformers

# ids that tiktoken 0.14 gives with this table and Llama 3's pattern; the same for 10,000 random texts, by hand
TIKTOKENS = {
    "the cat's 1234 => in the hat.\n\nThere": [83, 257, 267, 276, 220, 275, 19, 278, 220, 258, 261, 220, 71, 262, 13, 264, 51, 257, 265],
    "  x  \n y": [220, 220, 87, 271, 198, 220, 88],
    "That'S IT'LL": [51, 71, 262, 6, 50, 220, 40, 51, 6, 43, 43],
    "<|begin_of_text|>\u00e9\u732b aaaaa": [
        *(27, 91, 65, 68, 70, 258, 62, 78, 69, 62, 83, 68, 87, 83, 91, 29, 269, 273, 260, 279, 279),
    ],
    "": [],
}  # fmt: skip
PROMPTS = [list(range(5, 125)), [7], [300, 2, 281, 256, 9]]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return tiny.write_ranks(tmp_path_factory.mktemp("ranks") / "tokenizer.model")


@pytest.fixture(scope="module")
def llama3(tmp_path_factory, ranks):
    return tiny.write_checkpoint(tmp_path_factory.mktemp("llama3"), tiny.LLAMA3, ranks)


@pytest.fixture(scope="module")
def llama3_in_two(tmp_path_factory, ranks):
    """The same weights in two shards, each with rows of the embedding."""
    return tiny.write_checkpoint(tmp_path_factory.mktemp("llama3_2"), tiny.LLAMA3, ranks, degree=2, embedding_rows=True)


def expected(folder, **changes):
    """LlamaForCausalLM's logits of every token, [T, V]."""
    from transformers import LlamaConfig, LlamaForCausalLM

    p = tiny.load(folder)[0].params
    rope = {
        "rope_type": "llama3", "rope_theta": p.rope_theta, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    } | changes  # fmt: skip
    config = LlamaConfig(
        hidden_size=p.dim, intermediate_size=p.ffn_dim, num_hidden_layers=p.n_layers, num_attention_heads=p.n_heads,
        num_key_value_heads=p.n_kv_heads, vocab_size=p.vocab_size, rms_norm_eps=p.norm_eps, rope_parameters=rope,
        max_position_embeddings=131072,
    )  # fmt: skip
    hf = LlamaForCausalLM(config).eval()
    hf.load_state_dict(to_transformers(load_shard(folder / "consolidated.00.pth"), p), strict=True)
    with torch.no_grad():
        return torch.cat([hf(torch.tensor([ids])).logits[0] for ids in PROMPTS])


def test_ids_are_those_of_tiktoken(ranks):
    tokenizer = Tokenizer(ranks)
    assert dict(zip(TIKTOKENS, tokenizer.encode(list(TIKTOKENS)), strict=True)) == {t: [282, *i] for t, i in TIKTOKENS.items()}
    assert tokenizer.decode(list(TIKTOKENS.values())) == list(TIKTOKENS)


def test_marks_stand_behind_the_table_and_end_a_caption(ranks):
    tokenizer = Tokenizer(ranks)
    assert (tokenizer.n_words, tokenizer.bos, tokenizer.eos) == (282 + 256, 282, 283)
    assert tokenizer.ends == {283, 282 + 8, 282 + 9}  # end of text, of a message, of a turn
    assert tokenizer.decode([[282, 83, 257, 291]]) == ["the"]
    assert tokenizer.ids_containing("\n") == [198, 264, 281]


def test_logits_equal_transformers(llama3):
    model, _ = tiny.load(llama3)
    ours = prefill(model, Ragged.of(PROMPTS, range(len(PROMPTS)), model.device), every_token=True)
    torch.testing.assert_close(ours, expected(llama3), rtol=0, atol=1e-4)
    assert (ours - expected(llama3, rope_type="default")).abs().max() > 1e-2  # the slowed rotations show


def test_ranks_with_rows_of_the_embedding_add_up_to_it(llama3, llama3_in_two):
    assert check_checkpoint(llama3_in_two, 538).params.embedding_rows
    tokens = torch.tensor([0, 268, 269, 537])
    parts = [load_shard(llama3_in_two / f"consolidated.0{rank}.pth")["tok_embeddings.weight"] for rank in range(2)]
    added = sum(held_rows(part, 269 * rank, tokens) for rank, part in enumerate(parts))
    assert torch.equal(added, load_shard(llama3 / "consolidated.00.pth")["tok_embeddings.weight"][tokens])


def test_shards_with_rows_of_the_embedding_merge_into_the_whole(llama3, llama3_in_two, tmp_path):
    reshard(llama3_in_two, tmp_path / "one", 1)
    ours, whole = (load_shard(folder / "consolidated.00.pth") for folder in (tmp_path / "one", llama3))
    assert ours.keys() == whole.keys() and all(torch.equal(ours[name], whole[name]) for name in whole)


def test_captions_end_with_a_line_or_a_turn(llama3):
    window = tiny.generator(llama3, max_gen_len=12).window(["the cat =>"] * 3, [1, 2, 3])
    assert {c.stop_reason for c in window.completions} <= {"stop", "eos", "max_gen_len"} and all(
        "\n" not in c.text for c in window.completions
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[:-3] + lines[-2:], "its 281 ranks do not count from 0 without a gap"),
        (lambda lines: [b"YQ== x", *lines[1:]], "no sentencepiece model, and no table of ranks"),
        (lambda lines: [*lines[:9], b"?? 9", *lines[10:]], "line 10 is no token in base64"),
        (lambda lines: [b"YWFhYWE= 0", *lines[1:]], "has no rank of the byte 0x21"),
    ],
)
def test_a_table_that_is_not_whole_is_named(ranks, tmp_path, change, said):
    file = tmp_path / "tokenizer.model"
    file.write_bytes(b"\n".join(change(ranks.read_bytes().splitlines())) + b"\n")
    with pytest.raises(InputError, match=rf"tokenizer\.model.*{said}"):
        Tokenizer(file)


def test_a_tokenizer_of_another_vocabulary_is_named(llama3, tmp_path):
    folder = shutil.copytree(llama3, tmp_path / "copy")
    (folder / "params.json").write_text(json.dumps(tiny.LLAMA3 | {"vocab_size": 128256}))
    with pytest.raises(InputError, match=r"has 538 pieces but params\.json says vocab_size 128256"):
        check_checkpoint(folder, Tokenizer(folder / "tokenizer.model").n_words)
