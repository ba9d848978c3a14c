"""What a site says of itself, and how much of it is used."""

import doctest

import pytest

from launch.slurm import limits
from launch.slurm.limits import Limits, Nodes, Partition, parse_config, parse_partitions, parse_submit, read, shares, split
from synth.host import slurm

CONFIG = "Configuration data\nAccountingStorageType   = accounting_storage/slurmdbd\nMaxArraySize = 10\nMaxJobCount  = 10000\n"
PARTITIONS = "PartitionName=cpu Default=YES MaxTime=UNLIMITED State=UP\nPartitionName=gpu Default=NO MaxTime=2-00:00:00 State=UP\n"


def test_examples_of_the_parsers():
    for module in (limits, slurm):
        assert doctest.testmod(module).failed == 0


def test_partitions_with_their_limits_and_gres():
    found = parse_partitions(PARTITIONS, "cpu|(null)\ngpu|gpu:a100:4(S:0-1)\ngpu|gpu:h100:8,nvme:1\n")
    assert found == {
        "cpu": Partition("cpu", None, True, (Nodes(),)),
        "gpu": Partition("gpu", 172800, False, (Nodes(("gpu:a100:4",)), Nodes(("gpu:h100:8", "nvme:1")))),
    }
    assert found["gpu"].gres == ("gpu:a100:4", "gpu:h100:8", "nvme:1")


@pytest.mark.parametrize(
    ("state", "up"), [("idle", True), ("mixed-", True), ("allocated~", True), ("down*", False), ("drained", False), ("maint", False)]
)
def test_nodes_with_all_that_they_have_and_whether_they_take_jobs(state, up):
    found = parse_partitions("PartitionName=a QoS=small\nPartitionName=b", f"a|(null)|64+|512000|(null)|{state}\n")
    assert found["a"] == Partition("a", nodes=(Nodes((), 64, 512000, up=up),), qos="small") and found["b"].nodes == ()


@pytest.mark.parametrize("text", ["", "nonsense", "You are not running a supported accounting_storage plugin\n", "=\n||\n"])
def test_silence_and_nonsense_mean_that_nothing_is_known(text):
    assert parse_partitions(text, text) == {} and parse_submit(text, text, None, None) is None and "MaxArraySize" not in parse_config(text)


@pytest.mark.parametrize(
    ("account", "qos", "most"),
    [(None, None, 100), ("lab", None, 100), ("LAB", None, 100), ("other", None, 50), (None, "long", 20), ("other", "none", 50)],
)
def test_the_smallest_submit_limit_counts(account, qos, most):
    assert parse_submit("lab|500|normal,long|normal\nother|50|normal|\n", "normal|100\nlong|20\nnone|\n", account, qos) == (
        min(most, 50) if account is None else most
    )


@pytest.mark.parametrize("answer", [None, (1, "", "slurm_load_jobs error: Unable to contact slurm controller")])
def test_a_site_without_commands_is_taken_as_it_comes(answer, monkeypatch):
    monkeypatch.setattr(slurm, "command", lambda *args, **_: answer)
    assert read() == Limits() and read(max_array=10, max_submit=5) == Limits(max_array=10, max_submit=5)


def test_the_config_wins_over_the_site(monkeypatch):
    answers = {"scontrol show config": CONFIG, "sacctmgr -nP show assoc": "lab|7||"}

    def command(*args, **_):
        return 0, answers.get(" ".join(args)[: 23 if args[0] == "sacctmgr" else None], ""), ""

    monkeypatch.setattr(slurm, "command", command)
    monkeypatch.setattr(slurm, "_name", "dev")
    assert (read().max_array, read().max_submit) == (10, 7)
    assert (read(max_array=4).max_array, read(max_submit=3).max_submit) == (4, 3)


@pytest.mark.parametrize("tasks", [1, 9, 10, 11, 25])
def test_arrays_count_from_0_and_cover_all_tasks(tasks):
    parts = split(tasks, 10)
    assert [offset + i for offset, size in parts for i in range(size)] == list(range(tasks)) and all(size <= 10 for _, size in parts)


@pytest.mark.parametrize(
    ("wanted", "room", "given"),
    [
        ([8, 8, 8], 100, [8, 8, 8]),
        ([8, 8, 8], 12, [3, 3, 3]),
        ([8, 0, 2], 6, [2, 0, 2]),
        ([5, 5], 1, [0, 0]),
        ([5, 5], 0, [0, 0]),
    ],
)
def test_what_does_not_fit_is_cut_from_the_largest(wanted, room, given):
    assert shares(wanted, room) == given and sum(g + 1 for g in given if g) <= room
