"""launch/prefetch.py against a small hub on loopback: whole folders, resumed fetches, and what a newcomer is told."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch.plan.fetching import Fetch, Record, fetched, wanted
from launch.prefetch import main, planned
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.host.source import interpreter
from synth.images.model_folder import inspect
from tests.images import tiny
from tests.launch.hub import Hub
from tests.stages import wait_for

REPO = Path(__file__).parents[2]
TOKEN = "hf_bad_but_secret"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A tiny Stable Diffusion repository, with what repositories hold beside it."""
    folder = tiny.build("sd", tmp_path_factory.mktemp("repo") / "sd")
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    weights = found["unet/diffusion_pytorch_model.safetensors"]
    more = (
        "v1-5.ckpt",
        "v1-5.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "vae/model.onnx",
    )
    return found | dict.fromkeys(more, weights) | {"README.md": b"# sd", ".gitattributes": b"x", "assets/a.png": b"p"}


@pytest.fixture
def hub(files):
    found = Hub()
    found.add("org/sd", files)
    yield found
    found.close()


@pytest.fixture
def prefetch(hub, tmp_path, monkeypatch, capfd):
    """main of prefetch.py: its exit code and all that it said. `start`: the same in a process of its own."""
    import huggingface_hub

    for name in [n for n in os.environ if n.startswith("HF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    own = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "SYNTHSET_MODELS": str(tmp_path / "models"),
        "HF_HUB_DISABLE_XET": "1",
    }
    for name, value in own.items():
        monkeypatch.setenv(name, value)

    def run(*args, env=None):
        capfd.readouterr()
        with monkeypatch.context() as m:
            for name, value in (env or {}).items():
                m.setenv(name, value)
            m.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", "HF_HUB_OFFLINE" in os.environ)
            code = main(list(args))
        return code, "".join(capfd.readouterr())

    def start(*args):
        return subprocess.Popen(
            [sys.executable, str(REPO / "launch" / "prefetch.py"), *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    run.start = start
    return run


SD = ("model=sd15", "model.repo=org/sd", "model.revision=main")


def test_a_model_is_fetched_whole_recorded_and_found_by_its_preset(prefetch, hub, tmp_path, files, monkeypatch):
    code, said = prefetch(*SD)
    folder = tmp_path / "models" / "sd15"
    assert code == EXIT_OK, said
    assert f"use it with: {' '.join(SD)} model.path={folder}" in said and "whole, commit " + "a" * 40 in said
    record = json.loads((tmp_path / "models" / "sd15.json").read_text())
    assert record == {"repo": "org/sd", "revision": "main", "commit": "a" * 40, "complete": True}
    got = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert got == {n: files[n] for n in wanted(files)} and "v1-5.ckpt" not in got and "README.md" in got
    assert inspect(folder).pipeline == "StableDiffusionPipeline"
    assert sorted(p.name for p in folder.parent.iterdir()) == ["sd15", "sd15.json"]
    monkeypatch.setenv("SYNTHSET_MODELS", str(tmp_path / "models"))
    assert fetched("model", "sd15", "org/sd") == str(folder)

    hub.add("org/sd", files | {"README.md": b"# newer"}, "b" * 40)  # the branch moves on
    asked = len(hub.log)
    assert prefetch(*SD)[0] == EXIT_OK and len(hub.log) == asked, "what is recorded stays, without the network"
    code, said = prefetch(*SD, "--update")
    assert code == EXIT_OK and "b" * 40 in said and (folder / "README.md").read_bytes() == b"# newer"


def test_a_killed_fetch_goes_on_with_what_is_missing_at_the_same_commit(prefetch, hub, tmp_path, files):
    name, folder = "unet/diffusion_pytorch_model.safetensors", tmp_path / "models" / "sd15"
    hub.cut[name] = 1000
    process = prefetch.start(*SD)
    there = lambda: sum(p.is_file() and ".cache" not in p.parts for p in (tmp_path / "models" / "sd15.partial").rglob("*"))  # noqa: E731
    wait_for(lambda: there() >= len(wanted(files)) - 1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not folder.exists() and not Record.read(folder).complete
    hub.cut.clear()
    asked = len(hub.log)
    code, said = prefetch(*SD)
    assert code == EXIT_OK, said
    assert {path.split("/", 4)[-1] for method, path, *_ in hub.log[asked:] if method == "GET" and "/resolve/" in path} == {name}
    assert {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == {
        n: files[n] for n in wanted(files)
    }
    assert any(path.endswith("revision/" + "a" * 40) for _, path, *_ in hub.log[asked:]), "not where the branch stands by now"


def test_a_repository_that_is_torn_itself_is_found_out(prefetch, hub, files):
    name = "unet/diffusion_pytorch_model.safetensors"
    hub.add("org/sd", {**files, name: files[name][:-1]})
    code, said = prefetch(*SD)
    assert code == EXIT_BAD_INPUT and "it is torn" in said


@pytest.mark.parametrize(
    ("overrides", "code", "said"),
    [
        (
            ("model=sd15", "model.repo=org/none"),
            EXIT_BAD_INPUT,
            "org/none: no such repository, or it is private (HTTP 401); check model.repo",
        ),
        (
            ("model=sd15", "model.repo=org/sd", "model.revision=v9"),
            EXIT_BAD_INPUT,
            "org/sd: has no revision v9; check model.revision",
        ),
        (
            ("model=sd15", "model.repo=org/empty", "model.revision=main"),
            EXIT_BAD_INPUT,
            "org/empty: holds nothing that a model is loaded from",
        ),
        (("model=tiny",), EXIT_BAD_INPUT, "model=tiny: names no repository"),
        ((), EXIT_BAD_INPUT, "nothing to fetch: name a model, for example model=sd15"),
        (("model=sd16",), EXIT_BAD_INPUT, "sd15"),
        (("captioner=hf",), EXIT_BAD_INPUT, "captioner=hf: names no repository; give captioner.repo=ORG/NAME, or choose"),
    ],
)
def test_what_cannot_be_fetched_is_said_with_its_fix(overrides, code, said, prefetch, hub, tmp_path):
    hub.add("org/empty", {"a.txt.gz": b"x"})
    got, text = prefetch(*overrides)
    assert (got, said in text) == (code, True), text
    assert "Traceback" not in text and not list(tmp_path.glob("models/*/*"))


def test_a_gated_repository_asks_for_a_token_and_never_shows_it(prefetch, hub):
    hub.gated.add("org/sd")
    code, said = prefetch(*SD)
    assert code == EXIT_BAD_INPUT and "accept its licence on its page; then set HF_TOKEN" in said
    code, said = prefetch(*SD, env={"HF_TOKEN": TOKEN})
    assert code == EXIT_BAD_INPUT and "set HF_TOKEN" in said and TOKEN not in said
    assert any(auth == f"Bearer {TOKEN}" for *_, auth in hub.log), "it was really sent"
    code, said = prefetch(*SD, env={"HF_TOKEN": "hf_good"})
    assert code == EXIT_OK and "hf_good" not in said


def test_no_network_and_no_place_are_told(prefetch, hub):
    code, said = prefetch(*SD, env={"HF_HUB_OFFLINE": "1"})
    assert code == EXIT_BAD_INPUT and "unset HF_HUB_OFFLINE" in said
    code, said = prefetch(*SD, env={"SYNTHSET_MODELS": ""})
    assert code == EXIT_BAD_INPUT and "export SYNTHSET_MODELS=DIR" in said
    hub.close()
    code, said = prefetch(*SD)
    assert code == EXIT_AGAIN and "run the same command again" in said and "Traceback" not in said


def test_a_captioner_is_fetched_and_what_is_not_ours_is_left_alone(prefetch, hub, tmp_path):
    files = {
        "config.json": b"{}",
        "model.safetensors": b"w",
        "pytorch_model.bin": b"w",
        "original/consolidated.00.pth": b"w",
        "tokenizer.json": b"{}",
    }
    hub.add("org/Chat-1B", files)
    code, said = prefetch("captioner=hf", "captioner.repo=org/Chat-1B")
    assert code == EXIT_OK and f"captioner.path={tmp_path}/models/Chat-1B" in said
    assert sorted(p.name for p in (tmp_path / "models" / "Chat-1B").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    (tmp_path / "models" / "sd15").mkdir()
    code, said = prefetch(*SD)
    assert code == EXIT_BAD_INPUT and "was not fetched by this command; move it away" in said
    code, said = prefetch(*SD, "--to", str(tmp_path / "my models"), "--dry-run")
    assert code == EXIT_OK and f"org/sd at main -> {tmp_path}/my models/sd15" in said and not (tmp_path / "my models").exists()


def test_parts_of_a_chain_have_folders_of_their_own():
    names = {f.key: (f.name, f.repo) for f in planned(["model=kandinsky22"], True)}
    assert names["model.path"][0] == "kandinsky22" and names["model.parts.prior.path"][0] == "kandinsky22-prior"
    assert [f.name for f in planned(["model=sdxl", "captioner=hf", "captioner.repo=a/b"], False)] == ["sdxl", "b"]
    assert Fetch("model.path", "mine", "a/b", "main") in planned(["model=diffusers", "model.id=mine", "model.repo=a/b"], True)
    asked = ["tagger=[caption,vocabulary]", "detector=owlv2", "segmenter=none", "box_captioner=blip2"]
    assert [f.key for f in planned(asked, True)] == ["tagger.vocabulary.path", "detector.path", "box_captioner.path"]
    asked = ["features.repo=facebook/dinov2-base", "features.revision=a1"]
    assert planned(asked, True) == [Fetch("features.model", "dinov2-base", "facebook/dinov2-base", "a1")]


def test_a_preset_without_a_path_says_how_to_fetch_it(monkeypatch):
    monkeypatch.delenv("SYNTHSET_MODELS", raising=False)
    with pytest.raises(
        InputError,
        match=rf"model\.path: not set, and SYNTHSET_MODELS names no folder.*with {re.escape(interpreter())} -m launch prefetch",
    ):
        fetched("model", "sd15", "org/sd")
    assert fetched("model", None, None) is None


@pytest.mark.parametrize(
    ("files", "variant", "left"),
    [
        (["model_index.json", "unet/a.safetensors", "unet/a.bin", "a.safetensors"], "", ["model_index.json", "unet/a.safetensors"]),
        (["model_index.json", "unet/a.fp16.safetensors"], "", ["model_index.json", "unet/a.fp16.safetensors"]),
        (["model_index.json", "u/a.safetensors", "u/a.fp16.safetensors", "v/b.safetensors"], "fp16",
         ["model_index.json", "u/a.fp16.safetensors", "v/b.safetensors"]),
        (["model_index.json", "t/m-00001-of-00002.safetensors", "t/m-00002-of-00002.safetensors", "t/m.safetensors.index.json"], "", None),
        (["model_index.json", "t/model.fp16-00001-of-00002.safetensors", "t/model-00001-of-00002.safetensors"], "",
         ["model_index.json", "t/model-00001-of-00002.safetensors"]),
        (["config.json", "pytorch_model.bin", "x/config.json", ".cache/a.json", "LICENSE"], "",
         ["LICENSE", "config.json", "pytorch_model.bin"]),
    ],
)  # fmt: skip
def test_the_files_that_a_model_is_loaded_from(files, variant, left):
    assert wanted(files, variant) == sorted(left or files)
