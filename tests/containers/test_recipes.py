"""What the recipes of images say, without building them: both say the same, all is pinned, and linters have nothing to say."""

import configparser
import os
import re
import shutil
import subprocess

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.containers.deffile import copied, files, labels, sections, variables
from tests.containers.standin import RECIPE, ROOT
from tests.lint import clean_shell

DOCKERFILE, DEF = RECIPE / "Dockerfile", RECIPE / "synthset.def"
LOCK = RECIPE / "requirements.lock"
SCRIPTS = ("install.sh", "check.sh", "lock.sh")


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def locked() -> dict[str, set[str]]:
    """name -> versions (of different Pythons) in the lock."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^ ;]+)", LOCK.read_text(), re.MULTILINE):
        found.setdefault(name.lower(), set()).add(version)
    return found


def test_both_recipes_copy_the_same_files_and_run_the_same_script():
    assert copied(DOCKERFILE) == files(DEF)
    steps = [line for line in DOCKERFILE.read_text().splitlines() if line.startswith("RUN ")]
    of_def = sections(DEF, BASE="${BASE}", COMMIT="${COMMIT}")["post"].splitlines()[1:]
    assert [step.removeprefix("RUN ") for step in steps] == of_def and len(steps) == 2
    assert not [step for step in steps if "pip" in step or "apt" in step]  # what is installed stands in the lock, and nowhere else


def test_both_recipes_have_the_same_base_labels_and_environment():
    (base,) = re.findall(r"^ARG BASE=(.+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert re.search(r"@sha256:[0-9a-f]{64}$", base)
    assert f"From: {base}\n" in sections(DEF)["header"]
    given = sections(DEF, BASE="${BASE}", COMMIT="${COMMIT}")
    assert dict(line.split(maxsplit=1) for line in given["labels"].splitlines()) == labels(DOCKERFILE)
    assert labels(DOCKERFILE)["org.opencontainers.image.version"] == setup_cfg()["metadata"]["version"]
    script = f"id() {{ echo 7; }}\nPATH=/bin:/usr/bin\n{given['environment']}\nenv -0"
    done = subprocess.run(["sh", "-c", script], env={}, capture_output=True, text=True, check=True)
    of_def = dict(word.split("=", 1) for word in done.stdout.split("\0") if word)
    wanted = {k: v.replace("synthset-cache", "synthset-cache-7") for k, v in variables(DOCKERFILE).items() if k != "PATH"}
    assert wanted.items() <= of_def.items() and of_def["PATH"].startswith("/opt/synthset/bin:")


def test_the_image_is_not_root_and_offline_and_heeds_no_home():
    text, env = DOCKERFILE.read_text(), variables(DOCKERFILE)
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", text, re.MULTILINE) and "HEALTHCHECK" in text
    assert env["HF_HUB_OFFLINE"] == env["PYTHONNOUSERSITE"] == "1" and env["HF_HOME"].startswith("/tmp/")


def test_the_lock_is_of_setup_cfg_and_of_constraints_and_leaves_torch_to_the_base():
    there, config = locked(), setup_cfg()
    constraints = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    extras = config["options.extras_require"]
    lines = [config["options"]["install_requires"], *(extras[e] for e in extras if e not in ("dev", "train"))]
    wanted = [Requirement(line) for text in lines for line in text.splitlines() if line and not line.startswith("#")]
    assert "torch" not in there and not [name for name in there if name.startswith("nvidia-c") or name == "triton"]
    for requirement in (r for r in wanted if r.name != "torch"):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert all(requirement.specifier.contains(Version(v)) for v in there[name]), f"{requirement}: run containers/synthset/lock.sh"
    differ = {n: (v, there[n.lower()]) for n, v in constraints.items() if n.lower() in there and there[n.lower()] != {v}}
    assert not differ, "run containers/synthset/lock.sh"
    assert LOCK.read_text().count("--hash=sha256:") >= len(there)


def test_shell_of_the_recipes_is_clean(tmp_path):
    scripts = [tmp_path / name for name in SCRIPTS]
    for script in scripts:
        script.write_text((RECIPE / script.name).read_text())
    for name in ("post", "environment", "test", "runscript"):
        script = tmp_path / f"{name}.sh"
        script.write_text("#!/bin/sh\n" + sections(DEF)[name])
        scripts.append(script)
    shim = tmp_path / "podman.sh"
    shim.write_text((ROOT / "tests" / "containers" / "podman").read_text())
    clean_shell(*scripts, shim)


def test_the_linter_of_dockerfiles_has_nothing_to_say():
    linter = shutil.which("dockerfile-utils")
    if linter is None and os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail("no dockerfile-utils in CI; .ci/run installs it")
    if linter is None:
        pytest.skip("no dockerfile-utils here: npm install --global dockerfile-utils")
    for path in ROOT.glob("containers/*/Dockerfile*"):
        done = subprocess.run([linter, "lint", path], capture_output=True, text=True)
        assert done.returncode == 0 and not done.stdout.strip(), f"{path}:\n{done.stdout}{done.stderr}"


def test_everything_that_is_copied_is_let_through_to_the_build():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = tuple(line.removeprefix("!") for line in ignored if line.startswith("!"))
    assert all((ROOT / source).exists() and source.startswith(allowed) for source in copied(DOCKERFILE))
