"""The benches for GPUs would run on one: what they build lies on the device, and what does not fit is a row of their table."""

import itertools
from argparse import Namespace

import pytest
import torch

from synth.captions.llama.model import decode_one_token, prefill
from synth.captions.llama.ragged import Ragged
from tests.bench import captions_shapes, images
from tests.captions.llama import tiny
from tests.fixtures_images import small_device


@pytest.mark.parametrize("shapes", ["7b", "smoke"])
def test_all_of_a_random_llama_is_on_the_device_that_is_asked_for_and_decodes_there(shapes):
    """The meta device stands for a GPU: no more than a GPU does it compute with what lies on the host."""
    tiny.one_process()
    on = torch.device("meta")
    model = captions_shapes.random_model(captions_shapes.SHAPES[shapes], 8, 288, torch.bfloat16, on)
    assert {t.device for t in itertools.chain(model.parameters(), model.buffers())} == {on}
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert sum(w.numel() for n, w in model.named_parameters() if w.dim() == 2 and "tok" not in n) == captions_shapes.matrices(model.params)
    tokens = torch.zeros(8, dtype=torch.int64, device=on)
    assert decode_one_token(model, tokens, tokens, 64).shape == (8, model.params.vocab_size)


def test_a_random_llama_gives_finite_logits_and_its_prefill_agrees_with_its_decoding():
    tiny.one_process()
    torch.manual_seed(0)
    model = captions_shapes.random_model(captions_shapes.SHAPES["smoke"], 2, 32, torch.float32, torch.device("cpu"))
    whole = prefill(model, Ragged.of([[1, 5, 6, 7]], [0], model.device))
    prefill(model, Ragged.of([[1, 5, 6]], [1], model.device))
    model.move(1, 0, 3)
    step = decode_one_token(model, torch.tensor([7]), torch.tensor([3]), 4)
    assert whole.isfinite().all() and torch.allclose(step, whole, atol=1e-3)
    assert 3 < whole.std() < 12


def test_the_bench_of_captions_goes_from_prompts_to_its_last_line(capsys):
    """The same command as on a GPU, of a small model: what the engine asks of a tokenizer, the bench's stand-in has."""
    captions_shapes.run(Namespace(shapes="smoke", captions=4, rows=2, groups="2", rounds=1, numerics="exact", native_only=False))
    printed = capsys.readouterr().out
    assert "native, no sharing" in printed and "share of the roofline" in printed and "mean caption" in printed


def test_what_does_not_fit_is_a_row_of_the_table_and_the_rest_is_measured(monkeypatch, capsys):
    small_device(monkeypatch, 2)  # with guidance: one picture
    monkeypatch.setattr("sys.argv", ["images", "--images", "4", "--batch", "4", "--steps", "1", "--rounds", "1", "--numerics", "exact"])
    assert images.main() == 0
    printed = capsys.readouterr().out
    rows = {line.split("|")[1].strip(): line for line in printed.splitlines() if line.startswith("| (")}
    assert "does not fit" not in rows["(a) loop"]
    assert all("does not fit" in rows[name] for name in ("(b) batches", "(c) stage, exact"))
