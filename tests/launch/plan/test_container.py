"""Images: which runtime starts them, what they are shown, which variables go in, and what is named before a worker waits."""

import dataclasses
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from launch.plan import container, inspection
from launch.plan.container import ENTER, Container, chosen, srun_words, variables_in, wrapped
from launch.plan.inspection import inspected
from launch.plan.mounts import Mount, existing_folder, joined, leads_to, mounts_of, paths_in, user_mounts
from synth.errors import InputError
from synth.host.container import IMAGE
from synth.store.spec import InputFile, StageSpec, Upstream
from tests.lint import clean_shell

SIF = b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\x0001\x0002\0" + b"\0" * 64


def asked(image, runtime="auto"):
    return {"container": image, "container_runtime": runtime}


@pytest.fixture
def sif(tmp_path) -> Path:
    path = tmp_path / "a.sif"
    path.write_bytes(SIF)
    return path


def program(folder: Path, name: str, body: str) -> Path:
    """A program of that name in PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bin(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


# -- which runtime -------------------------------------------------------------------------------------------------------


def test_the_image_says_which_runtime_starts_it(tmp_path, sif, bin, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.sqsh").write_bytes(b"hsqs")
    assert chosen(asked("a.sif"), on_slurm=True) == (str(sif), "apptainer")
    assert chosen(asked("a.sqsh"), on_slurm=True) == (str(tmp_path / "a.sqsh"), "pyxis")  # without a / pyxis takes it for a registry's
    assert chosen(asked("team/synthset:1"), on_slurm=True) == ("team/synthset:1", "pyxis")
    program(bin, "podman", "")
    assert chosen(asked("team/synthset:1"), on_slurm=False) == ("team/synthset:1", "podman")
    program(bin, "docker", "")
    assert chosen(asked("team/synthset:1"), on_slurm=False) == ("team/synthset:1", "docker")
    assert chosen(asked(None), on_slurm=False) is None


@pytest.mark.parametrize(
    ("image", "runtime", "on_slurm", "words"),
    [
        ("gone.sif", "auto", True, "is not there"),
        ("a.sqsh", "auto", False, "pyxis starts containers in jobs of Slurm"),
        ("a.sqsh", "apptainer", True, "apptainer starts no .sqsh file"),
        ("a.sif", "docker", False, "docker starts no .sif file"),
    ],
)
def test_what_does_not_fit_together_is_named(tmp_path, sif, monkeypatch, image, runtime, on_slurm, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.sqsh").write_bytes(b"hsqs")
    with pytest.raises(InputError, match=words):
        chosen(asked(image, runtime), on_slurm)


# -- what is mounted -----------------------------------------------------------------------------------------------------


def spec_of(tmp_path, **more) -> StageSpec:
    return StageSpec("images", "images", more.pop("config", {}), 4, 2, 1, {"name": "exact"}, **more)


def test_a_stage_is_shown_what_it_reads_for_reading_and_its_dataset_for_writing(tmp_path):
    runs, model, other, data = (tmp_path / n for n in ("runs/cars", "models/sd", "elsewhere/captions-00", "data"))
    for folder in (runs / "images-00", model, other, data):
        folder.mkdir(parents=True)
    (data / "list.txt").touch()
    spec = spec_of(
        tmp_path,
        config={"model": {"path": str(model)}, "out": str(tmp_path / "new" / "place"), "words": ["/usr/bin/env", "/not/there", "plain"]},
        inputs={"captions": InputFile(str(data / "list.txt"), "x")},
        upstream={"captions": (Upstream("../captions-11", "11"), Upstream(str(other), "00"))},
    )
    mounts = mounts_of(runs / "images-00", spec)
    assert {m.source: m.write for m in mounts} == {str(tmp_path): True}  # the nearest folder of the place that is to be made
    (tmp_path / "new" / "place").mkdir(parents=True)
    mounts = mounts_of(runs / "images-00", spec)
    assert {m.source: m.write for m in mounts} == {
        str(runs): True,
        str(tmp_path / "new" / "place"): True,
        str(model): False,
        str(other): False,
        str(data / "list.txt"): False,
    }
    assert all(m.source == m.target for m in mounts)


def test_folders_that_links_of_a_model_lead_to_are_shown_too(tmp_path):
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "r1"
    for folder in (blobs, snapshot):
        folder.mkdir(parents=True)
    (blobs / "abc").touch()
    (snapshot / "model.safetensors").symlink_to("../../blobs/abc")
    assert leads_to(snapshot) == (blobs,) and leads_to(blobs) == ()
    (tmp_path / "short").symlink_to(snapshot)
    assert leads_to(tmp_path / "short") == (snapshot,)


def test_an_inner_place_is_mounted_only_where_the_outer_one_does_not_do(tmp_path):
    outer, inner = str(tmp_path), str(tmp_path / "a")
    assert joined([Mount(inner, inner), Mount(outer, outer, True)]) == [Mount(outer, outer, True)]
    assert joined([Mount(inner, inner, True), Mount(outer, outer)]) == [Mount(outer, outer), Mount(inner, inner, True)]
    assert joined([Mount(inner, "/elsewhere"), Mount(outer, outer, True)])[1:] == [Mount(inner, "/elsewhere")]


@pytest.mark.parametrize("name", ["a:b", "a,b", 'a"b', "a\nb"])
def test_a_path_that_no_runtime_takes_is_named(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="cannot be mounted"):
        mounts_of(tmp_path / name / "images-00", spec_of(tmp_path))


def test_mounts_of_a_user_and_those_that_are_not_there(tmp_path):
    assert user_mounts([f"{tmp_path}", f"{tmp_path}:ro", f"{tmp_path}:/data:ro"], "k") == [
        Mount(str(tmp_path), str(tmp_path), True),
        Mount(str(tmp_path), str(tmp_path)),
        Mount("/data", str(tmp_path)),
    ]
    with pytest.raises(InputError, match=r"k: /not/there: /not/there is not there"):
        user_mounts(["/not/there"], "k")


def test_the_system_of_the_host_and_its_root_are_never_shown():
    assert list(paths_in({"a": ["/usr/bin", "/etc/passwd", "/", "/proc/self", "relative"]})) == []
    with pytest.raises(InputError, match="make the folder first"):
        existing_folder(Path("/not/there"))


# -- the words -----------------------------------------------------------------------------------------------------------


def started(bin: Path, c: Container, name: str, **env: str) -> list[str]:
    """The words that the runtime got, as a program of its name sees them; variables of Apptainer's are added as NAME=VALUE."""
    program(bin, name, 'printf "%s\\0" "$@" "--"; env -0 | grep -z ^APPTAINERENV_ | sort -z')
    words = wrapped(c, [Mount("/runs", "/runs", True), Mount("/models", "/models")], ("python3", "-m", "x"), True, ["MY_KEY"])
    clean = {"PATH": os.environ["PATH"], **env}
    done = subprocess.run(words, env=clean, capture_output=True, text=True, check=True, cwd="/")
    return done.stdout.rstrip("\0").split("\0")


ENV = {"CUDA_VISIBLE_DEVICES": "1", "SLURM_JOB_ID": "7", "MY_KEY": "it's a\nkey", "PYTHONPATH": "/host", "HOME": "/root", "HF_HOME": "/h"}


def test_apptainer_gets_mounts_and_only_the_variables_that_workers_need(bin):
    words = started(bin, Container("/a.sif", "apptainer", args=("--writable-tmpfs",)), "apptainer", **ENV)
    cut = words.index("--")
    assert words[:cut] == [
        *("exec", "--cleanenv", "--no-home", "--pwd", "/", "--nv", "--bind", "/runs:/runs", "--bind", "/models:/models:ro"),
        *("--writable-tmpfs", "/a.sif", "python3", "-m", "x"),
    ]
    inside = dict(w.removeprefix("APPTAINERENV_").split("=", 1) for w in words[cut + 1 :])
    assert inside == {
        "CUDA_VISIBLE_DEVICES": "1",
        "SLURM_JOB_ID": "7",
        "MY_KEY": "it's a\nkey",
        "HF_HOME": "/h",
        "PYTHONNOUSERSITE": "1",
        "USER": str(os.getuid()),
        "XDG_CACHE_HOME": f"/tmp/synthset-cache-{os.getuid()}",
    }


@pytest.mark.parametrize(("name", "gpus"), [("docker", ["--gpus", "all"]), ("podman", ["--device", "nvidia.com/gpu=all"])])
def test_docker_and_podman_run_the_image_that_was_looked_at_as_this_user(bin, name, gpus):
    words = started(bin, Container("synthset", name, facts={"digest": "sha256:abc"}), name, **ENV)
    given = {words[i + 1] for i, word in enumerate(words) if word == "--env"}
    keep = ["--userns", "keep-id"] if name == "podman" and os.getuid() else []
    assert given == {"CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "MY_KEY", "HF_HOME", "PYTHONNOUSERSITE", "USER", "XDG_CACHE_HOME"}
    plain = [w for i, w in enumerate(words) if w != "--env" and words[i - 1] != "--env"]
    assert plain[: plain.index("--mount")] == [
        *("run", "--rm", "--interactive", "--pid", "host", "--ipc", "host", "--uts", "host", "--entrypoint", "", *keep),
        *("--user", f"{os.getuid()}:{os.getgid()}", *gpus),
    ]
    assert plain[plain.index("--mount") :] == [
        *("--mount", "type=bind,source=/runs,target=/runs", "--mount", "type=bind,source=/models,target=/models,readonly"),
        *("sha256:abc", "python3", "-m", "x", "--"),
    ]


def test_pyxis_gets_words_for_srun():
    words = srun_words(Container("/a.sqsh", "pyxis", args=("--container-writable",)), [Mount("/runs", "/runs", True), Mount("/m", "/m")])
    assert words == (
        *("--container-image=/a.sqsh", "--no-container-mount-home", "--no-container-entrypoint"),
        *("--container-mounts=/runs:/runs,/m:/m:ro", "--container-writable"),
    )


def test_the_script_that_lets_variables_in_is_clean_shell(tmp_path):
    script = tmp_path / "enter.sh"
    script.write_text(f"#!/bin/bash\n{ENTER}\n")
    clean_shell(script)


def test_a_key_of_a_service_goes_in_by_the_name_that_the_stage_says():
    assert variables_in([{"captioner": {"api_key_env": "MY_KEY"}}, {"endpoint": [{"api_key_env": ""}]}]) == ["MY_KEY"]


# -- what is known of an image -------------------------------------------------------------------------------------------

INSIDE = f"PYTHONPATH={Path(__file__).parents[3]} exec {shlex.quote(sys.executable)}"  # what an image with this synthset would do
RUNS = f'while [ "$1" != python3 ]; do shift; done; shift; {INSIDE} "$@"'


def test_an_image_is_known_by_its_digest_and_by_what_a_container_of_it_tells(bin, sif):
    program(bin, "apptainer", RUNS)
    told: list[str] = []
    known = inspected(Container(str(sif), "apptainer"), [Mount("/tmp", "/tmp")], False, told.append)
    assert known.facts["digest"].startswith("sha256:") and known.facts["arch"] == platform.machine() and not told
    assert known.facts["inside"]["versions"]["python"] == platform.python_version()
    assert json.loads(known.environment[IMAGE])["inside"]["digest"] == known.facts["inside"]["digest"]


def test_an_image_without_synthset_gets_the_code_of_this_command(bin, sif):
    own = f'case "$*" in *PYTHONPATH=*) {RUNS} ;; esac; echo "python3: No module named synth" >&2; exit 1'
    program(bin, "apptainer", own)
    known = inspected(Container(str(sif), "apptainer"), [], False, print)
    assert not known.own_code and known.command()[0] == "env" and known.facts["inside"]["code"]


def changed(at: slice, by: bytes) -> bytes:
    return SIF[: at.start] + by + SIF[at.stop :]


BAD = {
    "no runtime": (SIF, None, "no apptainer on this machine: install it"),
    "not an image": (b"no image" * 20, RUNS, "is no whole .sif image"),
    "another architecture": (changed(inspection.SIF_ARCH, b"05"), RUNS, "an image for ppc64, and its workers would run on"),
    "does not start": (SIF, "echo 'FATAL: no user namespaces' >&2; exit 255", "exit code 255: FATAL: no user namespaces"),
    "says nothing": (SIF, "true", "what it says of itself"),
    "says another thing": (SIF, "echo '[1]'", "what it says of itself: is 1, expected an object"),
    "says too little": (SIF, "echo '{}'", "what it says of itself: has no 'arch'"),
    "not mounted": (SIF, f'while [ "$1" != python3 ]; do shift; done; shift; {INSIDE} "$@" /not/there', "/not/there is not seen inside"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_would_fail_on_every_node_is_named_before_a_worker_waits(bin, sif, name):
    data, body, words = BAD[name]
    sif.write_bytes(data)
    if body:
        program(bin, "apptainer", body)
    with pytest.raises(InputError, match=words) as error:
        inspected(Container(str(sif), "apptainer"), [], False, print)
    assert "cluster.container=" in str(error.value)


def test_where_only_other_machines_can_start_it_that_is_told(bin, sif):
    told: list[str] = []
    c = Container(str(sif), "apptainer")
    assert inspected(c, [], False, told.append, strict=False) == c and "not tried on this machine: no apptainer" in told[0]


def test_a_container_that_is_not_shown_the_driver_of_this_machine_is_named(bin, sif, monkeypatch):
    program(bin, "apptainer", RUNS)
    monkeypatch.setattr(inspection, "has_driver", lambda: True)
    with pytest.raises(InputError, match=r"has NVIDIA's driver .*, and the container does not: apptainer exec --nv"):
        inspected(Container(str(sif), "apptainer"), [], True, print)


def test_an_image_that_docker_does_not_have_is_named_with_the_command_that_brings_it(bin):
    program(bin, "docker", 'echo "Error: No such image: team/synthset" >&2; exit 1')
    with pytest.raises(InputError, match="docker has no such image here; fetch or build it first: docker pull team/synthset"):
        inspected(Container("team/synthset", "docker"), [], False, print)
    program(bin, "docker", "echo '[{}]'")
    with pytest.raises(InputError, match="docker image inspect: has no 'Id'"):
        inspected(Container("team/synthset", "docker"), [], False, print)
    program(bin, "docker", 'echo "Cannot connect to the Docker daemon" >&2; exit 1')
    with pytest.raises(InputError, match="Cannot connect to the Docker daemon"):
        inspected(Container("team/synthset", "docker"), [], False, print)


def test_other_code_in_the_image_is_told(bin, sif, monkeypatch):
    program(bin, "apptainer", RUNS)
    monkeypatch.setattr(inspection, "digest", lambda: "0" * 12)
    told: list[str] = []
    inspected(Container(str(sif), "apptainer"), [], False, told.append)
    assert "brings other code of synthset (commit unknown) than this command has" in told[0]


def test_two_containers_are_the_same_whatever_is_known_of_them():
    c = Container("a", "docker")
    assert hash(dataclasses.replace(c, facts={"digest": "x"})) == hash(c) and container.RUNTIMES[0] == "apptainer"
