"""The name of the device that a worker computes on: one for each of a host's, whatever CUDA counts from."""

import doctest

import pytest

from synth.host import allocation
from synth.host.allocation import DEFAULT, JOB_GPUS, place


def named(shares, **env) -> list[str]:
    """Places of the workers of one job, from what CUDA_VISIBLE_DEVICES is for each."""
    return [place({"CUDA_VISIBLE_DEVICES": share} | env) for share in shares]


@pytest.mark.parametrize(
    ("shares", "job", "slurm", "expected"),
    [
        (["0", "1"], "0,1", "1,2", ["gpu 1", "gpu 2"]),  # counted from 0 in a cgroup
        (["1", "2"], "1,2", "1,2", ["gpu 1", "gpu 2"]),  # as nvidia-smi counts
        (["0,1", "2,3"], "0,1,2,3", "2,3,4,5", ["gpu 2,3", "gpu 4,5"]),
        (["MIG-a", "MIG-b"], "MIG-a,MIG-b", "4,5", ["gpu 4", "gpu 5"]),
        (["0,1"], "", "1,2", ["gpu 1,2"]),  # all that the job has
        (["0", "1"], "", "1,2", ["gpu 0", "gpu 1"]),  # meant either way
        (["0", "1"], "", "3,5", ["gpu 3", "gpu 5"]),
        (["3", "5"], "", "3,5", ["gpu 3", "gpu 5"]),
        (["3"], "3,4", "", ["gpu 3"]),
        (["NoDevFiles", "-1", ""], "", "", [DEFAULT] * 3),
    ],
)
def test_two_gpus_of_a_job_never_have_one_name(shares, job, slurm, expected):
    assert named(shares, **{JOB_GPUS: job}, SLURM_JOB_GPUS=slurm) == expected


def test_the_examples_in_docstrings_are_true():
    assert doctest.testmod(allocation).failed == 0
