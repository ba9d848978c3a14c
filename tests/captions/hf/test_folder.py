"""Model folders in transformers' layout, judged without torch."""

import json
import shutil
import subprocess
import sys

import pytest

from synth.captions.hf.folder import check_length, inspect
from synth.errors import InputError


@pytest.fixture
def folder(tmp_path, hf_chat):
    return shutil.copytree(hf_chat, tmp_path / "a model's «folder»")


def test_a_whole_folder_says_what_it_is(folder, hf_model):
    found = inspect(folder)
    assert (found.architecture, found.positions, found.chat) == ("LlamaForCausalLM", 512, True)
    assert not inspect(hf_model).chat
    check_length(found, 512)
    with pytest.raises(InputError, match="takes 512 tokens"):
        check_length(found, 513)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: shutil.rmtree(f), "no such folder"),
        (lambda f: (f / "config.json").unlink(), r"config.json: missing"),
        (lambda f: (f / "config.json").write_text("{"), "is not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "expected a JSON object, found list"),
        (lambda f: (f / "config.json").write_text('{"architectures": ["BertModel"]}'), "not a causal language model"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
        (lambda f: (f / "model.safetensors").unlink(), r"holds no \*.safetensors; fetch"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "safe_serialization=True"),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]), "it is torn"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "torn inside its header"),
        (lambda f: (f / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "x-1.safetensors"}})),
         "x-1.safetensors: missing"),
        (lambda f: (f / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../up"}})), "missing"),
        (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "names no weights"),
    ],
)  # fmt: skip
def test_a_torn_or_foreign_folder_is_bad_input_that_names_the_file(folder, change, said):
    change(folder)
    with pytest.raises(InputError, match=said):
        inspect(folder)


def test_looking_at_a_folder_imports_neither_torch_nor_transformers(folder):
    code = (
        f"import sys; from synth.captions.hf.folder import inspect; inspect({str(folder)!r}); "
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]
