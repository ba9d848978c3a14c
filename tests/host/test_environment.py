"""What children see of our environment: everything but secrets, whoever starts them and however."""

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.local import window
from launch.local.supervisor import Slot, Supervisor
from launch.plan import story
from launch.slurm import gate
from synth.captions.llama import engine as llama
from synth.captions.llama.config import EngineConfig
from synth.captions.remote.server import KEY_VARIABLES, Server
from synth.errors import InputError
from synth.host import children, environment, gpu, slurm
from synth.host.environment import check_set, is_secret, secret_in, without_secrets
from synth.images.external.child import Child, Gone
from synth.redaction import secrets
from tests.stages import probe, wait_for

ROOT = Path(children.__file__).parents[2]
SECRETS = [
    "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GITHUB_TOKEN", "PGPASSWORD", "MYSQL_PWD",
    "SSH_AUTH_SOCK", "MY_SECRET", "GOOGLE_APPLICATION_CREDENTIALS", "GPG_PASSPHRASE", "apikey",
    "OPENAI_APIKEY", "GITHUB_PAT", "AZURE_OPENAI_KEY", "WANDB_KEY", "WANDB_KEY_2", "DB_PASS", "SSH_PRIVATE_KEY", "SLURM_JWT",
]  # fmt: skip
NEEDED = [
    "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NCCL_SOCKET_IFNAME", "CONDA_PREFIX",
    "http_proxy", "MODULEPATH", "LOADEDMODULES", "TOKENIZERS_PARALLELISM", "HF_HOME", "PWD", "OLDPWD", "XAUTHORITY",
    "KRB5CCNAME", "SLURM_JOB_ID", "XDG_RUNTIME_DIR", "AWS_REGION", "DISPLAY", "PASSTHROUGH", "PATH", "HOME",
    "VLLM_PASS_CONFIG", "APPTAINER_PWD", "SINGULARITY_PWD", "HF_TOKEN_PATH", "API_KEY_FILE", "AWS_SHARED_CREDENTIALS_FILE",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN", "GNOME_KEYRING_CONTROL",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_known_by_their_names(name):
    """By one table: what no child gets is cut out of texts."""
    value = "sk-4fJ2pQ9xLm0Zt7Ab"
    assert is_secret(name) and value in secrets({name: value})


@pytest.mark.parametrize("name", NEEDED)
def test_what_a_site_needs_is_no_secret(name):
    value = "sk-4fJ2pQ9xLm0Zt7Ab"
    assert not is_secret(name) and value not in secrets({name: value})


def test_a_secret_that_is_named_is_kept_and_one_that_is_not_set_is_told():
    env = dict.fromkeys((*SECRETS, *NEEDED), "x")
    assert set(without_secrets(env)) == set(NEEDED) and set(without_secrets(env, ["HF_TOKEN"])) == {*NEEDED, "HF_TOKEN"}
    with pytest.raises(InputError, match=r"model\.pass_env: B_TOKEN is not set here"):
        check_set("model.pass_env", ["HF_TOKEN", "B_TOKEN"], env)


def test_a_secret_is_found_in_texts_unless_it_is_a_word():
    env = {"A_TOKEN": "sk-0123456789abcdef", "B_PASSWORD": "tulip", "C": "images.seed=1"}
    assert secret_in(["x", "captioner.model=sk-0123456789abcdef"], env) == "A_TOKEN"
    assert secret_in(["dataset.name=tulip", "images.seed=1"], env) == ""


# -- each kind of child ------------------------------------------------------------------------------------------------------


@pytest.fixture
def secret(monkeypatch):
    """In our environment, as a neighbour of what children do need."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/site/lib")


def program(folder: Path, name: str = "show") -> tuple[Path, Callable[[], dict]]:
    """A program that writes down its environment and ends, and what reads that."""
    seen, file = folder / f"{name}.json", folder / name
    file.write_text(
        f"#!{sys.executable}\nimport json, os\n"
        f"open({str(seen) + '.new'!r}, 'w').write(json.dumps(dict(os.environ)))\nos.rename({str(seen) + '.new'!r}, {str(seen)!r})\n"
    )
    file.chmod(0o755)

    def read() -> dict:
        wait_for(seen.exists)
        return json.loads(seen.read_text())

    return file, read


def clean(env: dict, *kept: str) -> bool:
    return {n for n in env if n in ("OPENAI_API_KEY", "HF_TOKEN")} == set(kept) and env["LD_LIBRARY_PATH"] == "/site/lib"


def test_commands_under_a_guardian(secret, tmp_path):
    file, read = program(tmp_path)
    children.guarded([str(file)], tmp_path / "log").wait(240)
    assert clean(read())


def test_a_command_that_draws_gets_what_is_named_for_it(secret, tmp_path):
    file, read = program(tmp_path)
    with pytest.raises(Gone):
        Child([str(file)], tmp_path / "log", tmp_path, ["HF_TOKEN"]).line(time.monotonic() + 240, "")
    assert clean(read(), "HF_TOKEN")


def test_a_served_model_gets_its_own_key_and_what_is_named_for_it(secret, tmp_path):
    file, read = program(tmp_path)
    server = Server(lambda port: [str(file)], tmp_path / "log", "/health", 30.0, 0, ["HF_TOKEN"])
    server._spawn()
    env = read()
    server.close()
    assert clean(env, "HF_TOKEN") and {env[name] for name in KEY_VARIABLES} == {server.key}


def test_modules_of_ours_ranks_and_workers(secret, tmp_path, monkeypatch):
    file, read = program(tmp_path, "synth_shown.py")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    children.tied("synth_shown", [], tmp_path / "log").wait(240)
    assert file.exists() and clean(read())


@pytest.mark.parametrize("start", ["ranks", "a worker"])
def test_who_starts_ranks_and_workers_hands_them_no_more(start, secret, tmp_path, monkeypatch):
    given = {}
    real = subprocess.Popen

    def noted(words, **more):
        given.update(more["env"])
        return real([sys.executable, "-c", ""], **more)

    monkeypatch.setattr(children.subprocess, "Popen", noted)
    if start == "ranks":
        made = llama.LlamaEngine(EngineConfig(str(tmp_path)))
        made._log = tmp_path / "log"
        made._spawn(1, tmp_path)
        made._agent.wait(240)
    else:
        supervisor = Supervisor(probe(tmp_path), [Slot(0)], 1, None, print)
        supervisor._start(supervisor.pool[0])
        supervisor.pool[0].process.wait(240)
    assert clean(given)


def test_commands_of_slurm_and_drivers_and_the_token_that_slurm_itself_wants(secret, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JWT", "x")
    file, read = program(tmp_path, "sinfo")
    slurm.command("sinfo")
    assert clean(read()) and read()["SLURM_JWT"] == "x"
    file, read = program(tmp_path, "sbatch")
    slurm.call("sbatch", keep=["OPENAI_API_KEY"])
    assert clean(read(), "OPENAI_API_KEY")
    file, read = program(tmp_path, "nvidia-smi")
    gpu.smi("-L")
    assert file.exists() and clean(read())


def test_what_splits_a_book_shows_pictures_or_finishes_a_stage(secret, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(subprocess, "run", lambda *a, **more: given.append(more["env"]) or subprocess.CompletedProcess(a, 0, b"{}", b""))
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **more: given.append(more["env"]))
    story.split_in_child({}, tmp_path)
    window._start(["x"])
    gate.finish(probe(tmp_path))
    assert len(given) == 3 and all(map(clean, given))


def test_nothing_starts_a_process_with_an_environment_that_nobody_looked_at():
    """Every start of a process in the house says which environment it gives: a new one that forgot would hand on everything."""
    found = []
    for path in [*ROOT.glob("synth/**/*.py"), *ROOT.glob("launch/**/*.py")]:
        if "embedded/train" in str(path):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "subprocess.Popen",
                "subprocess.run",
                "subprocess.check_output",
                "os.system",
            ):
                words = {k.arg for k in node.keywords}
                if "env" not in words and "preexec_fn" not in words:  # the guardian's, whose own environment was looked at
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found and environment.is_secret("A_TOKEN")
