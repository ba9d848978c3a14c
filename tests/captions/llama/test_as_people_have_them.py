"""Checkpoints as people have them: LLaMA 1's, old pickles, pointers, links that lead nowhere, a tokenizer beside the folder."""

import errno
import json
import shutil

import pytest
import torch

from synth.captions.hf.folder import inspect
from synth.captions.llama import reshard as tool
from synth.captions.llama.checkpoint import check_checkpoint, find_shards, load_shard, read_header
from synth.captions.llama.model import load_model
from synth.captions.llama.reshard import find_tokenizer, main, save_shards
from synth.captions.llama.tokenizer import Tokenizer
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK, InputError


@pytest.fixture
def meta(gqa2, tmp_path):
    """Meta's download: the tokenizer beside the folders of the sizes."""
    folder = shutil.copytree(gqa2, tmp_path / "llama" / "llama-2-7b")
    (folder / "tokenizer.model").rename(folder.parent / "tokenizer.model")
    return folder


def test_a_checkpoint_of_llama_1_is_loaded_and_split(gqa, tmp_path):
    """Each of its layers brings the buffer of its rotations."""
    whole = load_shard(gqa / "consolidated.00.pth")
    folder = shutil.copytree(gqa, tmp_path / "llama-1")
    freqs = {f"layers.{i}.attention.inner_attention.rope.freqs": whole["rope.freqs"] for i in range(3)}
    torch.save({n: t for n, t in whole.items() if n != "rope.freqs"} | freqs, folder / "consolidated.00.pth")
    load_model(check_checkpoint(folder, 400), 0, torch.float32, torch.device("cpu"), 1, 8)
    assert main([str(folder), str(tmp_path / "two"), "--shards", "2"]) == EXIT_OK
    assert freqs.keys() <= read_header(tmp_path / "two" / "consolidated.01.pth").keys()


def test_metas_own_layout_is_resharded(meta, tmp_path, capsys):
    assert main([str(meta), str(tmp_path / "one"), "--shards", "1"]) == EXIT_OK
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'one'}: 1 shards; run with captioner.ckpt_dir={tmp_path / 'one'}")
    assert check_checkpoint(tmp_path / "one", Tokenizer(tmp_path / "one" / "tokenizer.model").n_words).degree == 1
    assert find_tokenizer(meta) == meta.parent / "tokenizer.model"


def test_what_reshard_cannot_do_is_one_line_and_exit_code_65(meta, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    elsewhere = shutil.move(meta.parent / "tokenizer.model", tmp_path / "t.model")
    for arguments, said in (
        ([tmp_path / "new", "--shards", "1"], "tokenizer.model: missing, and none beside the folder; give it by --tokenizer FILE"),
        ([tmp_path / "there", "--shards", "1", "--tokenizer", elsewhere], "there: is there already; give a new folder"),
        ([tmp_path / "new", "--shards", "3", "--tokenizer", elsewhere], "does not divide by model_parallel=3; degrees that fit: [1, 2, 4]"),
    ):
        assert main([str(meta), *map(str, arguments)]) == EXIT_BAD_INPUT
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_full_disk_leaves_no_half_checkpoint(meta, tmp_path, capsys, monkeypatch):
    def full(shards, folder):
        save_shards(shards[:1], folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tool, "save_shards", full)
    assert main([str(meta), str(tmp_path / "new"), "--shards", "1"]) == EXIT_AGAIN
    assert "No space left" in capsys.readouterr().err and not [p for p in tmp_path.iterdir() if p.name.startswith("new")]


def test_an_old_pickle_is_called_what_it_is_with_the_line_that_writes_it_anew(meta):
    file = meta / "consolidated.00.pth"
    torch.save(torch.load(file, weights_only=True), file, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"consolidated\.00\.pth is in the form of torch before 1\.6.*torch\.save\(torch\.load"):
        check_checkpoint(meta, 400)


def test_pointers_and_links_that_lead_nowhere_are_named(meta):
    (meta / "consolidated.01.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    with pytest.raises(InputError, match=r"consolidated\.01\.pth: is a pointer of Git LFS, not the file: run git lfs pull"):
        check_checkpoint(meta, 400)
    (meta / "consolidated.01.pth").unlink()
    (meta / "consolidated.01.pth").symlink_to("../blobs/77")
    with pytest.raises(InputError, match=r"consolidated\.01\.pth is a link to \.\./blobs/77, which is not there: copy it"):
        find_shards(meta)


def test_each_engine_names_the_other_ones_folder(meta, tmp_path):
    with pytest.raises(InputError, match=r"llama-2-7b/config\.json: missing; it is a LLaMA in Meta's layout: captioner=llama2_7b"):
        inspect(meta)
    (tmp_path / "hf" / "original").mkdir(parents=True)
    (tmp_path / "hf" / "original" / "params.json").write_text("{}")
    (tmp_path / "hf" / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(InputError, match=r"a LlamaForCausalLM in transformers' layout: captioner=hf .*; Meta's .* in its folder original"):
        find_shards(tmp_path / "hf")
