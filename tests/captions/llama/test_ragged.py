"""Common beginnings of prompts are computed once, and nothing else changes."""

import random

import numpy as np
import pytest
import torch

from synth.captions.llama import generate, ragged
from synth.captions.llama.model import prefill
from synth.captions.llama.ragged import Ragged, Resident, share_order
from tests.captions.llama import tiny
from tests.captions.llama.test_generate import same_but_for_edges

CPU = torch.device("cpu")


def trie(rng, n, branch=3, vocab=400):
    """`n` prompts that part from each other at random depths; some are equal, some the beginning of others, some one token."""
    prompts = [[1]]
    while len(prompts) < n:
        base = rng.choice(prompts)
        keep = rng.randint(1, len(base))
        prompts.append((base[:keep] + [rng.randrange(vocab) for _ in range(rng.choice([0, 0, 1, branch, 12]))])[:60])
    rng.shuffle(prompts)
    return prompts


def unique_tokens(prompts):
    return len({tuple(p[: k + 1]) for p in prompts for k in range(len(p))})


KINDS = {
    "nothing in common": [[1 + i, 7, 30, 9][: 1 + i % 4] for i in range(9)],
    "all equal": [[1, 5, 9, 200, 31]] * 6,
    "one the beginning of the next": [[1, 5, 9, 200, 31, 77][: 1 + i] for i in range(6)],
    "single tokens": [[1]] * 4 + [[2], [3]],
    "groups": [[1, *range(10 * g, 10 * g + 20), 300 + i, 13] for g in range(3) for i in range(4)],
}


@pytest.fixture(scope="module")
def model(gqa):
    return tiny.load(gqa, rows=40)[0]


def alone(model, prompts):
    return torch.cat([prefill(model, Ragged.of([p], [0], CPU)) for p in prompts])


@pytest.mark.parametrize("kind", [*KINDS, *range(12)])
@pytest.mark.parametrize("order", ["sorted", "as they come"])
def test_logits_and_cache_are_those_of_each_prompt_alone(model, kind, order):
    prompts = KINDS[kind] if kind in KINDS else trie(random.Random(kind), 24)
    prompts = sorted(prompts) if order == "sorted" else prompts
    expected = alone(model, prompts)
    rows = random.Random(0).sample(range(40), len(prompts))
    batch = Ragged.of(prompts, rows, CPU, Resident(40, 128))
    torch.testing.assert_close(prefill(model, batch), expected, rtol=0, atol=2e-5)
    if order == "sorted":
        assert batch.tokens.shape[0] == unique_tokens(prompts)
    cache = model.layers[-1].attention.k_cache
    ours = cache.clone()
    for row, p in zip(rows, prompts, strict=True):
        prefill(model, Ragged.of([p], [0], CPU))
        torch.testing.assert_close(ours[row, :, : len(p)], cache[0, :, : len(p)], rtol=0, atol=2e-5)


@pytest.mark.parametrize("seed", range(6))
def test_what_rows_hold_from_before_is_used_even_while_it_is_replaced(model, seed):
    rng = random.Random(seed)
    prompts = trie(rng, 60)
    expected = alone(model, prompts)
    resident, computed = Resident(8, 128), 0
    for start in range(0, 60, 5):
        rows = rng.sample(range(8), 5)
        batch = Ragged.of(prompts[start : start + 5], rows, CPU, resident)
        computed += batch.tokens.shape[0]
        torch.testing.assert_close(prefill(model, batch), expected[start : start + 5], rtol=0, atol=2e-5)
    assert unique_tokens(prompts) <= computed < sum(map(len, prompts))


def test_the_longest_beginning_is_found_and_a_row_forgets_what_it_held():
    resident = Resident(3, 8)
    assert resident.longest(np.array([4, 5])) == (0, 0)
    resident.hold(2, np.array([4, 5, 6, 7, 8]))
    resident.hold(1, np.array([4, 5, 9]))
    assert resident.longest(np.array([4, 5, 6, 1])) == (2, 3)
    assert resident.longest(np.array([4, 5, 9, 9])) == (1, 3)
    assert resident.longest(np.array([], dtype=np.int64))[1] == 0
    resident.hold(2, np.array([3]))
    assert resident.longest(np.array([4, 5, 6, 1]))[1] == 2


def test_prompts_that_share_little_keep_the_order_of_their_lengths():
    assert share_order(KINDS["nothing in common"]) is None
    assert share_order([]) is None
    assert share_order([[1, 2, 3]]) is None
    assert share_order([[1, 2, 3, 5], [1, 2, 3, 4], [1, 2, 3, 5]]) == [1, 0, 2]


def requests(kind):
    """Texts, whose tokens part anywhere."""
    rng = random.Random(5)
    words = [rng.choice(tiny.WORDS) for _ in range(60)]
    examples = [" ".join(rng.choices(words, k=12)) for _ in range(4)]
    return {
        "nothing in common": tiny.prompts(14),
        "all equal": [examples[0]] * 14,
        "the beginning of another": [" ".join(words[:k]) for k in (0, 1, 1, 2, 5, 9, 9, 20, 30, 30, 31)],
        "groups": [f"{examples[i // 5]}\n{words[i]} =>" for i in range(20)],
        "a trie": ["\n".join([*examples[: rng.randint(0, 3)], *rng.choices(words, k=rng.randint(0, 3))]) for _ in range(20)],
    }[kind]


@pytest.mark.parametrize("kind", ["nothing in common", "all equal", "the beginning of another", "groups", "a trie"])
def test_captions_are_those_of_one_at_a_time_decoding(gqa, kind, monkeypatch):
    texts = requests(kind)
    single = tiny.generator(gqa, rows=1, columns=192, margins=True, share=False)
    one = single.window(texts, range(len(texts)))
    monkeypatch.setattr(ragged, "_WORTH", -1)  # shared however little it saves
    edges, drawn = 0, 0
    for rows in (3, 8, 32):
        for lag in (0, 1):
            generator = tiny.generator(gqa, rows=rows, columns=192)
            generator.lag = lag
            window = generator.window(texts, range(len(texts)))
            edges += same_but_for_edges(one.tokens, window.tokens, one.margins)
            drawn += sum(map(len, window.tokens))
            ids = generator.tokenizer.encode(texts)
            assert unique_tokens(ids) <= window.prefill_tokens <= sum(map(len, ids))
            if rows == 32:
                assert window.prefill_tokens == unique_tokens(ids)
    print(f"{edges} of {drawn} draws fell on the other side of an edge")
    assert edges <= 2


def test_refills_find_what_earlier_rows_hold(gqa):
    """Rows one after another, so that all sharing is between prompts of different refills."""
    texts = requests("groups")
    window = tiny.generator(gqa, rows=4, columns=192).window(texts, range(20))
    ids = tiny.generator(gqa).tokenizer.encode(texts)
    assert window.prefill_tokens == unique_tokens(ids) < 0.5 * sum(map(len, ids))


def test_a_prefill_is_bounded_by_the_tokens_that_it_computes(gqa, monkeypatch):
    counts = []

    def counted(model, batch):
        counts.append(batch.tokens.shape[0])
        return prefill(model, batch)

    monkeypatch.setattr(generate, "prefill", counted)
    texts = requests("groups")
    generator = tiny.generator(gqa, rows=32, columns=192)
    whole = generator.window(texts, range(20))
    assert len(counts) == 1
    generator.prefill_tokens = 60
    assert generator.window(texts, range(20)).tokens == whole.tokens
    assert len(counts) > 2
    assert max(counts[1:]) <= 60
    assert sum(counts[1:]) == counts[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_shares_too_and_gives_the_same_bits_again(gqa, dtype):
    texts = tiny.grouped(20)
    generator = tiny.generator(gqa, rows=4, dtype=dtype)
    window = generator.window(texts, range(20))
    assert window.prefill_tokens < 0.6 * sum(map(len, generator.tokenizer.encode(texts)))
    assert {c.stop_reason for c in window.completions} <= {"stop", "eos", "max_gen_len"}
    generator.window(tiny.prompts(5), range(5))
    assert generator.window(texts, range(20)) == window
    full = tiny.generator(gqa, rows=4).window(texts, range(20))
    same_first = sum(a[0] == b[0] for a, b in zip(window.tokens, full.tokens, strict=True))
    assert same_first >= 15  # rounding moves some draws, not most
