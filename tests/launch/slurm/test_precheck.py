"""sbatch --test-only has the last word; what it refuses is explained by keys, and by what the site says of itself."""

import doctest
from contextlib import nullcontext
from dataclasses import replace
from functools import cache

import pytest

from launch.config import inherited
from launch.config.clusters import stage_schema
from launch.slurm import limits, precheck
from launch.slurm.limits import Limits, Nodes, Partition
from launch.slurm.precheck import check_srun, check_with_slurm, lacking
from launch.slurm.resources import Resources, resources_of
from synth.errors import InputError
from synth.host.hurry import NO_ANSWER
from synth.host.refusals import passing
from synth.host.slurm import SlurmError
from tests.launch.slurm.test_resources import cluster

ALIKE = Nodes(("gpu:a100:4",), 64, 512000, frozenset({"ib"}))
SITE = Limits(
    partitions={"gpu": Partition("gpu", 86400, True, (ALIKE, replace(ALIKE, gres=(), features=frozenset())))},
    accounts=("lab",),
    qos="normal",
    qualities=("long", "normal"),
)
DOWN = replace(SITE, partitions={"gpu": replace(SITE.partitions["gpu"], nodes=(replace(ALIKE, up=False),))})
POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
NO_SUCH = "allocation failure: Requested node configuration is not available"
composed = cache(cluster)


def asked(kind: str = "images", cpu: dict | None = None, **keys: object) -> Resources:
    made = replace(composed(), **keys, cpu=stage_schema()(**(cpu or {})))
    return resources_of(made, kind, {"captioner": {"model_parallel": 1}})


@pytest.fixture
def check(monkeypatch, tmp_path):
    """check(resources, what sbatch says; "": it takes the script) -> what people are told."""

    def checked(resources: Resources, words: str, site: Limits = SITE) -> list[str]:
        def call(*args: str, **kwargs: object) -> str:
            if words:
                raise SlurmError(f"sbatch: {words}", passing(words))
            return ""

        told: list[str] = []
        monkeypatch.setattr(precheck, "call", call)
        monkeypatch.setattr(precheck, "figures", lambda name, entity: f"MaxWall=01:00:00 of {entity} {name}")
        check_with_slurm(tmp_path / "x.sbatch", resources, site, "images", told.append)
        return told

    return checked


def test_examples():
    assert doctest.testmod(limits).failed == doctest.testmod(inherited).failed == 0


@pytest.mark.parametrize(
    "keys",
    [
        {"partition": "hidden"},
        {"account": "LAB"},
        {"account": "rewritten-by-the-site"},
        {"qos": "unknown"},
        {"constraint": "nowhere"},
        {"mem": "9T"},
        {"time": 90},
        {"time": "UNLIMITED", "partition": "hidden"},
    ],
)
def test_what_sbatch_takes_is_right_whatever_is_known_of_the_site(check, keys):
    assert check(asked(**keys), "") == []


def test_a_time_that_only_a_qos_can_allow_is_told_and_not_refused(check):
    (told,) = check(asked(time="2-0"), "")
    assert 'cluster.time=2-0: sbatch takes it, but partition gpu allows at most "1-0:00:00"' in told and "PartitionTimeLimit" in told


@pytest.mark.parametrize(
    ("keys", "words", "says"),
    [
        (
            {"time": "2:00:00"},
            f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}",
            r"^cluster\.time=2:00:00 \(images\): .* another cluster\.qos",
        ),
        (
            {},
            f"sbatch: error: AssocMaxWallDurationPerJobLimit\n{POLICY}",
            "another cluster.account; limits of your account: MaxWall=01:00:00",
        ),
        (
            {},
            f"sbatch: error: QOSMinGRES\n{POLICY}",
            r"^cluster\.gpus_per_job=1 .*less than this site demands \(GPUs\); raise it.*of QOS normal",
        ),
        ({"gres": "gpu:a100:2"}, f"sbatch: error: QOSMaxGRESPerJob\n{POLICY}", r"^cluster\.gres=gpu:a100:2 \(images\)"),
        ({}, f"sbatch: error: QOSMaxCpuPerJobLimit\n{POLICY}", r"^cluster\.cpus_per_job=4"),
        ({"mem": "9T"}, f"sbatch: error: QOSMaxMemoryPerJob\n{POLICY}", r"^cluster\.mem=9T"),
        ({"mem": "9T"}, NO_SUCH, r"^cluster\.mem=9T .* have at most 512000M"),
        ({"cpus_per_job": 99}, NO_SUCH, r"^cluster\.cpus_per_job=99 .* have at most 64 cores"),
        ({"gpus_per_job": 8, "cpus_per_job": 8}, NO_SUCH, r"^cluster\.gpus_per_job=8 .* have gres gpu:a100:4"),
        ({"gres": "gpu:h100:1"}, NO_SUCH, r"^cluster\.gres=gpu:h100:1 .* have gres gpu:a100:4"),
        ({"partition": "gpus"}, "sbatch: error: invalid partition specified: gpus", "did you mean gpu"),
        ({"account": "labs"}, "Invalid account or account/partition combination specified", "yours are lab; did you mean lab"),
        ({"time": "2-0"}, "Requested time limit is invalid (missing or exceeds some limit)", 'allows at most "1-0:00:00"'),
        ({}, "sbatch: error: Tell your project\nallocation failure: Unspecified error", "^images: Slurm refuses it: Tell your project"),
        ({"partition": None}, "No partition specified or system default partition", r"^cluster\.partition \(images\).*; partitions: gpu"),
        ({"nodelist": "n9"}, "Requested nodes not in this partition", r"^cluster\.nodelist=n9"),
        ({"extra": {"mail-type": "ENDED"}}, "Invalid --mail-type specification", r"^cluster\.extra\.mail-type=ENDED \(images\)"),
        ({"extra": {"async": True}}, "sbatch: unrecognized option '--async'", r"^cluster\.extra\.async=True \(images\)"),
        ({"extra": {"batch": "a"}}, "Job --batch option is invalid or not a subset of --constraints", r"^cluster\.extra\.batch=a "),
        ({"extra": {"licenses": "a"}}, "Invalid license specification", r"^cluster\.extra\.licenses=a "),
        ({"extra": {"min_cpus": 9, "mincpus": 99}}, NO_SUCH, r"^cluster\.extra\.mincpus=99 \(images\): [^;]*"),
        ({"qos": "lnog"}, "Invalid qos specification", r"^cluster\.qos=lnog .*yours are long, normal; did you mean long\?"),
        (
            {},
            "sbatch: error: Tell your project: --comment=PROJECT and --time\nUnspecified error",
            r"^images: .*; --comment is \+cluster\.extra\.comment, --time is cluster\.time",
        ),
        (
            {},
            "sbatch: error: Say --cpus-per-task, --time-min and --ntasks\nUnspecified error",
            r"--cpus-per-task is cluster\.cpus_per_job, --time-min is cluster\.time_min, --ntasks is set by the launcher",
        ),
        (
            {},
            "sbatch: error: Ask with --gpus-per-task\nTry 'sbatch --help' for more\nUnspecified error",
            r"--gpus-per-task asks for GPUs, which cluster\.gpus_per_job does; (?=cluster\.check=false)",
        ),
        ({}, "Job violates accounting/QOS policy", "^images: Slurm refuses it: Job violates"),
    ],
)
def test_what_sbatch_refuses_names_the_key_and_what_the_site_has(check, keys, words, says):
    with pytest.raises(InputError, match=f"(?s){says}.*cluster.check=false"):
        check(asked(**keys), words)


def test_a_key_is_told_as_it_was_given_by_whoever_gave_it(check, monkeypatch):
    monkeypatch.setenv("SBATCH_PARTITION", "old")
    with pytest.raises(InputError, match=r"^cluster\.partition=old \(of SBATCH_PARTITION in the environment\) \(images\)"):
        check(asked(partition="old"), "sbatch: error: invalid partition specified: old")
    of_cpu = asked("image_folder", cpu={"extra": {"reservation": "r"}, "qos": "lnog"}, extra={"nice": 1})
    with pytest.raises(InputError, match=r"^cluster\.cpu\.extra\.reservation=r \(images\)"):
        check(of_cpu, "Requested reservation is invalid")
    with pytest.raises(InputError, match=r"^cluster\.cpu\.qos=lnog .*did you mean long\?; cluster\.check"):
        check(of_cpu, "Invalid qos specification")


@pytest.mark.parametrize(
    ("code", "words", "says"),
    [
        (255, "srun: unrecognized option '--container-writable'\nTry \"srun --help\" for more information", "container_writable"),
        (255, "srun: error: Invalid --mem specification", "cpu.srun_extra.mem"),
        (0, "usage", None),
        (NO_ANSWER, "", None),
    ],
)
def test_flags_of_srun_are_tried_before_a_job_waits_to_end_by_them(monkeypatch, code, words, says):
    asked_srun = asked("image_folder", cpu={"srun_extra": {"mem": "abc"}}, srun_extra={"container_writable": True})
    monkeypatch.setattr(precheck, "command", lambda *args, **kwargs: (code, "", words) if args[-1] == "--help" else None)
    with pytest.raises(InputError, match=rf"^cluster\..*{says} \(x\): srun refuses it: [^:]*;") if says else nullcontext():
        check_srun(asked_srun, "x")


def test_a_job_without_gpus_is_told_of_its_own_keys(check):
    with pytest.raises(InputError, match=r"GPUs only; Unspecified error; stages without GPUs, and gates, .*cluster\.cpu\.partition"):
        check(asked("gate"), "sbatch: error: GPUs only\nallocation failure: Unspecified error")
    with pytest.raises(InputError, match=r"^cluster\.cpu\.mem=9T .*at most 512000M; cluster\.check"):
        check(asked("image_folder", cpu={"mem": "9T"}), NO_SUCH)


@pytest.mark.parametrize(
    ("words", "site"),
    [
        (f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}", SITE),
        ("allocation failure: Resource temporarily unavailable", SITE),
        ("allocation failure: Required partition not available (inactive or drain)", SITE),
        ("allocation failure: Requested nodes are busy", SITE),
        ("Unable to contact slurm controller (connect failure)", SITE),
        (NO_SUCH, DOWN),  # Slurm says so of nodes that are drained for an hour
    ],
)
def test_a_refusal_that_time_mends_is_told_and_refuses_nothing(check, words, site):
    (told,) = check(asked(), words, site)
    assert told.startswith("images: cannot be tested now: ")


def test_nodes_that_are_down_do_not_excuse_what_no_node_has(check):
    with pytest.raises(InputError, match=r"^cluster\.gres=gpu:h100:1"):
        check(asked(gres="gpu:h100:1"), NO_SUCH, DOWN)


def test_what_no_node_has_at_once_names_all_that_collide():
    nodes = (Nodes(("gpu:4",), 8, 8000), Nodes((), 64, 8000))
    assert lacking(asked(cpus_per_job=32), nodes) == ("gpus_per_job", "cpus_per_job")
    assert lacking(asked(cpus_per_job=8), nodes) == () and lacking(asked(), ()) == ()
