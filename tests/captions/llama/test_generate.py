"""A caption is a function of its prompt and seed: not of its window, its neighbours or the number of rows."""

import itertools
import shutil

import pytest
import torch

from synth.captions.llama import sampling
from synth.captions.llama.model import Ragged, prefill
from synth.captions.llama.sampling import draw, uniforms
from synth.errors import InputError
from tests.captions.llama import tiny


@pytest.fixture(scope="module")
def captions(gqa):
    return tiny.generator(gqa, margins=True)


@pytest.fixture(scope="module")
def window(captions):
    return captions.window(tiny.prompts(12), range(12))


def same_but_for_edges(ours, theirs, margins):
    """Tokens equal, except where a draw lies within 1e-4 of an edge; gives the number of those."""
    edges = 0
    for a, b, near in zip(ours, theirs, margins, strict=True):
        if a != b:
            first = next(i for i, (x, y) in enumerate(itertools.zip_longest(a, b)) if x != y)
            assert near[first] < 1e-4, f"token {first}: {a} became {b} with a margin of {near[first]}"
            edges += 1
    return edges


def alone(model, tokenizer, prompt, seed, sampling):
    """The plainest decoding there is: the whole text through the model for each token, no cache reused, no neighbours."""
    ids = tokenizer.encode([prompt])[0]
    u, tokens = torch.from_numpy(uniforms([seed], sampling.max_gen_len)[0]), []
    while len(tokens) < sampling.max_gen_len and len(ids) + len(tokens) < model.columns:
        logits = prefill(model, Ragged.of([ids + tokens], [0], model.device))
        tokens.append(int(draw(logits, u[len(tokens)].view(1), sampling.temperature, sampling.top_p)[0]))
        if tokens[-1] in (tokenizer.eos, 13):
            break
    return tokens


def test_refilled_rows_give_the_tokens_of_one_at_a_time_decoding(captions, window, gqa):
    model, tokenizer = tiny.load(gqa)
    expected = [alone(model, tokenizer, p, seed, captions.sampling) for seed, p in enumerate(tiny.prompts(12))]
    assert same_but_for_edges(window.tokens, expected, window.margins) <= 1
    lengths = {len(t) for t in window.tokens}
    assert len(lengths) > 4  # rows finished at different times, or nothing was refilled


@pytest.mark.parametrize("rows", [1, 3, 12, 32])
def test_the_number_of_rows_does_not_change_captions(gqa, window, rows):
    other = tiny.generator(gqa, rows=rows).window(tiny.prompts(12), range(12))
    assert same_but_for_edges(window.tokens, other.tokens, window.margins) <= 1


def test_rows_may_wait_for_company(gqa, window):
    generator = tiny.generator(gqa)
    generator.refill_at, generator.lag = 3, 1  # as on a GPU
    other = generator.window(tiny.prompts(12), range(12))
    assert same_but_for_edges(window.tokens, other.tokens, window.margins) <= 1


def growing(generator, texts, first, rejected):
    """A window of the first texts, in which each request that ended asks for the next text, if `rejected` says so.

    Gives the window, the texts in the order in which they were asked, and the numbers that ended together."""
    asked, left, heard = list(range(first)), iter(range(first, len(texts))), []

    def more(ended):
        heard.append([number for number, _ in ended])
        new = [n for number, completion in ended if rejected(number, completion) for n in [next(left, None)] if n is not None]
        asked.extend(new)
        return [texts[n] for n in new], new

    window = generator.window(texts[:first], range(first), more)
    assert sorted(n for numbers in heard for n in numbers) == list(range(len(asked)))
    return window, asked, heard


@pytest.mark.parametrize("kind", ["alone", "grouped"])
@pytest.mark.parametrize(("rows", "lag", "patience"), [(1, 0, 0), (4, 0, 0), (4, 1, 3), (32, 0, 0), (32, 1, 8)])
def test_what_is_asked_while_a_window_runs_gets_its_own_captions(gqa, kind, rows, lag, patience):
    texts = tiny.prompts(24) if kind == "alone" else tiny.grouped(24)
    single = tiny.generator(gqa, rows=1, margins=True, share=False).window(texts, range(24))
    generator = tiny.generator(gqa, rows=rows, margins=True)
    generator.lag, generator.patience = lag, patience
    window, asked, heard = growing(generator, texts, 12, lambda number, _: number % 4 != 3)
    assert len(asked) == 24 and len(heard) > 1
    order = [single.tokens[n] for n in asked], [single.margins[n] for n in asked]
    assert same_but_for_edges(order[0], window.tokens, order[1]) <= 1
    assert growing(generator, texts, 12, lambda number, _: number % 4 != 3) == (window, asked, heard)  # the same bits, in the same order


def test_a_window_that_grows_keeps_its_rows_full_where_rounds_do_not(gqa):
    """A fifth of all is asked again, three times at most: the rows are busy, and there is one tail instead of four."""
    texts, generator = tiny.prompts(120), tiny.generator(gqa, rows=8)
    window, asked, _ = growing(generator, texts, 80, lambda number, _: number % 5 == 0)
    rounds, at = [], 0
    for size in (80, 16, 4):  # what the same rejections ask in rounds
        rounds.append(generator.window(texts[at : at + size], range(at, at + size)))
        at += size
    assert at <= len(asked) <= at + 2
    assert window.live_rows > sum(w.live_row_steps for w in rounds) / sum(w.steps - w.prefills for w in rounds)
    assert window.steps - window.prefills < sum(w.steps - w.prefills for w in rounds)


def test_where_no_row_is_free_nobody_is_asked_and_a_prompt_without_room_is_answered_too(gqa):
    generator = tiny.generator(gqa, rows=2)
    texts = ["word " * 500, *tiny.prompts(11)]
    window, asked, heard = growing(generator, texts, 11, lambda number, _: number == 0)
    assert len(asked) == 12 and len(heard[0]) >= 8  # once those that wait are fewer than the free rows
    assert "max_seq_len" in window.completions[0].error and window.completions[11].error == ""


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("kinds", ["long long ok", "ok long ok", "long long long", "ok ok long"])
def test_a_window_does_not_end_before_the_last_dialogue_has(gqa, kinds, lag):
    """Each request asks thrice, as a rejected caption does; one without room ends at once, without a row."""
    generator = tiny.generator(gqa, rows=2)
    generator.lag = lag
    texts = {"long": "word " * 500, "ok": tiny.prompts(1)[0]}
    first, tries = [texts[kind] for kind in kinds.split()], {}

    def more(ended):
        again = []
        for number, _ in ended:
            slot, tried = tries.pop(number, (number, 1))
            if tried < 3:
                again.append((slot, tried + 1))
        base = len(first) + more.asked
        more.asked += len(again)
        tries.update({base + i: item for i, item in enumerate(again)})
        return [first[slot] for slot, _ in again], [10 * slot + tried for slot, tried in again]

    more.asked = 0
    window = generator.window(first, range(len(first)), more)
    assert len(window.completions) == 3 * len(first) and not tries
    assert sum("max_seq_len" in c.error for c in window.completions) == 3 * kinds.count("long")


def test_requests_that_are_few_wait_for_company_but_not_for_ever(gqa):
    generator = tiny.generator(gqa, rows=8)
    generator.refill_at, generator.patience = 4, 5
    patient = growing(generator, tiny.prompts(60), 30, lambda number, _: number % 3 == 0)
    generator.patience = 0
    hasty = growing(generator, tiny.prompts(60), 30, lambda number, _: number % 3 == 0)
    assert patient[0].prefills < hasty[0].prefills
    assert {tuple(t) for t in patient[0].tokens} == {tuple(t) for t in hasty[0].tokens}


def test_neighbours_and_order_do_not_change_captions(captions, window):
    order = [7, 2, 11, 0, 5]
    prompts = tiny.prompts(12)
    other = captions.window([prompts[i] for i in order] + tiny.prompts(3, seed=9), [*order, 100, 101, 102])
    margins = [window.margins[i] for i in order]
    assert same_but_for_edges([window.tokens[i] for i in order], other.tokens[:5], margins) == 0


def test_a_window_again_gives_the_same_bits(captions, window):
    captions.window(tiny.prompts(5, seed=3), range(5))  # what was there before must not matter
    again = captions.window(tiny.prompts(12), range(12))
    assert again == window


def test_equal_prompts_with_different_seeds_differ(captions):
    tokens = captions.window(["plut meck =>"] * 8, range(8)).tokens
    assert len({tuple(t) for t in tokens}) > 6


def test_tokens_through_the_model_are_those_of_the_prompts_and_captions(captions, window):
    """No padding in the linear layers, no teacher-forced prompt columns, no steps after the newline but in idle rows."""
    ids = captions.tokenizer.encode(tiny.prompts(12))
    assert window.prefill_tokens == sum(map(len, ids))
    drawn = sum(map(len, window.tokens))
    assert drawn - 12 <= window.decode_tokens <= drawn + 12


def test_captions_end_before_the_newline(captions, window):
    stopped = [c for c in window.completions if c.stop_reason == "stop"]
    assert len(stopped) > 6
    for completion, tokens in zip(window.completions, window.tokens, strict=True):
        assert "\n" not in completion.text
        assert (tokens[-1] == 13) == (completion.stop_reason == "stop")
        assert completion.n_tokens == len(tokens) <= 24


def test_other_stop_texts_cut_the_caption(gqa, captions):
    prompts = tiny.prompts(6)
    plain = tiny.generator(gqa, stop=()).window(prompts, range(6))
    cut = tiny.generator(gqa, stop=("e", "rn")).window(prompts, range(6))
    assert any(c.stop_reason == "max_gen_len" for c in plain.completions)
    for a, b in zip(plain.completions, cut.completions, strict=True):
        ends = [at for s in ("e", "rn") if (at := a.text.find(s)) >= 0]
        assert b.text == (a.text[: min(ends)] if ends else a.text)


def test_captions_are_cut_at_max_seq_len(gqa):
    generator = tiny.generator(gqa, columns=40, stop=())
    prompts = ["p " * 12 + "=>", "plut"]
    (long, short), tokens = (w := generator.window(prompts, [0, 1])).completions, w.tokens
    room = 40 - len(generator.tokenizer.encode(prompts)[0])
    assert 0 < room < 24
    assert long.stop_reason in ("max_seq_len", "eos")
    assert len(tokens[0]) <= room
    assert short.stop_reason != "max_seq_len"


def test_a_prompt_too_long_is_an_error_of_that_request_alone(captions, window):
    prompts = tiny.prompts(12)
    done = captions.window(["word " * 500, *prompts, "word " * 125], [99, *range(12), 98])
    assert [c.stop_reason for c in done.completions].count("error") == 2
    assert "max_seq_len=128: shorten the prompt" in done.completions[0].error
    assert done.tokens[0] == []
    assert same_but_for_edges(window.tokens, done.tokens[1:-1], window.margins) == 0


def test_windows_of_nothing_but_long_prompts_and_of_nothing_at_all(captions):
    assert [c.stop_reason for c in captions.window(["word " * 500] * 2, [0, 1]).completions] == ["error"] * 2
    assert captions.window([], []).completions == []


def test_an_empty_prompt_is_served(captions):
    assert captions.window([""], [3]).completions[0].error == ""


def test_hostile_prompts_are_served(captions):
    prompts = ["\n", "\0", "a\nb\r\n\tc", "\u202e\U0001f984 =>", "</s><s><unk>", " " * 60, "%s {} \\ ' \""]
    assert all(c.error == "" for c in captions.window(prompts, range(len(prompts))).completions)


def test_temperature_zero_does_not_ask_the_seed(gqa):
    generator = tiny.generator(gqa, temperature=0)
    a, b = generator.window(tiny.prompts(5), range(5)), generator.window(tiny.prompts(5), range(50, 55))
    assert a.tokens == b.tokens


def test_weights_that_give_nan_are_a_clear_error_and_leave_no_trace(gqa, tmp_path):
    folder = shutil.copytree(gqa, tmp_path / "nan")
    weights = torch.load(folder / "consolidated.00.pth")
    weights["layers.1.feed_forward.w1.weight"][3, 3] = float("nan")
    torch.save(weights, folder / "consolidated.00.pth")
    with pytest.raises(InputError, match=r"not finite .* request \d+ of this window: the weights in .*nan are damaged"):
        tiny.generator(folder).window(tiny.prompts(6), range(6))


def test_a_window_after_a_failed_one_is_as_ever(gqa, window):
    generator = tiny.generator(gqa)
    weight = generator.model.layers[0].attention.wqkv.weight
    kept = weight[0, 0].item()
    weight[0, 0] = float("inf")
    with pytest.raises(InputError, match="not finite"):
        generator.window(tiny.prompts(12), range(12))
    weight[0, 0] = kept
    assert generator.window(tiny.prompts(12), range(12)).tokens == window.tokens


@pytest.mark.parametrize("margins", [False, True])
def test_a_nucleus_too_large_for_the_candidates_waits_for_the_host(gqa, window, monkeypatch, margins):
    """As on a GPU, where the host must not look at each step: such a row repeats its step until the host knows."""
    monkeypatch.setattr(sampling, "CANDIDATES", (2,))
    generator = tiny.generator(gqa, margins=margins)
    plain = generator.window(tiny.prompts(12), range(12))
    generator.lag = 1
    late = generator.window(tiny.prompts(12), range(12))
    assert same_but_for_edges(window.tokens, plain.tokens, window.margins) == 0
    assert same_but_for_edges(window.tokens, late.tokens, window.margins) == 0
    assert late.steps > plain.steps
    assert plain.live_row_steps == sum(len(t) - 1 for t in plain.tokens)
    assert late.completions == plain.completions


def test_weights_that_give_nan_in_the_middle_are_noticed_one_step_late_too(gqa):
    generator = tiny.generator(gqa)
    generator.lag = 1
    generator.model.tok_embeddings.weight[20:] = float("nan")  # some words only: most prompts, and many drawn tokens
    with pytest.raises(InputError, match=r"not finite .* the weights in .*gqa1"):
        generator.window(tiny.prompts(6), range(6))
