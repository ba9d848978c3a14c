"""What can be wrong with a checkpoint is said before any work, by file, item and fix."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from synth.captions.llama.checkpoint import layout, read_header
from synth.captions.llama.config import EngineConfig
from synth.captions.llama.engine import LlamaEngine
from synth.captions.llama.model import placed
from synth.captions.llama.params import params_from
from synth.captions.llama.reshard import merge, reshard, save_shards, split
from synth.captions.llama.tokenizer import Tokenizer
from synth.errors import InputError
from tests.captions.llama import tiny


@pytest.fixture
def copy(gqa2, tmp_path):
    return shutil.copytree(gqa2, tmp_path / "checkpoint")


def check(folder, **config):
    return LlamaEngine(EngineConfig(str(folder), **config)).check()


def test_a_good_checkpoint_passes_and_says_how_many_processes_it_needs(gqa, gqa2):
    assert check(gqa).degree == 1
    assert check(gqa2).degree == 2
    assert check(gqa2, model_parallel=2).params.vocab_size == 400


def test_the_engine_and_its_checks_import_no_torch(gqa2):
    code = (
        "import sys; from synth.captions.llama.engine import *; "
        f"LlamaEngine(EngineConfig({str(gqa2)!r})).check(); "
        "assert not {'torch', 'hydra', 'submitit'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_shard_in_the_middle_is_named(copy):
    (copy / "consolidated.01.pth").rename(copy / "consolidated.02.pth")
    with pytest.raises(InputError, match=r"2 \*\.pth shards in .*consolidated\.01\.pth is missing"):
        check(copy)


def test_missing_last_shard_is_noticed_by_the_shapes(copy):
    (copy / "consolidated.01.pth").unlink()
    with pytest.raises(InputError, match=r"consolidated\.00\.pth is one of 2 shards, but 1 \*\.pth"):
        check(copy)


def test_wrong_number_of_processes_names_the_right_one(gqa2):
    with pytest.raises(InputError, match=r"2 \*\.pth shards in .*captioner\.model_parallel=2"):
        check(gqa2, model_parallel=4)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.999])
def test_torn_shard_is_named(copy, keep):
    path = copy / "consolidated.01.pth"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    with pytest.raises(InputError, match=r"consolidated\.01\.pth .* is torn"):
        check(copy)


def test_a_hole_in_the_middle_of_a_shard_is_noticed(copy):
    path = copy / "consolidated.00.pth"
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half : half + 16384] = bytes(16384)
    path.write_bytes(data)
    with pytest.raises(InputError, match="torn"):
        check(copy)


def test_a_shard_that_would_run_code_is_refused_and_not_run(copy):
    class Evil:
        def __reduce__(self):
            return (open, (str(copy / "ran"), "w"))

    torch.save({"tok_embeddings.weight": Evil()}, copy / "consolidated.00.pth")
    with pytest.raises(InputError, match="no checkpoint of plain weights"):
        check(copy)
    assert not (copy / "ran").exists()


def test_tokenizer_of_another_model_is_named(copy, tmp_path):
    raw = json.loads((copy / "params.json").read_text())
    (copy / "params.json").write_text(json.dumps(raw | {"vocab_size": 500}))
    with pytest.raises(InputError, match=r"tokenizer\.model has 400 pieces but params\.json says vocab_size 500"):
        check(copy)
    (copy / "params.json").write_text(json.dumps(raw))
    other = tiny.train_tokenizer(tmp_path / "other.model", vocab_size=420)
    with pytest.raises(InputError, match=r"output.weight has shape|tok_embeddings.weight has shape"):
        check(copy, tokenizer_path=str(other))


def test_damaged_or_absent_tokenizer_is_named(copy):
    (copy / "tokenizer.model").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match=r"tokenizer\.model: is a pointer of Git LFS, not the file: run git lfs pull"):
        check(copy)
    (copy / "tokenizer.model").write_bytes(b"{}")
    with pytest.raises(InputError, match="no sentencepiece model, and no table of ranks"):
        check(copy)
    (copy / "tokenizer.model").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.model is missing"):
        check(copy)


def test_degree_that_does_not_divide_the_heads_lists_those_that_do():
    params = params_from(tiny.GQA | {"vocab_size": 400})
    with pytest.raises(InputError, match=r"n_kv_heads 4 does not divide by model_parallel=8; degrees that fit: \[1, 2, 4\]"):
        params.check_degree(8)


def test_params_of_another_size_are_named(copy):
    raw = json.loads((copy / "params.json").read_text())
    (copy / "params.json").write_text(json.dumps(raw | {"n_layers": 4}))
    with pytest.raises(InputError, match=r"lacks 9 tensors .* layers\.3\.attention"):
        check(copy)
    (copy / "params.json").write_text(json.dumps(raw | {"ffn_dim_multiplier": 2}))
    with pytest.raises(InputError, match=r"feed_forward\.w1\.weight has shape"):
        check(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": None}, "dim is None"),
        ({"dim": "64"}, "dim is '64'"),
        ({"n_heads": 0}, "n_heads is 0"),
        ({"n_heads": 7, "n_kv_heads": 7}, "does not give 7 heads"),
        ({"n_kv_heads": 3}, "not a multiple"),
        ({"norm_eps": -1}, "norm_eps is -1"),
        ({"vision_chunk_size": 448}, r"has vision_chunk_size \(pictures\)"),
        ({"quantization_args": {"spinquant": True}}, "quantised weights"),
        ({"use_scaled_rope": True, "rope_scaling_factor": 0}, "rope_factor is 0"),
    ],
)
def test_bad_params_are_named(change, message):
    with pytest.raises(InputError, match=message):
        params_from(tiny.GQA | change)


def test_absent_or_broken_params_file_is_named(copy):
    (copy / "params.json").write_text("{")
    with pytest.raises(InputError, match=r"params\.json: is not JSON"):
        check(copy)
    (copy / "params.json").unlink()
    with pytest.raises(InputError, match=r"params\.json is missing"):
        check(copy)


def test_folders_that_hold_no_checkpoint_are_named(copy, tmp_path):
    for path in copy.glob("*.pth"):
        path.unlink()
    with pytest.raises(InputError, match=r"no consolidated\.NN\.pth"):
        check(copy)
    with pytest.raises(InputError, match=r"tokenizer\.model is missing"):
        check(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "bad", [{"dtype": "int8"}, {"temperature": -1}, {"top_p": 1.5}, {"max_seq_len": 0}, {"stop": "\n"}, {"device": "tpu"}]
)
def test_values_out_of_range_are_named(gqa, bad):
    with pytest.raises(InputError, match=f"captioner.{next(iter(bad))}"):
        check(gqa, **bad)


def test_feed_forward_size_follows_metas_rule():
    real = {
        11008: {"dim": 4096, "n_layers": 32, "n_heads": 32, "multiple_of": 256},
        13824: {"dim": 5120, "n_layers": 40, "n_heads": 40, "multiple_of": 256},
        28672: {"dim": 8192, "n_layers": 80, "n_heads": 64, "n_kv_heads": 8, "multiple_of": 4096, "ffn_dim_multiplier": 1.3},
    }
    assert [params_from(raw).ffn_dim for raw in real.values()] == list(real)


def test_header_gives_the_shapes_that_torch_gives(gqa2):
    path = gqa2 / "consolidated.01.pth"
    assert read_header(path) == {n: tuple(t.shape) for n, t in torch.load(path, weights_only=True).items()}


@pytest.mark.parametrize("degree", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_split_and_merge_give_the_same_bits(degree, dtype):
    params = params_from(tiny.GQA | {"vocab_size": 400})
    whole = {name: w.to(dtype) for name, w in tiny.random_weights(params).items()}
    again = merge(split(whole, params, degree), params)
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], whole[name]) and again[name].dtype == dtype for name in whole)


def test_resharded_folder_is_a_checkpoint_of_that_degree(gqa2, gqa, tmp_path):
    reshard(gqa2, tmp_path / "one", 1)
    assert check(tmp_path / "one").degree == 1
    ours, first = (torch.load(f / "consolidated.00.pth", weights_only=True) for f in (tmp_path / "one", gqa))
    assert all(torch.equal(ours[name], first[name]) for name in first)
    with pytest.raises(InputError, match="one: is there already"):
        reshard(gqa2, tmp_path / "one", 4)


def test_newline_and_end_ids_are_found_in_the_tokenizer(tokenizer_model):
    tokenizer = Tokenizer(tokenizer_model)
    assert tokenizer.ids_containing("\n") == [13]  # byte pieces come after unk, bos, eos, in Llama-2's own model too
    assert tokenizer.encode(["\n"])[0][-1] == 13
    assert (tokenizer.bos, tokenizer.eos) == (1, 2)


def test_loading_needs_little_of_the_hosts_own_memory(tmp_path, tokenizer_model):
    """A checkpoint in half precision, mapped, goes to its device a matrix at a time: no copy of it lies on the host in between."""
    raw = {"dim": 1024, "n_layers": 16, "n_heads": 8, "multiple_of": 256, "norm_eps": 1e-5, "vocab_size": -1}
    params = params_from(raw).with_vocab(Tokenizer(tokenizer_model).n_words)
    folder = tmp_path / "large"
    save_shards([{name: torch.full(shape, 0.5, dtype=torch.float16) for name, (shape, _) in layout(params).items()}], folder)
    (folder / "params.json").write_text(json.dumps(raw))
    (tmp_path / "device").mkdir()
    command = [sys.executable, "-m", "tests.captions.llama.load_memory", str(folder), str(tmp_path / "device")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    added, weights = map(float, printed.split())
    assert weights > 400
    assert added < 0.1 * weights, f"{added:.0f} MB of {weights:.0f}"  # 69 % where q, k, v and gate, up of all layers are joined first


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_loaded_weights_are_the_checkpoints(gqa2, dtype):
    """Both shards, cast or not."""
    params = check(gqa2).params
    for rank in range(2):
        shard = torch.load(gqa2 / f"consolidated.0{rank}.pth", weights_only=True)
        ours = dict(placed(shard, params.n_layers, dtype, torch.device("cpu")))
        for i in range(params.n_layers):
            a, f = f"layers.{i}.attention.", f"layers.{i}.feed_forward."
            assert torch.equal(ours[a + "wqkv.weight"], torch.cat([shard[f"{a}w{x}.weight"] for x in "qkv"]).to(dtype))
            assert torch.equal(ours[f + "w13.weight"], torch.cat([shard[f + "w1.weight"], shard[f + "w3.weight"]]).to(dtype))
        same = set(shard) & set(ours)
        assert len(same) == len(ours) - 2 * params.n_layers
        assert all(torch.equal(ours[name], shard[name].to(dtype)) for name in same)
        if dtype == torch.float32:  # mapped from the file: the machine's workers share it
            assert ours["output.weight"].data_ptr() == shard["output.weight"].data_ptr()
