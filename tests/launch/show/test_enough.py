"""cluster.n_jobs=auto:8h: the smallest number that the estimate of each stage ends in that time with."""

from dataclasses import replace
from functools import cache

import pytest

from launch.config.clusters import ClusterConfig, n_jobs_of, wanted_time
from launch.plan.planned import Point
from launch.run import Session
from launch.show.enough import Enough, enough, one_end, settled
from launch.show.estimate import Pace, Paces, estimate
from synth.errors import InputError
from tests.launch.plan.test_trial import planned as composed
from tests.launch.show.test_estimate import images, measured

PACE = Pace(2.0, 2.0, 2.0, 30.0, 1.0, 9, "H100", "images-1")


@pytest.mark.parametrize(("units", "limit"), [(100, 230.0), (100, 8 * 3600.0), (7, 61.0), (1000, 50.0), (1000, 49.9), (3, 10.0)])
def test_it_is_the_smallest_number_that_ends_in_time(units, limit):
    found = enough(units, 10.0, PACE, limit)

    def wall(workers):
        return -(-units // workers) * 20.0 + 30.0

    assert found.wall_s == wall(found.workers) and 1 <= found.workers <= units
    assert found.in_time == (wall(found.workers) <= limit) == (wall(units) <= limit)
    assert found.workers == units or not found.in_time or found.workers == 1 or wall(found.workers - 1) > limit
    assert enough(units, 10.0, PACE, limit, most=2).workers <= 2


def test_what_took_no_time_that_a_clock_tells_is_done_by_one():
    assert enough(100, 10.0, replace(PACE, slot_s=0.0), 60.0) == Enough(1, 30.0, True)


@cache
def cluster():
    return composed("runs", "recipe=probe", "cluster=slurm", "cluster.n_jobs='auto:10m'").cluster


def test_each_stage_has_the_number_that_its_estimate_wants_and_a_kind_may_have_its_own(tmp_path):
    runs = tmp_path / "runs"
    measured(images(runs / "birds"), 9)
    stage = images(runs / "cars", slots=4000, seed=7)
    a_point = Point("", (stage,), cluster())
    (point,), (line,) = settled([a_point], [stage], lambda s: 1)
    n = point.cluster.stages["images"].n_jobs
    assert line == f"cluster.n_jobs=auto:10m: {stage.spec.folder_name}: {n} (about 9 min)"
    assert estimate(stage, n, Paces([runs])).wall_s <= 600 < estimate(stage, n - 1, Paces([runs])).wall_s
    assert point.stages == a_point.stages and stage.spec.fingerprint == images(runs / "cars", slots=4000, seed=7).spec.fingerprint
    (two,), _ = settled([a_point], [stage], lambda s: 4)
    assert two.cluster.stages["images"].n_jobs == -(-n // 4), "jobs of four workers"
    stages = {**cluster().stages, "images": replace(cluster().stages["images"], n_jobs=3)}
    own = replace(a_point, cluster=replace(cluster(), stages=stages))
    (kept,), said = settled([own], [stage], lambda s: 1)
    assert n_jobs_of(kept.cluster, "images", True) == 3 and said == []


def test_a_try_beside_the_run_tells_the_pace(tmp_path):
    measured(images(tmp_path / "runs" / "try" / "birds"), 9)
    stage = images(tmp_path / "runs" / "birds", slots=4000)
    assert settled([Point("", (stage,), cluster())], [stage], lambda s: 1)[1]


def test_without_a_measure_it_is_refused_by_name_unless_there_is_nothing_to_share(tmp_path):
    stage, small = images(tmp_path / "runs" / "birds"), images(tmp_path / "runs" / "birds", slots=4)
    on_slurm = cluster()
    with pytest.raises(InputError, match=r"no earlier stage tells how long a sample of images takes: run the same with try=2 or .*doctor"):
        settled([Point("", (stage,), on_slurm)], [stage], lambda s: 1)
    (point,), said = settled([Point("", (small,), on_slurm)], [small], lambda s: 1)
    assert (point.cluster.n_jobs, said) == (1, [])


def test_here_there_is_room_for_as_many_as_the_machine_has(tmp_path, monkeypatch):
    monkeypatch.setattr("launch.show.enough.workers_of", lambda points, stages: lambda stage: 2)
    measured(images(tmp_path / "runs" / "birds"), 9)
    stage = images(tmp_path / "runs" / "cars", slots=4000)
    here = ClusterConfig(
        kind="local", n_jobs="auto:10m", gpu_mem_gb=24, container=None, container_runtime="auto", container_args=(), container_mounts=()
    )
    (point,), (line,) = settled([Point("", (stage,), here)], [stage], lambda s: 1)
    assert isinstance(point.cluster, ClusterConfig) and point.cluster.n_jobs == 2 and line.endswith("there is room for no more)")


@pytest.mark.parametrize("wrong", ["auto:", "auto:8x", "auto:0h", "auto", "many", 0, True, 1.5])
def test_what_is_no_number_and_no_time_is_refused(wrong):
    with pytest.raises(InputError, match=r"^cluster\.n_jobs"):
        wanted_time(wrong)


def session(tmp_path, *more):
    """One that was planned with these words."""
    found = Session()
    found.points = [composed(str(tmp_path / "runs"), "recipe=probe", *words) for words in more]
    return found


def test_a_command_with_workers_of_its_own_is_given_no_time_and_says_what_it_does_not_do(tmp_path, capsys):
    given = []
    found = session(tmp_path, ["cluster.n_jobs='auto:8h'", "notify.command=x"])
    assert found.execute(lambda stages, cluster, console, retry: given.append(cluster.n_jobs) or []) == 0 and given == [None]
    said = capsys.readouterr().out
    assert "cluster.n_jobs=auto:8h: is not asked here" in said and "warning: notify.command: this command tells nobody" in said


def test_a_dry_run_of_a_plan_alone_settles_it_too(tmp_path, capsys):
    words = ["cluster.n_jobs='auto:8h'", "dry_run=true", "plan_only=true", "probe.slots=4", "probe.unit_size=4"]
    assert session(tmp_path, words).execute() == 0
    assert "nothing was written" in capsys.readouterr().out


@pytest.mark.parametrize("other", ["3", "'auto:4h'"])
def test_points_that_want_other_numbers_are_no_one_run(tmp_path, other):
    found = session(tmp_path, ["cluster.n_jobs='auto:8h'", "probe.slots=4"], [f"cluster.n_jobs={other}", "probe.slots=4"])
    with pytest.raises(InputError, match="one cluster with one n_jobs"):
        found.execute()
    assert not (tmp_path / "runs").exists()


def test_points_of_a_sweep_that_end_by_different_commands_are_refused():
    point = composed("runs", "recipe=probe", "notify.command=mail")
    one_end([point, point])
    with pytest.raises(InputError, match=r"notify\.command one value"):
        one_end([point, replace(point, notify=replace(point.notify, command="slack"))])


def test_workers_that_are_counted_by_gpus_say_that_they_take_no_number_of_jobs():
    session = Session()
    session.points = [composed("runs", "recipe=probe", "cluster.n_jobs=4")]
    assert session._own_workers() == []
    session._words = ["recipe=probe", "cluster.n_jobs=4"]
    assert session._own_workers() == ["cluster.n_jobs=4: is not asked here: this command starts workers by N_GPUS"]
