import json
import os

import pytest

from launch.config.clusters import ClusterConfig
from launch.plan.planned import PlannedStage, Point
from launch.show.estimate import GB, HOUR, Paces, costs, estimate, pace_of, work_of
from synth.errors import InputError
from synth.keys import dump
from synth.numerics import EXACT
from synth.run.loop import Worker
from synth.store.folder import StageFolder
from synth.store.spec import InputFile, StageSpec
from tests.configs import ProbeConfig
from tests.stages import events, probe

DRAWN = {
    "seed": 0,
    "steps": 20,
    "height": 512,
    "guidance_scale": 7.5,
    "model": {"id": "diffusers", "pipeline": "auto"},
    "dataset": {"classes": ["a"]},
}
UNKNOWN = (
    "how long it takes is not known of images: nothing like it was made in these runs yet; "
    "the command doctor, with the same arguments, measures it"
)
ONE = {"model": "a digest", "source": "of pictures"}


def images(root, slots=40, unit_size=4, identity="a digest", batch=4, numerics=EXACT, **config):
    """A planned images stage that was not begun."""
    inputs = {"model": InputFile("/models/sd15", identity)}
    spec = StageSpec("images", "images", DRAWN | config, slots, unit_size, batch, numerics, inputs=inputs)
    return PlannedStage(spec, root)


def measured(planned, units, device="NVIDIA H100", seconds=8.0, name="w-1-abc", start=30.0):
    """A stage of which a worker made some units."""
    folder = StageFolder.create(planned.dataset_root, planned.spec)
    lines = [{"event": "start", "time": 0.0, "job_idx": 0}, {"event": "open", "time": 20.0, "seconds": 20.0, "device": device}]
    for unit in range(units):
        took = seconds * (1 + 0.1 * (unit % 3 - 1))
        lines.append(
            {
                "event": "unit",
                "time": 30.0 + unit,
                "unit": unit,
                "seconds": took,
                "samples": 3,
                "tombstones": 1,
                "bytes": 4 * 500_000,
                "outcome": "ours",
            }
        )
    lines.append(
        {"event": "unit", "time": 90.0, "unit": units, "seconds": 0.001, "samples": 4, "tombstones": 0, "bytes": 1, "outcome": "theirs"}
    )
    busy = seconds * units
    lines.append({"event": "stop", "time": 99.0, "code": 0, "seconds": start + busy + 2.0, "busy_s": busy, "idle_s": 2.0, "load_s": 20.0})
    (folder.path / "events" / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_what_is_left_of_a_stage_is_told_by_an_earlier_one_of_the_same_work(tmp_path):
    runs = tmp_path / "runs"
    measured(images(runs / "birds"), 9)
    planned = images(runs / "cars", slots=4000, seed=7, guidance_scale=3.0, dataset={"classes": ["b", "c"]})
    found = estimate(planned, 10, Paces([runs]))
    assert found.pace.units == 9 and found.pace.slot_s == pytest.approx(2.0) and (found.pace.low_s, found.pace.high_s) == (1.8, 2.2)
    assert found.pace.start_s == 30.0 and found.pace.device == "NVIDIA H100"
    assert found.wall_s == pytest.approx(100 * 8.0 + 30.0) and found.worker_s == pytest.approx(4000 * 2.0 + 10 * 30.0)
    assert found.bytes == 4000 * 500_000 and found.files == 1000
    assert str(found).startswith(
        "about 14 min with 10 workers, 2.3 h of work, 2.0 GB in 1,000 units; 2 s a sample on NVIDIA H100 (1.8 s to 2.2 s)"
    )


def test_units_that_are_there_cost_nothing_and_a_stage_that_is_done_is_not_told(tmp_path):
    runs = tmp_path / "runs"
    measured(images(runs / "birds"), 9)
    planned = images(runs / "birds", slots=40, seed=3)
    folder = StageFolder.create(planned.dataset_root, planned.spec)
    for unit in range(8):
        folder.unit_path(unit).parent.mkdir(exist_ok=True)
        folder.unit_path(unit).write_bytes(b"a unit")
    found = estimate(planned, 1, Paces([runs]))
    assert found.files == 2 and found.worker_s == pytest.approx(8 * 2.0 + 30.0)
    folder.mark_done({"units": 10, "slots": 40, "samples": 40, "tombstones": 0})
    assert estimate(planned, 1, Paces([runs])) is None and costs([point([planned])], [planned], lambda s: 1).lines() == []


@pytest.mark.parametrize(
    "other",
    [
        {"identity": "other weights"},
        {"batch": 2},
        {"steps": 50},
        {"height": 1024},
        {"guidance_scale": 1.0},
        {"numerics": {**EXACT, "name": "fast"}},
    ],
    ids=str,
)
def test_other_work_is_no_measure(tmp_path, other):
    measured(images(tmp_path / "runs" / "birds"), 9)
    planned = images(tmp_path / "runs" / "birds", slots=80, **other)
    assert estimate(planned, 1, Paces([tmp_path / "runs"])) is None
    assert costs([point([planned])], [planned], lambda s: 1).lines() == [UNKNOWN]


def test_the_same_work_of_other_pictures_is_the_same():
    work = [work_of("images", DRAWN | {"counts": n, "subset": "0..9"}, {}, 4, ONE | {"source": str(n)}) for n in range(2)]
    assert work[0] == work[1] != work_of("images", DRAWN, {}, 4, ONE | {"model_lora_0": "x"})
    weights = [work_of("boxes", {}, {}, 4, {"source": str(n), "detector": f"weights {n // 2}"}) for n in range(3)]
    assert weights[0] == weights[1] != weights[2], "weights of any role, by whatever name"


def test_a_part_of_a_run_is_the_same_work_as_all_of_it():
    for kind, part, whole in (
        ("story", {"prompts": [2], "steps": 20}, {"prompts": [4, 5], "steps": 20}),
        ("pairs", {"variants": 1, "steps": 20}, {"variants": 4, "steps": 20}),
        ("hdf5_parts", {"layout": "keyed"}, {"layout": "keyed"}),
    ):
        batches = (2, 200) if kind == "hdf5_parts" else (4, 4)
        assert work_of(kind, part, {}, batches[0], ONE) == work_of(kind, whole, {}, batches[1], ONE)
    assert work_of("captions", {"prompts": {"maker": "a"}}, {}, 4, {}) != work_of("captions", {"prompts": {"maker": "b"}}, {}, 4, {})
    assert work_of("images", DRAWN, {}, 4, ONE) != work_of("images", DRAWN, {}, 8, ONE)


def test_only_the_card_that_worked_last_counts(tmp_path):
    folder = measured(images(tmp_path / "runs" / "birds"), 9, device="NVIDIA V100", seconds=80.0, name="old-1-abc")
    os.utime(folder.path / "events" / "old-1-abc.jsonl", (0, 0))
    measured(images(tmp_path / "runs" / "birds"), 6)
    pace = pace_of([folder.path])
    assert (pace.device, pace.units, pace.slot_s) == ("NVIDIA H100", 6, pytest.approx(2.0))


def test_a_worker_that_took_samples_over_tells_no_pace(tmp_path):
    folder = measured(images(tmp_path / "runs" / "birds"), 9, seconds=0.5, name="quick-1-abc")
    path = folder.path / "events" / "quick-1-abc.jsonl"
    path.write_text(path.read_text().replace('"code": 0', '"code": 0, "taken_over": 30'))
    assert pace_of([folder.path]) is None
    measured(images(tmp_path / "runs" / "birds"), 6)
    assert pace_of([folder.path]).units == 6


def test_units_without_a_number_measure_nothing(tmp_path):
    folder = measured(images(tmp_path / "runs" / "birds"), 9)
    path = folder.path / "events" / "w-1-abc.jsonl"
    path.write_text(path.read_text().replace('"unit": 3,', '"unit": [3],').replace('"unit": 4,', '"unit": "x",'))
    assert pace_of([folder.path]).units == 7


def point(stages, **limits):
    return Point("", tuple(stages), ClusterConfig(
        kind="local", n_jobs=None, gpu_mem_gb=None, container=None, container_runtime="auto", container_args=(), container_mounts=()
    ), **limits)  # fmt: skip


def test_a_plan_beyond_a_limit_is_refused_by_the_key_and_what_is_not_known_is_named(tmp_path):
    runs = tmp_path / "runs"
    measured(images(runs / "birds"), 9)
    known, new = images(runs / "cars", slots=4000, seed=1), images(runs / "cars", height=64)
    found = costs([point([known, new])], [known, new], lambda s: 10)
    assert [e.stage for e in found.estimates] == [known] and found.unknown == (new,)
    assert found.device_hours == pytest.approx((8000 + 300) / HOUR) and found.gb == 4000 * 500_000 / GB
    assert "; not known of images: nothing like it" in found.lines()[-1]
    found.check(2.4, 2.0)
    with pytest.raises(InputError, match=r"max_device_hours=2: the plan takes about 2\.31 device hours; plan less, or raise"):
        found.check(2.0, None)
    with pytest.raises(InputError, match=r"max_gb=1\.5: the plan takes about 2 GB in units"):
        found.check(None, 1.5)


def test_torn_and_foreign_stages_and_events_measure_nothing_and_harm_nothing(tmp_path):
    runs = tmp_path / "runs"
    folder = measured(images(runs / "birds"), 9)
    for n, text in enumerate(
        ('{"kind": "images"', '{"kind": "images"}', '{"kind": "images", "config": [], "numerics": 1, "batch": {}, "inputs": 3}', "[]", "")
    ):
        place = runs / "birds" / f"images-{n}"
        place.mkdir()
        (place / "stage.json").write_text(text)
    (folder.path / "events" / "torn.jsonl").write_text('{"event": "unit", "seconds": "soon"}\n{"event": "un')
    (folder.path / "events" / "strange.jsonl").write_text(
        '{"event": "unit", "outcome": "ours", "samples": 4, "seconds": 1.0, "bytes": "many"}\n'
    )
    assert estimate(images(runs / "cars", seed=9), 1, Paces([runs])).pace.units == 9


def test_events_of_real_workers_are_read_as_they_are_written(tmp_path):
    first, second = probe(tmp_path / "runs" / "p", sleep=0.05), probe(tmp_path / "runs" / "p", slots=80, sleep=0.05, seed=3)
    assert Worker(first, 0, 1).run() == 0
    found = estimate(PlannedStage(second.spec, tmp_path / "runs" / "p"), 1, Paces([tmp_path / "runs"]))
    assert found.pace.units == 10 and found.pace.stage == first.path.name
    busy = sum(e["seconds"] for e in events(first, "unit"))
    assert found.worker_s - found.pace.start_s == pytest.approx(2 * busy, rel=0.25)


def test_after_one_stage_the_next_of_the_same_kind_is_estimated_within_a_quarter(tmp_path):
    """Of workers whose batches take a sleep, long beside what else a busy machine does; the next has three times as many units."""
    runs = tmp_path / "runs"
    took = {}
    for name, slots, seed in (("first", 8, 1), ("next", 24, 2)):
        planned = StageSpec("probe", "probe", dump(ProbeConfig(sleep=0.3, seed=seed)), slots, 4, 2, EXACT, framing="tar")
        if name == "next":
            found = estimate(PlannedStage(planned, runs / name), 1, Paces([runs]))
        folder = StageFolder.create(runs / name, planned)
        assert Worker(folder, 0, 1).run() == 0
        took[name] = events(folder, "stop")[0]["seconds"]
    assert took["next"] >= 12 * 0.3 and found.pace.stage.startswith("probe-")
    assert found.wall_s == pytest.approx(took["next"], rel=0.25) and found.worker_s == pytest.approx(took["next"], rel=0.25)
