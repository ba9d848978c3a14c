"""What the recipes of CogView2's image say, and what of them runs without a base of 8 GB: sources at a commit, kernels without a GPU, the
starter of containers."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.containers.deffile import copied, files, labels, sections, variables
from tests.containers.standin import ROOT
from tests.lint import clean_shell

RECIPE = ROOT / "containers" / "cogview2"
DOCKERFILE, DEF = RECIPE / "Dockerfile", RECIPE / "cogview2.def"
SCRIPTS = ("build.sh", "check.sh", "draw.sh", "install.sh", "lock.sh")
ARGS = {"BASE": "${BASE}", "COMMIT": "${COMMIT}", "ARCH": "${ARCH}"}


def locked() -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([^ ;]+)", (RECIPE / "requirements.lock").read_text(), re.MULTILINE)
    return {name.lower(): version for name, version in found}


def test_both_recipes_copy_the_same_files_run_the_same_steps_and_name_no_base_without_a_digest():
    assert copied(DOCKERFILE) == files(DEF)
    steps = [line.removeprefix("RUN ") for line in DOCKERFILE.read_text().splitlines() if line.startswith("RUN ")]
    given = sections(DEF, **ARGS)
    assert steps == given["post"].splitlines()[1:] and len(steps) == 2
    assert not [step for step in steps if "pip" in step or "apt" in step]
    assert re.findall(r"^ARG BASE(.*)$", DOCKERFILE.read_text(), re.MULTILINE) == ["", ""] and "\nBASE=\n" in sections(DEF)["arguments"]
    assert dict(line.split(maxsplit=1) for line in given["labels"].splitlines()) == labels(DOCKERFILE)
    done = subprocess.run(
        ["sh", "-c", f"PATH=/bin:/usr/bin\n{given['environment']}\nenv"], env={}, capture_output=True, text=True, check=True
    )
    of_def = dict(line.split("=", 1) for line in done.stdout.splitlines())
    wanted = {k: v.replace("cogview2-cache", f"cogview2-cache-{os.getuid()}") for k, v in variables(DOCKERFILE).items() if k != "PATH"}
    assert wanted.items() <= of_def.items() and of_def["PATH"].startswith("/opt/cogview2/env/bin:")
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", DOCKERFILE.read_text(), re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "!containers/cogview2" in ignored and all((ROOT / source).exists() for source in copied(DOCKERFILE))


def test_the_lock_holds_what_is_asked_for_in_its_version_and_leaves_torch_to_the_base():
    there = locked()
    lines = [line for line in (RECIPE / "requirements.in").read_text().splitlines() if line and not line.startswith("#")]
    for wanted in map(Requirement, lines):
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        assert wanted.specifier.contains(Version(there[name])), f"{wanted}: run containers/cogview2/lock.sh"
    assert not {"torch", "torchvision", "triton"} & there.keys()
    text = (RECIPE / "requirements.lock").read_text()
    assert text.count("--hash=sha256:") >= len(there) == text.count("==")


def test_shell_of_the_recipes_is_clean(tmp_path):
    scripts = [tmp_path / name for name in SCRIPTS]
    for script in scripts:
        script.write_text((RECIPE / script.name).read_text())
    for name in ("post", "environment", "test", "runscript"):
        scripts.append(tmp_path / f"{name}.sh")
        scripts[-1].write_text("#!/bin/sh\n" + sections(DEF)[name])
    clean_shell(*scripts)


# -- install.sh ------------------------------------------------------------------------------------------------------


def repository(folder: Path, files: dict[str, str]) -> str:
    """A git repository of these files, with a later commit in which they are gone; the hash of the first."""
    folder.mkdir()
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "first"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run([*git, "rm", "--quiet", "-r", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "later"], check=True)
    return commit


KERNELS = """
import os
from setuptools import setup
from torch import cuda
if __name__ == '__main__':
    assert cuda.is_available(), 'Please install CUDA for GPU support.'
    assert os.environ['FORCE_CUDA'] == '1'
    open('localAttention.py', 'w').write('cards = ' + repr(os.environ['TORCH_CUDA_ARCH_LIST']) + '\\ndef similar_forward(): ...\\n')
    setup(name='localAttention', version='0.1', py_modules=['localAttention'])
"""


@pytest.fixture
def sources(tmp_path) -> dict[str, str]:
    """The environment of install.sh: stand-ins for both repositories."""
    found = {"PREFIX": str(tmp_path / "opt"), "BASE": f"pytorch/pytorch@sha256:{64 * 'a'}", "COMMIT": "0123abc"}
    for key, contents in (("COGVIEW2", {"cluster_label.npy": "labels"}), ("ATTENTION", {"setup.py": KERNELS})):
        found[f"{key}_COMMIT"] = repository(tmp_path / key, contents)
        found[f"{key}_REPO"] = f"file://{tmp_path / key}"
    return found


def install(step: str, env: dict[str, str]) -> subprocess.CompletedProcess:
    words = ["sh", str(RECIPE / "install.sh"), step]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        words, env=os.environ | {"PATH": path, "CUDA_VISIBLE_DEVICES": ""} | env, capture_output=True, text=True, timeout=300
    )


def test_sources_come_at_their_commit_and_the_kernels_are_built_without_a_gpu(sources, tmp_path):
    """Over this environment's torch, in the place of the base's."""
    env = tmp_path / "opt" / "env"
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", env], check=True)
    packages = next((env / "lib").glob("python*")) / "site-packages"
    (packages / "base.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")))
    done = install("code", sources | {"ARCH": "8.0;8.6"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert (packages / "localAttention.py").read_text().startswith("cards = '8.0;8.6'")
    assert (tmp_path / "opt" / "CogView2" / "cluster_label.npy").read_text() == "labels"
    told = json.loads((tmp_path / "opt" / "image.json").read_text())
    assert told["cogview2"] == sources["COGVIEW2_COMMIT"] and told["base"] == sources["BASE"] and told["commit"] == "0123abc"
    started = subprocess.run([env / "bin" / "cogview2-draw", tmp_path], input="", capture_output=True, text=True)
    assert started.returncode == 65 and "lacks icetk_models/ice_text.model" in started.stderr


@pytest.mark.parametrize(
    ("step", "change", "why"),
    [
        ("packages", {"BASE": "pytorch/pytorch:latest"}, "BASE=pytorch/pytorch:latest is not named by its digest"),
        ("packages", {}, "in the base image; requirements.lock is for 3.10"),
        ("code", {"ATTENTION_COMMIT": 40 * "0"}, f"has no commit {40 * '0'}"),
        ("", {}, "packages or code"),
    ],
)
def test_a_base_or_a_commit_that_does_not_fit_ends_the_build(step, change, why, sources):
    done = install(step, sources | change)
    assert done.returncode == 65 and why in done.stderr


# -- draw.sh ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def drawn(tmp_path):
    """draw.sh IMAGE WEIGHTS ..., with runtimes that tell their words and what stands in the environment."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "weights").mkdir()
    (tmp_path / "c.sif").write_text("")
    for name in ("apptainer", "docker", "podman"):
        program = tmp_path / "bin" / name
        program.write_text('#!/bin/sh\nprintf "%s\\n" "${0##*/}" "$@" "seen=${APPTAINERENV_CUDA_VISIBLE_DEVICES-}"\n')
        program.chmod(0o755)

    def call(image: str, weights: str | None = None, **env: str) -> list[str]:
        words = ["sh", str(RECIPE / "draw.sh"), image, weights or str(tmp_path / "weights"), "--style", "oil"]
        done = subprocess.run(words, env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"} | env, capture_output=True, text=True, cwd=tmp_path)
        return done.stdout.splitlines() if done.returncode == 0 else [str(done.returncode), done.stderr]

    return call


def test_apptainer_gets_the_gpus_of_the_host_and_the_folders_and_no_home(drawn, tmp_path):
    said = drawn("c.sif", CUDA_VISIBLE_DEVICES="2", TMPDIR="/scratch/x")
    weights = str(tmp_path / "weights")
    assert said[:6] == ["apptainer", "exec", "--nv", "--cleanenv", "--no-home", "--pwd"] and said[-1] == "seen=2"
    assert said[-6:-1] == ["c.sif", "cogview2-draw", weights, "--style", "oil"]
    binds = [said[n + 1] for n, word in enumerate(said) if word == "--bind"]
    assert binds == ["/tmp", f"{weights}:{weights}:ro", "/scratch/x"]


@pytest.mark.parametrize(
    ("env", "gpus"),
    [
        ({"CUDA_VISIBLE_DEVICES": "1,3"}, ["--gpus", '"device=1,3"']),
        ({}, ["--gpus", "all"]),
        ({"CONTAINER_RUNTIME": "podman", "CUDA_VISIBLE_DEVICES": "1,3"}, ["--device", "nvidia.com/gpu=3", "--device", "nvidia.com/gpu=1"]),
        ({"CONTAINER_RUNTIME": "podman"}, ["--device", "nvidia.com/gpu=all"]),
    ],
)
def test_docker_and_podman_get_the_gpus_of_the_worker_no_network_and_the_users_id(env, gpus, drawn):
    said = drawn("cogview2", **env)
    assert said[0] == env.get("CONTAINER_RUNTIME", "docker") and said[1:6] == ["run", "--rm", "--interactive", "--init", "--network"]
    assert said[6] == "none" and f"{os.getuid()}:{os.getgid()}" in said
    end = said.index("cogview2")
    assert said[end - len(gpus) : end] == gpus and said[end + 1] == "cogview2-draw"


def test_what_no_runtime_could_start_is_told(drawn, tmp_path):
    assert "no.sif is not there" in drawn("no.sif")[1]
    assert "/nowhere is not there; containers/cogview2/fetch.py makes it" in drawn("c.sif", "/nowhere")[1]
    (tmp_path / "a:b").mkdir()
    assert "runtimes of containers split paths at :" in drawn("c.sif", str(tmp_path / "a:b"))[1]
    (tmp_path / "bin" / "apptainer").unlink()
    code, why = drawn("c.sif")
    assert code == "65" and "none of apptainer singularity is here" in why
