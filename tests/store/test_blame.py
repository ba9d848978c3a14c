"""Units are set aside by two devices, or by the only one."""

import json

from tests.faults.farm import plan


def report(folder, device: str | None, unit: int = 1, **more) -> None:
    said = {} if device is None else {"host": "node1", "device": device}
    folder.report_failure(unit, said | more)


def worker(folder, name: str, place: str, host: str = "node1") -> None:
    (folder.path / "events" / f"{name}.jsonl").write_text(json.dumps({"event": "start", "host": host, "place": place}) + "\n")


def test_three_errors_on_the_only_device_set_a_unit_aside(tmp_path):
    folder = plan(tmp_path)
    worker(folder, "a", "gpu 0")
    for n in range(3):
        assert folder.set_aside() == [], n
        report(folder, "gpu 0")
    assert folder.set_aside() == [1]


def test_where_the_stage_has_another_device_that_one_has_to_agree(tmp_path):
    folder = plan(tmp_path)
    worker(folder, "a", "gpu 0")
    worker(folder, "b", "gpu 0", host="node2")
    for _ in range(4):
        report(folder, "gpu 0")
    assert folder.set_aside() == []
    report(folder, "gpu 1")
    assert folder.set_aside() == [1]


def test_a_device_that_comes_later_counts_too(tmp_path):
    folder = plan(tmp_path)
    worker(folder, "a", "gpu 0")
    report(folder, "gpu 0")
    report(folder, "gpu 0")
    assert folder.set_aside() == []
    worker(folder, "b", "gpu 1")
    report(folder, "gpu 0")
    assert folder.set_aside() == []


def test_nothing_is_tried_for_ever_on_one_device(tmp_path):
    folder = plan(tmp_path)
    worker(folder, "b", "gpu 1")
    for n in range(6):
        assert folder.set_aside() == [], n
        report(folder, "gpu 0", sticky=n == 0)
    assert folder.set_aside() == [1]


def test_a_device_that_fails_with_the_unit_is_no_witness_by_itself(tmp_path):
    folder = plan(tmp_path)
    worker(folder, "a", "gpu 0")
    for _ in range(3):
        report(folder, "gpu 0", sticky=True)
    assert folder.set_aside() == []
    report(folder, "gpu 0", unit=2, sticky=True)
    report(folder, "gpu 1", unit=2, sticky=True)
    report(folder, "gpu 1", unit=2, sticky=True)
    assert folder.set_aside() == [2]


def test_reports_and_events_that_name_no_device_count_as_they_did(tmp_path):
    folder = plan(tmp_path)
    (folder.path / "events" / "old.jsonl").write_text('{"event": "start", "host": "node1"}\n')
    (folder.path / "events" / "torn.jsonl").write_text('{"eve')
    worker(folder, "a", "gpu 0")
    for _ in range(3):
        report(folder, None)
    assert folder.set_aside() == [1]
    (folder.path / "failed" / "000001.try2.json").write_text("{")
    assert folder.set_aside() == [1]
