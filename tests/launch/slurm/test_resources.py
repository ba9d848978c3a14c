"""From the keys of cluster=slurm to what one Slurm job asks for."""

from dataclasses import replace
from functools import cache

import pytest

from launch.config.compose import Composer, typed
from launch.slurm.resources import resources_of
from synth.errors import InputError

ONE = {"captioner": {"model_parallel": 1}}
TWO = {"captioner": {"model_parallel": 2}}


def cluster(*overrides):
    return typed(Composer().compose(["recipe=probe", "cluster=slurm", *overrides])).cluster


def made(kind, *overrides, config=ONE):
    return resources_of(cluster(*overrides), kind, config)


def test_a_gpu_stage_asks_for_what_one_worker_needs_and_others_for_cores():
    assert made("images").gres == "gpu:1" and made("captions", config=TWO).gres == "gpu:2"
    assert made("image_folder").gres == "" and made("gate").gpus == 0
    assert made("images", "cluster.gpus_per_job=0").gres == ""


@pytest.mark.parametrize("flag", ["+cluster.extra.gpus=4", "+cluster.extra.gpus-per-node=a100:4", "+cluster.extra.gpus_per_node=4"])
def test_flags_of_sbatch_that_ask_for_gpus_are_counted_and_reach_gpu_stages_alone(flag):
    found = made("captions", flag, config=TWO)
    assert (found.gpus, found.workers, found.gpus_worker, found.gres) == (4, 2, 2, "") and len(found.extra) == 1
    for kind in ("gate", "image_folder"):
        assert made(kind, flag).gpus == 0 and not made(kind, flag).extra


def test_a_kind_of_stage_overrides_the_cluster():
    found = made(
        "images",
        "cluster.partition=a",
        "cluster.stages.images.partition=b",
        "cluster.time='1:00:00'",
        "cluster.stages.images.n_jobs=3",
    )
    assert (found.partition, found.time, found.n_jobs) == ("b", "1:00:00", 3)
    assert made("captions", "cluster.stages.images.partition=b").partition is None


def test_memory_of_a_node_comes_from_what_its_workers_need_unless_somebody_says():
    def mem(*overrides, host_gb=5.2):
        return resources_of(cluster(*overrides), "images", ONE, host_gb).flags()["mem"]

    assert mem() == "6G" and mem("cluster.gpus_per_job=8", "cluster.cpus_per_job=16") == "42G"
    assert mem("cluster.mem=32G") == "32G" and mem("cluster.mem='0'") == "0" and mem("cluster.mem=''") is None
    assert mem(host_gb=None) is None  # no model: the site's default


def test_mappings_of_a_stage_are_added_to_those_of_the_cluster():
    found = made("images", "+cluster.env.A=1", "+cluster.stages.images.env.B=2", "+cluster.extra.exclusive=true")
    assert found.env == {"A": "1", "B": "2"} and found.flags()["exclusive"] is True


def test_whole_nodes_are_filled_with_workers():
    assert made("images", "cluster.gpus_per_job=8", "cluster.cpus_per_job=16").workers == 8
    found = made("captions", "cluster.gpus_per_job=8", "cluster.cpus_per_job=16", config=TWO)
    assert (found.workers, found.gpus_worker, found.cpus_worker) == (4, 2, 4)
    assert made("images", "cluster.gpus_per_job=8", "cluster.workers_per_job=2").workers == 2
    assert made("images", "cluster.gres=gpu:a100:4").workers == 4


def test_each_worker_has_four_cores_of_its_own_unless_their_number_is_given():
    found = made("images", "cluster.gpus_per_job=8")
    assert (found.workers, found.cpus_per_job, found.cpus_worker) == (8, 32, 4)
    assert made("images").cpus_per_job == made("image_folder").cpus_per_job == 4 and made("gate").cpus_per_job == 1
    shared = made("images", "cluster.gpus_per_job=8", "cluster.cpus_per_job=16")
    assert (shared.cpus_per_job, shared.flags()["cpus-per-task"]) == (16, 2)


def test_slices_of_gpus_are_gpus_of_their_own():
    found = made("images", "cluster.gres=gpu:1g.5gb:7")
    assert (found.gpus, found.workers, found.cpus_per_job) == (7, 7, 28)


def test_a_drain_is_asked_for_in_the_last_quarter_of_the_time_at_most():
    assert made("images").signal_s() == 120 and made("images", "cluster.time='4:00'").signal_s() == 60


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["cluster.gpus_per_job=1"], "needs 2 GPUs"),
        (["cluster.gpus_per_job=4", "cluster.gres=gpu:8"], "disagree"),
        (["cluster.gres='gpu 8'"], "not a gres"),
        (["cluster.gpus_per_job=4", "cluster.workers_per_job=3"], "take 2"),
        (["cluster.workers_per_job=many"], "auto or a number"),
        (["cluster.mem=8 GB"], "not a size"),
        (["cluster.time='1:00:00'", "cluster.time_min='2:00:00'"], "longer than"),
        (["cluster.on_missing=wait"], "cancel or hold"),
        (["cluster.cpus_per_job=0"], "1 or more"),
        (["cluster.gpus_per_job=8", "cluster.cpus_per_job=3"], "4 workers of a job need a core each"),
        (["cluster.gpus_per_job=2", "cluster.workers_per_job=2"], "workers of 2 GPUs do not fit into a job of 2; take 1"),
        (["+cluster.extra.output=x"], "set by the launcher"),
        (["+cluster.extra.constraint=a100"], "has a key of its own: set cluster.constraint"),
        (["+cluster.extra.cpus-per-task=4"], "has a key of its own: set cluster.cpus_per_job"),
        (["+cluster.extra.cluster-constraint=fast"], "has a key of its own: set cluster.clusters"),  # a run stays on one of them
        (["+cluster.extra.gpus-per-task=1"], "each worker of a job gets its own"),
        (["+cluster.extra.gpus_per_node=4", "cluster.gpus_per_job=4"], "ask for GPUs twice"),
        (["+cluster.extra.gpus=all"], "not a number of GPUs"),
        (["+cluster.extra.gpus=1"], "needs 2 GPUs"),
        (["+cluster.extra.nice='a\nb'"], "line break"),
        (["cluster.partition='a\nb'"], "line break"),
        (["+cluster.env.A-B=1"], "name of a variable"),
        (["cluster.stages.captions.mem=much"], "cluster.stages.captions.mem"),
        (["cluster.mem=8G", "+cluster.extra.mem_per_cpu=2G"], r"cluster\.mem=8G and cluster\.extra\.mem_per_cpu ask for memory twice"),
        (["+cluster.extra.test-only=true"], "something else than a job"),
        (["+cluster.extra.wait=true"], "something else than a job"),
        (["+cluster.stages.captions.extra.wait=true", "+cluster.extra.nice=1"], r"^cluster\.stages\.captions\.extra\.wait"),
        (["+cluster.stages.captions.extra.gpus=1", "+cluster.stages.captions.extra.nice=1"], "needs 2 GPUs"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_its_key(overrides, says):
    with pytest.raises(InputError, match=says):
        made("captions", *overrides, config=TWO)


def test_a_time_that_yaml_made_a_number_of_is_refused(tmp_path):
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "mine.yaml").write_text("defaults: [slurm, _self_]\nstages: {images: {time: 1:00:00}}\n")
    from launch.config.check import check

    with pytest.raises(InputError, match="quote the time"):
        check(["--config-dir", str(tmp_path), "cluster=mine", "recipe=probe"])


# -- jobs without GPUs, and gates ------------------------------------------------------------------------------------------

composed = cache(cluster)


def of(kind, cpu=None, stage=None, config=ONE, **keys):
    """The resources of a kind with keys of the cluster, of cluster.cpu and of cluster.stages.<kind>."""
    made = composed()
    stages = dict(made.stages) | ({kind: replace(made.stages[kind], **stage)} if stage else {})
    return resources_of(replace(made, **keys, cpu=replace(made.cpu, **(cpu or {})), stages=stages), kind, config)


def test_one_group_of_keys_is_for_all_jobs_without_gpus_and_the_kind_of_a_stage_goes_before_it():
    cpu = {"partition": "cpu", "account": "lab-cpu", "qos": "", "time": "1:00:00", "extra": {"wckey": "x"}, "env": {"A": "1"}}
    given = {"partition": "gpu", "account": "lab-gpu", "qos": "high", "extra": {"comment": "mine"}}
    for kind in ("gate", "image_folder", "captions_json"):
        found = of(kind, cpu, **given)
        assert (found.partition, found.account, found.flags()["qos"], found.env) == ("cpu", "lab-cpu", None, {"A": "1"})
        assert found.extra == {"comment": "mine", "wckey": "x"} and found.time == ("0:30:00" if kind == "gate" else "1:00:00")
        assert (found.keys["partition"], found.keys["mem"], found.of_cpu) == ("cluster.cpu.partition", "cluster.mem", True)
    assert of("gate", cpu, **given).keys["time"] == "cluster.stages.gate.time"
    assert of("gate", cpu, {"partition": "login"}, **given).partition == "login"
    gpu = of("images", cpu, **given)
    assert (gpu.partition, gpu.account, gpu.qos, gpu.extra, gpu.of_cpu) == ("gpu", "lab-gpu", "high", {"comment": "mine"}, False)


@pytest.mark.parametrize(
    ("kind", "keys", "stage", "config", "of_cpu"),
    [
        ("images", {"gpus_per_job": 0}, {}, ONE, True),
        ("images", {}, {"gpus_per_job": 0}, ONE, True),
        ("captions", {}, {}, {"captioner": {"engine": "openai"}}, True),
        ("image_folder", {}, {"gpus_per_job": 1}, ONE, False),
        ("image_folder", {"gpus_per_job": 4}, {}, ONE, True),
        ("gate", {"gpus_per_job": 4, "gres": "gpu:4"}, {}, ONE, True),
    ],
)
def test_what_asks_for_no_gpu_is_known_by_what_it_asks_for(kind, keys, stage, config, of_cpu):
    found = of(kind, {"partition": "cpu"}, stage, config, **keys)
    assert found.of_cpu is of_cpu and (found.partition == "cpu") is of_cpu and (found.gpus == 0) is of_cpu


def test_where_all_jobs_must_take_a_gpu_those_without_may_be_given_one():
    found = of("gate", {"gpus_per_job": 1})
    assert found.gres == "gpu:1" and of("image_folder", {"gres": "gpu:t4:1"}).gres == "gpu:t4:1" and of("images").gres == "gpu:1"


def test_what_is_said_of_nodes_of_one_partition_is_not_said_of_those_of_another():
    given = {"partition": "gpu", "constraint": "a100", "nodelist": "g1", "exclude": "g2", "extra": {"reservation": "r", "comment": "c"}}
    here = of("gate", **given)
    assert (here.constraint, here.nodelist, here.exclude, dict(here.extra)) == ("a100", "g1", "g2", {"reservation": "r", "comment": "c"})
    there = of("gate", {"partition": "cpu"}, **given)
    assert (there.constraint, there.nodelist, there.exclude, dict(there.extra)) == (None, None, None, {"comment": "c"})
    assert of("gate", {"partition": "cpu", "constraint": "old"}, **given).constraint == "old"


@pytest.mark.parametrize("flag", ["exclusive", "mem-per-cpu", "mem_per_gpu", "gpu-bind", "threads-per-core", "reboot", "resv_ports"])
def test_what_asks_for_whole_nodes_does_not_reach_gates_unless_it_is_given_to_them(flag):
    assert not of("gate", extra={flag: "1"}).extra and of("images", extra={flag: "1"}).extra
    assert of("gate", stage={"extra": {flag: "1"}}).extra == {flag: "1"}


def test_a_gate_takes_little_of_the_memory_that_jobs_ask_for():
    assert [of("gate", mem=mem).mem for mem in ("400G", "0", "1G", None)] == ["2G", "2G", "1G", None]
    assert of("gate", mem="400G", stage={"mem": "8G"}).mem == "8G" and of("image_folder", mem="400G").mem == "400G"


def test_neither_reaches_gates_from_the_keys_of_jobs_without_gpus():
    cpu = {"mem": "200G", "extra": {"exclusive": True, "resv_ports": 1, "wckey": "x", "gpus-per-node": 1}}
    gate, other = of("gate", cpu), of("image_folder", cpu)
    assert gate.mem == "2G" and gate.extra == {"wckey": "x", "gpus-per-node": 1} and gate.gpus == 1  # which all jobs of a site may need
    assert other.mem == "200G" and other.extra == cpu["extra"]
    own = of("gate", cpu, {"mem": "8G", "extra": {"exclusive": True}})
    assert own.mem == "8G" and own.extra == {"wckey": "x", "gpus-per-node": 1, "exclusive": True}


def test_a_comment_is_the_users_and_times_are_those_of_sbatch():
    assert of("images", extra={"comment": "project x"}).flags()["comment"] == "project x"
    assert (of("images", time=90).flags()["time"], of("images", time=90).signal_s()) == ("90", 120)
    assert of("images", time="UNLIMITED").signal_s() == 120 and of("images", time=1).signal_s() == 15
