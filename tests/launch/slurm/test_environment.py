"""What a site does to the environment of jobs, and where they begin: what works, and what is told as what it is."""

import os
from dataclasses import replace

import pytest

from launch.slurm import precheck
from launch.slurm.exported import check_export
from launch.slurm.limits import Limits
from launch.slurm.resources import Resources
from launch.slurm.scripts import log
from synth.errors import InputError
from synth.host.slurm import SlurmError
from tests.launch.slurm.test_resources import made
from tests.stages import probe


@pytest.fixture(scope="module")
def resources() -> Resources:
    return made("probe", "cluster.partition=gpu")


@pytest.mark.parametrize(
    ("site", "slurm"),
    [
        ("Jobs must not be submitted from /home, use /scratch", "Access/permission denied"),
        ("Working directory /home/me is not allowed", "Unspecified error"),
        ("work_dir not writable on the nodes", "Access/permission denied"),
        ("please submit your job from your scratch", "Access/permission denied"),
    ],
)
def test_a_job_refused_because_of_its_folder_is_told_so_and_not_blamed_on_the_partition(tmp_path, monkeypatch, resources, site, slurm):
    def call(*args, **options):
        raise SlurmError(f"sbatch: error: {site}\nsbatch: error: Batch job submission failed: {slurm}")

    monkeypatch.setattr(precheck, "call", call)
    with pytest.raises(InputError) as told:
        precheck.check_with_slurm(tmp_path, resources, Limits(), "images", lambda what: None)
    said = str(told.value)
    assert said.startswith("cluster.extra.chdir (images)") and os.getcwd() in said and "+cluster.extra.chdir=FOLDER" in said
    assert "cluster.partition" not in said
    with pytest.raises(InputError, match=r"cluster\.extra\.chdir=/x "):
        precheck.check_with_slurm(tmp_path, replace(resources, extra={"chdir": "/x"}), Limits(), "images", lambda what: None)


def test_access_denied_alone_is_still_the_partitions(tmp_path, monkeypatch, resources):
    def call(*args, **options):
        raise SlurmError("sbatch: error: Batch job submission failed: User's group not permitted to use this partition")

    monkeypatch.setattr(precheck, "call", call)
    with pytest.raises(InputError, match=r"cluster\.partition=gpu"):
        precheck.check_with_slurm(tmp_path, resources, Limits(), "images", lambda what: None)


@pytest.mark.parametrize(
    ("export", "fix"),
    [
        ("NONE", "+cluster.extra.export='\"MY_KEY\"'"),
        ("HOME,LANG", "+cluster.extra.export='\"HOME,LANG,MY_KEY\"'"),
        ("HOME,MY_KEY", ""),
        ("ALL", ""),
        (None, ""),
    ],
)
def test_a_secret_that_a_site_keeps_from_the_jobs_is_named_before_anything_is_queued(tmp_path, resources, export, fix):
    spec = replace(probe(tmp_path).spec, settings={"api_key_env": "MY_KEY"})
    resources = replace(resources, extra={"export": export} if export else {})
    if not fix:
        check_export(spec, resources)
        return
    with pytest.raises(InputError) as told:
        check_export(spec, resources)
    assert fix in str(told.value) and "MY_KEY" in str(told.value)


def test_a_backslash_in_runs_dir_is_refused_because_logs_would_go_elsewhere(tmp_path):
    with pytest.raises(InputError, match="has a backslash"):
        log(tmp_path / "a\\b", "%A_%a")
