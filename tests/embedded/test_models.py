import json
from pathlib import Path

import pytest
import torch

import synth.embedded
from synth.captions.llama.checkpoint import check_checkpoint
from synth.captions.llama.tokenizer import Tokenizer
from synth.embedded.pictures import grammar
from synth.embedded.pictures.render import classes
from synth.embedded.train.rounding import round_mantissa

FOLDER = Path(synth.embedded.__file__).parent
MODELS = FOLDER / "models"
LLAMA, PIPELINE = MODELS / "tiny_llama", MODELS / "tiny_sd"


def test_everything_embedded_stays_within_24_mb():
    files = [f for f in FOLDER.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    assert sum(f.stat().st_size for f in files) <= 24e6


def test_no_file_of_the_models_names_a_path():
    for file in MODELS.rglob("*.json"):
        text = file.read_text()
        assert "/tmp" not in text and "/home" not in text and "/work" not in text, file


@pytest.mark.parametrize("degree", [1])
def test_the_caption_model_is_in_metas_layout(degree):
    params = json.loads((LLAMA / "params.json").read_text())
    assert params["vocab_size"] == -1 and params["n_heads"] % params["n_kv_heads"] == 0 and params["n_kv_heads"] % 2 == 0
    tokenizer = Tokenizer(LLAMA / "tokenizer.model")
    assert check_checkpoint(str(LLAMA), tokenizer.n_words, degree, tokenizer.path).degree == degree
    weights = torch.load(LLAMA / "consolidated.00.pth", weights_only=True)
    assert "rope.freqs" in weights and {w.dtype for w in weights.values()} == {torch.float16}
    assert weights["tok_embeddings.weight"].shape == (tokenizer.n_words, params["dim"])


def test_a_name_has_the_same_tokens_in_the_query_and_in_the_caption():
    tokenizer = Tokenizer(LLAMA / "tokenizer.model")

    def pieces(text):
        return tokenizer.encode([text])[0][1:]

    assert pieces("\n") == [13] == tokenizer.ids_containing("\n")
    for name in ("Boeing 707-320", "Mazda 2 car", "avocado", "onion soup", "inner tube", "zxqy"):
        query, inside, last = pieces(f"{name} ="), pieces(f"A {name} on"), pieces(f"A {name}.")
        own = pieces(name)
        assert query[: len(own)] == own and any(inside[i : i + len(own)] == own for i in range(4))
        assert any(last[i : i + len(own)] == own for i in range(4))


def test_the_pipeline_loads_offline_and_paints_what_the_caption_says():
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(PIPELINE, local_files_only=True)
    pipeline.to(dtype=torch.float32).set_progress_bar_config(disable=True)
    assert type(pipeline).__name__ == "StableDiffusionPipeline" and pipeline.safety_checker is None
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    out = pipeline(
        ["A large apple on a red background.", "A large banana on a blue background."],
        num_inference_steps=6,
        guidance_scale=4.0,
        generator=[torch.Generator().manual_seed(i) for i in range(2)],
        output_type="np",
    ).images
    assert out.shape == (2, 32, 32, 3)
    corners = out[:, ::31, ::31].mean((1, 2))  # [2, 3]
    assert corners[0].argmax() == 0 and corners[1].argmax() == 2


def test_no_grammar_caption_is_cut_off_by_the_text_encoder():
    import numpy as np
    from transformers import CLIPTokenizer

    tokenizer, rng = CLIPTokenizer.from_pretrained(PIPELINE / "tokenizer"), np.random.default_rng(0)
    captions = [grammar.sample(rng, classes()[i % 20]).caption for i in range(400)]
    assert max(map(len, tokenizer(captions)["input_ids"])) <= tokenizer.model_max_length


@pytest.mark.parametrize(("bits", "expected"), [(10, 1.0009765625), (7, 1.0), (4, 1.0)])
def test_rounding_keeps_the_asked_mantissa_bits(bits, expected):
    assert round_mantissa(torch.tensor([1.0009765625, -2.0]), bits).tolist() == [expected, -2.0]


def test_rounding_changes_a_weight_by_less_than_half_a_step():
    weights = torch.randn(1000, generator=torch.Generator().manual_seed(0)).half()
    assert ((round_mantissa(weights, 7) - weights).abs() <= weights.abs() * 2.0**-8).all()
