"""captioner.max_batch_size=auto, at the shapes of the real models."""

import pytest

from synth.captions.llama.memory import MAX_ROWS, ROWS_WITHOUT_GPU, auto_rows, kv_bytes_per_token, need
from synth.captions.llama.params import params_from
from synth.errors import InputError

REAL = {
    "7b": {"dim": 4096, "n_layers": 32, "n_heads": 32, "multiple_of": 256},
    "13b": {"dim": 5120, "n_layers": 40, "n_heads": 40, "multiple_of": 256},
    "70b": {"dim": 8192, "n_layers": 80, "n_heads": 64, "n_kv_heads": 8, "multiple_of": 4096, "ffn_dim_multiplier": 1.3},
}
PARAMS = {name: params_from(raw | {"vocab_size": 32000}) for name, raw in REAL.items()}


def test_a_token_of_7b_takes_half_a_mebibyte_of_keys_and_values():
    assert kv_bytes_per_token(PARAMS["7b"], 2) == 2**19
    assert kv_bytes_per_token(PARAMS["70b"], 2) < 2**19  # 80 layers, but 8 key heads for 64
    assert kv_bytes_per_token(PARAMS["70b"], 2, degree=8) == kv_bytes_per_token(PARAMS["70b"], 2) // 8


@pytest.mark.parametrize(("name", "degree", "billions"), [("7b", 1, 6.74), ("13b", 1, 13.02), ("70b", 1, 68.98), ("70b", 8, 68.98 / 8)])
def test_weights_are_the_published_numbers_of_parameters(name, degree, billions):
    assert need(PARAMS[name], "bfloat16", degree, 512).weights == pytest.approx(2e9 * billions, rel=0.002)
    assert need(PARAMS[name], "float32", degree, 512).weights == pytest.approx(4e9 * billions, rel=0.002)


@pytest.mark.parametrize(("name", "degree"), [("7b", 1), ("13b", 1), ("13b", 2), ("70b", 4), ("70b", 8)])
@pytest.mark.parametrize("gpu", [24, 40, 80, 141])
def test_rows_fit_and_eight_more_would_not(name, degree, gpu):
    cost = need(PARAMS[name], "bfloat16", degree, 512)
    if cost.gb(1) > gpu:
        with pytest.raises(InputError, match=rf"gpu_mem_gb={gpu}: .* on {degree} GPU.*needs about \d+ GB each"):
            auto_rows(PARAMS[name], "bfloat16", degree, 512, gpu, 4096)
        return
    rows = auto_rows(PARAMS[name], "bfloat16", degree, 512, gpu, 4096)
    assert cost.gb(rows) <= gpu
    assert rows == MAX_ROWS or cost.gb(rows + 8) > gpu
    assert rows % 8 == 0 or rows < 8


def test_more_memory_shorter_rows_and_half_precision_give_more_rows():
    def rows(dtype="bfloat16", columns=512, gpu=40):
        return auto_rows(PARAMS["7b"], dtype, 1, columns, gpu, 4096)

    assert 32 < rows() < rows(gpu=48) < rows(gpu=80)
    assert rows() < rows(columns=256)
    assert rows("float32", gpu=80) < rows(gpu=80)


@pytest.mark.parametrize(("window", "expected"), [(1, 1), (5, 5), (12, 8), (32, 32), (1024, MAX_ROWS)])
def test_rows_beyond_the_window_are_never_planned(window, expected):
    assert auto_rows(PARAMS["7b"], "bfloat16", 1, 512, 141, window) == expected


def test_without_a_gpu_the_number_is_a_stated_one():
    assert auto_rows(PARAMS["7b"], "float32", 1, 512, None, 1024) == ROWS_WITHOUT_GPU
    assert auto_rows(PARAMS["7b"], "float32", 1, 512, None, 3) == 3
