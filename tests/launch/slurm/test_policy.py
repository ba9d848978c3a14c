"""Names of limits as Slurm 22.05 printed them for sbatch, each set by sacctmgr on a real one."""

import doctest

import pytest

from launch.config import times
from launch.slurm import limits, payer, policy, resources
from launch.slurm.policy import fewer_fit, limit_in, short, stuck, time_mends

SENTENCE = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


def test_examples():
    for module in (limits, payer, policy, resources, times):
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("name", "keys", "of", "least"),
    [
        ("QOSMaxWallDurationPerJobLimit", ("time",), "qos", False),
        ("AssocMaxWallDurationPerJobLimit", ("time",), "account", False),
        ("QOSGrpWallLimit", ("time",), "qos", False),
        ("PartitionTimeLimit", ("time",), "partition", False),
        ("QOSMinGRES", ("gpus_per_job",), "qos", True),
        ("QOSMaxGRESPerJob", ("gpus_per_job",), "qos", False),
        ("QOSMaxGRESPerUser", ("gpus_per_job",), "qos", False),
        ("QOSGrpGRES", ("gpus_per_job",), "qos", False),
        ("QOSMinCpuNotSatisfied", ("cpus_per_job",), "qos", True),
        ("QOSMaxCpuPerJobLimit", ("cpus_per_job",), "qos", False),
        ("AssocMaxCpuPerJobLimit", ("cpus_per_job",), "account", False),
        ("QOSMaxCpuPerNode", ("cpus_per_job",), "qos", False),
        ("QOSMinMemory", ("mem",), "qos", True),
        ("QOSMaxMemoryPerJob", ("mem",), "qos", False),
        ("QOSGrpCPUMinutesLimit", ("time", "cpus_per_job", "gpus_per_job"), "qos", False),
        ("QOSMaxCpuMinutesPerJobLimit", ("time", "cpus_per_job", "gpus_per_job"), "qos", False),
    ],
)
def test_a_limit_of_a_job_names_what_it_bounds_and_no_time_mends_it(name, keys, of, least):
    words = f"sbatch: sbatch: error: {name}\nallocation failure: {SENTENCE}"
    found = limit_in(words)
    assert found is not None and (found.name, found.keys, found.of, found.least) == (name, keys, of, least)
    assert not time_mends(words) and not fewer_fit(words) and short(words) == name


@pytest.mark.parametrize(
    "name",
    [
        "AssocMaxSubmitJobLimit",
        "AssocGrpSubmitJobsLimit",
        "QOSMaxSubmitJobPerUserLimit",
        "QOSGrpSubmitJobsLimit",
        "MaxSubmitJobsPerAccount",
    ],
)
def test_a_limit_of_jobs_in_the_queue_is_mended_by_time_and_by_fewer_jobs(name):
    words = f"sbatch: sbatch: error: {name}\nsbatch: error: Batch job submission failed: {SENTENCE}"
    found = limit_in(words)
    assert time_mends(words) and fewer_fit(words) and found is not None and found.keys == ("n_jobs", "max_submit")


@pytest.mark.parametrize(
    ("words", "mends"),
    [
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", True),  # MaxJobCount
        ("allocation failure: Resource temporarily unavailable", True),
        ("sbatch: error: Batch job submission failed: Required partition not available (inactive or drain)", True),
        ("sbatch: error: Batch job submission failed: System submissions disabled", True),  # fedstate=DRAIN
        (f"sbatch: error: Batch job submission failed: {SENTENCE}", False),  # a site's own rule, that names no limit
        ("sbatch: error: Batch job submission failed: Invalid job array specification", False),
        ("sbatch: error: Partition gpus takes jobs with GPUs only\nallocation failure: Unspecified error", False),
    ],
)
def test_other_refusals(words, mends):
    assert time_mends(words) is mends and limit_in(words) is None and not fewer_fit(words)


def test_a_partition_whose_nodes_may_be_down_is_waited_for():
    """squeue's man page: PartitionNodeLimit is also told of nodes that are down or drained."""
    assert not stuck(["PartitionNodeLimit"]) and stuck(["PartitionTimeLimit"])
