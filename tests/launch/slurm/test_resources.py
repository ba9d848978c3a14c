"""From the keys of cluster=slurm to what one Slurm job asks for."""

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
        (["+cluster.extra.gpus-per-task=1"], "each worker of a job gets its own"),
        (["+cluster.extra.gpus_per_node=4", "cluster.gpus_per_job=4"], "ask for GPUs twice"),
        (["+cluster.extra.gpus=all"], "not a number of GPUs"),
        (["+cluster.extra.gpus=1"], "needs 2 GPUs"),
        (["+cluster.extra.nice='a\nb'"], "line break"),
        (["cluster.partition='a\nb'"], "line break"),
        (["+cluster.env.A-B=1"], "name of a variable"),
        (["cluster.stages.captions.mem=much"], "cluster.stages.captions.mem"),
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
