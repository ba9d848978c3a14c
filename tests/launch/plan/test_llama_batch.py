"""captioner.max_batch_size=auto becomes a number in stage.json, and a wrong value an error at plan time."""

import pytest

from synth.errors import InputError


def rows(world, *overrides):
    point = world.point("captioner.max_batch_size=auto", *overrides)
    return point.stages[0].spec.config["captioner"]["max_batch_size"]


def test_auto_is_a_number_in_the_stage(world):
    assert rows(world) == 32
    assert rows(world, "captions.window=8") == 8
    many = ("captions.window=1024", "captions.unit_size=1024")
    assert rows(world, "cluster.gpu_mem_gb=80", *many) == 256
    assert 8 <= rows(world, "cluster.gpu_mem_gb=6.5", *many, "captioner.max_seq_len=4096") < 256


def test_no_more_rows_than_a_unit_has_captions(world):
    """A window never goes beyond its unit: rows for more would cost memory and stand empty."""
    assert rows(world, "cluster.gpu_mem_gb=80", "captions.window=1024", "captions.unit_size=64") == 64


def test_the_gpus_of_the_captions_stage_count_where_they_are_given(world):
    own = "cluster.stages.captions.gpu_mem_gb=80"
    assert rows(world, "cluster=slurm", "cluster.gpu_mem_gb=0.1", own, "captions.window=64", "captions.unit_size=64") == 64


@pytest.mark.parametrize("asked", ["16", "auto"])
def test_equal_numbers_are_one_stage_however_they_came_about(world, asked):
    point = world.point(f"captioner.max_batch_size={asked}", "captions.window=16")
    assert point.stages[0].spec.fingerprint == world.point("captioner.max_batch_size=16", "captions.window=16").stages[0].spec.fingerprint


@pytest.mark.parametrize("wrong", ["0", "-3", "1.5", "many", "true", "null"])
def test_what_is_no_number_of_captions_is_named(world, wrong):
    with pytest.raises(InputError, match=r"captioner\.max_batch_size="):
        world.point(f"captioner.max_batch_size={wrong}")


def test_a_gpu_too_small_and_one_of_no_memory_are_named(world):
    with pytest.raises(InputError, match=r"cluster.gpu_mem_gb=1: .*needs about \d+ GB"):
        rows(world, "cluster.gpu_mem_gb=1")
    with pytest.raises(InputError, match=r"cluster\.gpu_mem_gb=-5"):
        rows(world, "cluster.gpu_mem_gb=-5")
