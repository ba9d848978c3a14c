"""A wheel in an environment of its own, from folders that have nothing to do with it; and a clone that is not installed."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from launch.config import program
from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from tests.stages import probe

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns("tests", "docs", "build", "runs", "outputs", "multirun", "shared", "__pycache__", "*.egg-info", ".*")
DECOY = "raise SystemExit('not the synth that was asked for')\n"


class Place:
    """A copy of the repository, the wheel built from it, and an environment with that wheel. Dependencies are those of this Python."""

    def __init__(self, path: Path):
        self.clone, self.wheels, self.env, self.bare = path / "clone", path / "wheels", path / "env", path / "bare"
        shutil.copytree(ROOT, self.clone, symlinks=True, ignore=LEFT_OUT)
        build = f"from setuptools import build_meta; build_meta.build_wheel({str(self.wheels)!r})"
        self._must([sys.executable, "-c", build], cwd=self.clone)
        (self.wheel,) = self.wheels.glob("*.whl")
        for env in (self.env, self.bare):
            venv.create(env, symlinks=True)
            # a plain path: the .pth files there, such as that of an editable install, are not followed
            (self.packages(env) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = [sys.executable, "-m", "pip", "--python", str(self.env / "bin" / "python"), "--disable-pip-version-check"]
        self._must([*pip, "install", "--quiet", "--no-index", "--no-deps", str(self.wheel)])
        self.python, self.synthset = self.env / "bin" / "python", self.env / "bin" / "synthset"

    @staticmethod
    def packages(env: Path) -> Path:
        return next(env.glob("lib/python*/site-packages"))

    @staticmethod
    def _must(command: list[str], **more) -> None:
        done = subprocess.run(command, capture_output=True, text=True, **more)
        assert done.returncode == EXIT_OK, done.stdout + done.stderr

    def forms(self) -> dict[str, list[str]]:
        """Every way to call `run`: of what is installed, and of a clone whose Python knows of no synthset. The last: from the clone."""
        bare = str(self.bare / "bin" / "python")
        return {
            "synthset": [str(self.synthset), "run"],
            "module": [str(self.python), "-m", "launch", "run"],
            "module of the command": [str(self.python), "-m", "launch.run"],
            "file": [bare, str(self.clone / "launch" / "run.py")],
            "folder": [bare, "-u", str(self.clone / "launch"), "run"],
            "module in the clone": [bare, "-m", "launch.run"],
        }


FORMS = ("synthset", "module", "module of the command", "file", "folder", "module in the clone")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("installed"))


def call(*command: str | Path, cwd: Path, code: int = EXIT_OK, **env: str) -> str:
    """What a command prints, on both streams."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SYNTHSET_CONF")} | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=clean | env, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def data_files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}


def test_the_wheel_holds_conf_and_models_and_neither_tests_nor_training_scripts(place):
    names = set(zipfile.ZipFile(place.wheel).namelist())
    assert {f"launch/conf/{name}" for name in data_files(ROOT / "conf")} == {n for n in names if n.startswith("launch/conf/")}
    assert {f"synth/{name}" for name in data_files(ROOT / "synth")} <= names
    assert any(n.startswith("synth/embedded/models/") and n.endswith(".safetensors") for n in names)
    assert {p.relative_to(ROOT).as_posix() for p in (ROOT / "launch").rglob("*.py")} <= names
    assert "launch/slurm/stage.sbatch" in names
    assert not [n for n in names if "train" in n.split("/") or n.startswith(("tests", "conf", "slurm"))]


def test_every_file_at_the_top_of_launch_is_a_command_with_its_help(place, tmp_path):
    own = Path(place.packages(place.env)) / "launch" / "hello.py"
    own.write_text('"""Say good day.\n\nAnd more."""\n\n\ndef main(argv):\n    print("good day", *argv)\n    return 7\n')
    try:
        text = call(place.synthset, "--help", cwd=tmp_path)
        assert call(place.synthset, "hello", "all", cwd=tmp_path, code=7) == "good day all\n"
        assert call(place.python, "-m", "launch", "hello", cwd=tmp_path, code=7) == "good day\n"
    finally:
        own.unlink()
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.startswith("  ")]
    assert {"run", "node", "status", "verify", "cancel", "export", "prefetch"} < {name for name, _ in lines}
    assert ["hello", "Say good day."] in lines and all(summary.endswith(".") for _, summary in lines)
    assert Path(text.partition("sbatch --array=0-15 ")[2].split()[0]).read_bytes() == (ROOT / "slurm" / "stage.sbatch").read_bytes()


def test_what_is_not_a_command_is_told_with_the_nearest_one(place, tmp_path):
    assert "did you mean status?" in call(place.synthset, "statsu", cwd=tmp_path, code=EXIT_BAD_INPUT)
    text = call(place.synthset, "seed=1", cwd=tmp_path, code=EXIT_BAD_INPUT, PATH=f"{place.env}/bin:{os.environ['PATH']}")
    assert "synthset run seed=1" in text and str(place.env) not in text
    assert "usage:" in call(place.synthset, cwd=tmp_path, code=EXIT_BAD_INPUT)


@pytest.mark.parametrize("form", ["synthset", "file"])
def test_a_run_with_workers_beside_other_code_of_the_same_name(place, tmp_path, form):
    for name in ("synth", "launch"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(DECOY)
    command = place.forms()[form]
    call(*command, "recipe=probe", "probe.slots=8", "probe.unit_size=2", "cluster.n_jobs=2", cwd=tmp_path)
    if form == "synthset":
        assert "4/4" in call(place.synthset, "status", cwd=tmp_path)


def test_the_script_for_slurm_by_hand_uses_the_python_it_was_installed_with(place, tmp_path):
    folder = probe(tmp_path, slots=4)
    script = place.packages(place.env) / "launch" / "slurm" / "stage.sbatch"
    fakes = {"scontrol": f'echo "   Command={script}"', "srun": 'while case $1 in --*) ;; *) false ;; esac; do shift; done; exec "$@"'}
    for name, body in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    copy = shutil.copy(script, tmp_path / "slurm_script")  # as Slurm runs it
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(tmp_path)}
    (tmp_path / "synth").mkdir()
    (tmp_path / "synth" / "worker.py").write_text(DECOY)
    assert "worker exit code 0" in call("bash", copy, folder.path, cwd=tmp_path, **env)
    assert folder.is_done()


@pytest.mark.parametrize("form", FORMS)
def test_each_form_calls_itself_as_it_was_typed_and_finds_own_files(place, tmp_path, form):
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text((ROOT / "conf" / "recipe" / "probe.yaml").read_text())
    command = place.forms()[form]
    cwd = place.clone if form == "module in the clone" else tmp_path
    text = call(*command, "--help", "--config-dir", tmp_path, cwd=cwd)
    usage = next(line for line in text.splitlines() if line.startswith("usage: "))
    typed = command[-2:] if form == "synthset" else command
    assert usage == f"usage: {' '.join(typed)} [-m] [GROUP=OPTION ...] [KEY=VALUE ...]"
    assert ", mine," in next(line for line in text.splitlines() if line.startswith("  recipe "))
    assert "--config-dir DIR" in text and "SYNTHSET_CONF=DIR" in text
    settings = ["recipe=mine", f"runs_dir={tmp_path}/runs", "dry_run=true"]
    assert "nothing was computed" in call(*command, *settings, cwd=cwd, SYNTHSET_CONF=str(tmp_path))


def test_own_folders_by_flag_and_by_variable_for_other_commands(place, tmp_path):
    (tmp_path / "a" / "dataset").mkdir(parents=True)
    (tmp_path / "a" / "dataset" / "mine.yaml").write_text((ROOT / "conf" / "dataset" / "pictures.yaml").read_text())
    flag = call(place.synthset, "run", "--config-dir", "a", "dataset=mine", "dry_run=true", cwd=tmp_path)
    assert "nothing was computed" in flag
    text = call(place.synthset, "node", "--config-dir", "a", "dataset=mine", "dry_run=true", cwd=tmp_path)
    assert text == flag
    text = call(place.synthset, "run", "dataset=mine", "dry_run=true", cwd=tmp_path, code=EXIT_BAD_INPUT)
    assert "no such dataset" in text
    text = call(place.synthset, "run", "dataset=mine", cwd=tmp_path, code=EXIT_BAD_INPUT, SYNTHSET_CONF=f"a{os.pathsep}gone")
    assert "SYNTHSET_CONF gone: no such folder" in text


def test_a_python_without_the_dependencies_is_told_what_to_type(place, tmp_path):
    nothing = [sys.executable, "-S"]  # of the packages installed here it sees none
    run, status = (place.clone / "launch" / f"{name}.py" for name in ("run", "status"))
    for command in ([run, "dry_run=true"], [status]):
        text = call(*nothing, *command, cwd=place.clone, code=EXIT_BAD_INPUT)
        assert "which synthset needs" in text and "\n  make run " in text and "Traceback" not in text
    assert f"make -C {place.clone} run" in call(*nothing, run, cwd="/", code=EXIT_BAD_INPUT).replace("-C tmp", "-C /tmp")
    assert "usage:" in call(*nothing, run, "--help", cwd=tmp_path)
    activate = place.clone / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.touch()
    try:
        assert call(*nothing, run, cwd=place.clone, code=EXIT_BAD_INPUT).endswith("Type:\n  . .venv/bin/activate\n")
    finally:
        shutil.rmtree(place.clone / ".venv")
    wheel = str(place.packages(place.env))
    text = call(*nothing, "-m", "launch.run", cwd=tmp_path, code=EXIT_BAD_INPUT, PYTHONPATH=wheel)
    assert "-m pip install 'hydra-core" in text and "torch" in text and "dev" not in text


def test_no_file_of_launch_has_the_name_of_a_standard_module():
    """python launch/run.py begins with launch/ in sys.path."""
    names = {p.stem for p in (ROOT / "launch").iterdir() if not p.stem.startswith("_")}
    assert set(program.commands()) < names and not names & sys.stdlib_module_names
