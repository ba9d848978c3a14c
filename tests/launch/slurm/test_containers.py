"""cluster=slurm in containers: only the worker is wrapped, a kind of stage may have an image of its own."""

import shlex
import sys
from pathlib import Path

import pytest

from launch.plan.planned import PlannedStage
from launch.slurm import container
from launch.slurm.container import architectures, inside, looked_at
from launch.slurm.limits import Limits
from launch.slurm.resources import resources_of
from launch.slurm.scripts import scripts_of
from synth.errors import InputError
from synth.store.spec import StageSpec
from tests.launch.plan.test_container import SIF
from tests.launch.slurm.test_resources import cluster


def stage(tmp_path: Path, kind: str = "probe") -> PlannedStage:
    (tmp_path / "runs" / "a").mkdir(parents=True, exist_ok=True)
    return PlannedStage(
        StageSpec(kind, kind, {"captioner": {"api_key_env": "MY_KEY"}}, 4, 2, 1, {"name": "exact"}), tmp_path / "runs" / "a"
    )


def texts(tmp_path: Path, *overrides: str):
    wanted = cluster(*overrides)
    gate, one = resources_of(wanted, "gate", {}), stage(tmp_path)
    resources = inside(resources_of(wanted, "probe", one.spec.config), {}, one)
    return scripts_of(one, resources, gate, 1, Limits(), "the command")


def test_the_worker_is_wrapped_and_the_gate_is_not(tmp_path):
    (tmp_path / "a.sif").write_bytes(SIF)
    both = texts(tmp_path, f"cluster.container={tmp_path / 'a.sif'}", "+cluster.env.MINE=1")
    assert f"{tmp_path / 'a.sif'} python3 -u -P -m synth.worker" in both.array and "MINE MY_KEY'" in both.array
    assert "PYTHONPATH" not in both.array and "export SYNTHSET_IMAGE=" in both.array  # the image has its own Python
    assert "apptainer" not in both.gate and shlex.quote(sys.executable) in both.gate


def test_pyxis_gets_its_words_by_srun(tmp_path):
    both = texts(tmp_path, "cluster.container=team/synthset:1", "cluster.container_args=[--container-writable]")
    words = f"--container-mounts={tmp_path / 'runs' / 'a'}:{tmp_path / 'runs' / 'a'} --container-writable python3 -u -P -m synth.worker"
    assert f"--container-image=team/synthset:1 --no-container-mount-home --no-container-entrypoint {words}" in both.array
    assert "unset PYTHONPATH" in both.array and "container-image" not in both.gate


def test_a_kind_of_stage_has_an_image_of_its_own_and_its_key_is_named(tmp_path):
    wanted = cluster(
        "cluster.container=team/a", "cluster.stages.captions.container=team/vllm", "cluster.stages.captions.container_args=[--x]"
    )
    captions, images = (resources_of(wanted, kind, {"captioner": {}}).container for kind in ("captions", "images"))
    assert (captions.image, captions.key, captions.args) == ("team/vllm", "cluster.stages.captions.container", ("--x",))
    assert (images.image, images.key, images.args) == ("team/a", "cluster.container", ())
    assert resources_of(wanted, "gate", {}).container is None


def test_each_image_is_looked_at_once_for_all_its_stages(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(container, "ask", lambda *words, **_: "--container-image" if words[0] == "srun" else "")
    monkeypatch.setattr(container, "inspected", lambda c, mounts, *rest: seen.append((c.image, len(mounts))) or c)
    wanted = cluster("cluster.container=team/a", "cluster.stages.captions.container=team/b")
    stages = [stage(tmp_path, kind) for kind in ("captions", "probe", "images")]
    known = looked_at(stages, lambda s: resources_of(wanted, s.spec.kind, s.spec.config), print)
    assert sorted(seen) == [("team/a", 1), ("team/b", 1)] and len(known) == 2


def test_a_site_without_pyxis_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "ask", lambda *words, **_: "")
    wanted = cluster("cluster.container=team/a")
    with pytest.raises(InputError, match=r"cluster.container=team/a: srun has no --container-image here: this site has no pyxis"):
        looked_at([stage(tmp_path)], lambda s: resources_of(wanted, s.spec.kind, s.spec.config), print)


def test_architectures_are_those_of_the_partition():
    nodes = "NodeName=a Arch=x86_64 Partitions=cpu,gpu State=IDLE\nNodeName=b Arch=aarch64 Partitions=gh\nNodeName=c Partitions=cpu"
    assert architectures(nodes, {"gh"}) == {"aarch64"} and architectures(nodes, {"cpu,gh"}) == {"x86_64", "aarch64"}
    assert architectures(nodes, {None}) == {"x86_64", "aarch64"} and architectures("", {None}) == frozenset()
