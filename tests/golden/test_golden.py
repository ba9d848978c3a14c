"""Every stage kind makes the bytes that golden.json holds.

What no float model has a part in is compared everywhere. The rest is promised for one kind of machine: its tests are collected
where golden.json has an entry of this machine's CPU, and nowhere else. `python -m tests.golden --write` adds one.
"""

import copy

import pytest

from tests.golden import golden as file
from tests.golden.cases import CASES
from tests.golden.record import record

GOLDEN = file.read()
KEY = file.known_machine(GOLDEN)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The two parts of golden.json as this machine makes them: a minute."""
    return file.split(record(tmp_path_factory.mktemp("golden")))


def shown(golden, now, case) -> str:
    return "\n".join(map(str, file.differences({case: golden.get(case, {})}, {case: now.get(case, {})})))


@pytest.mark.parametrize("case", [case.name for case in CASES])
def test_stages_and_what_no_float_model_has_a_part_in_are_as_they_were(made, case):
    assert case in GOLDEN["cases"] and not shown(GOLDEN["cases"], made[0], case)


if KEY is not None:

    @pytest.mark.parametrize("case", GOLDEN["machines"][KEY])
    def test_bytes_of_float_models_are_as_they_were_on_this_machine(made, case):
        assert not shown(GOLDEN["machines"][KEY], made[1], case)


def test_golden_json_holds_these_cases_and_no_other():
    assert set(GOLDEN["cases"]) == {case.name for case in CASES}


def test_a_difference_names_the_case_the_stage_and_what_differs():
    now = copy.deepcopy(GOLDEN["cases"])
    images = now["class_name"]["pictures/images"]
    images["config"]["steps"] += 1
    unit = next(iter(images["units"]))
    images["units"][unit] = "0" * 64
    images["fingerprint"] = "f" * 12
    del now["probe"]["probe_tar/probe"]
    told = [str(d) for d in file.differences(GOLDEN["cases"], now)]
    assert len(told) == 4 and told[-1] == "probe  probe_tar/probe  was not made"
    assert all(line.startswith("class_name  pictures/images  ") for line in told[:3])
    assert f"units/{unit}: " in told[2] and "config.steps: " in told[1] and told[0].endswith(" -> ffffffffffff")


def test_entries_of_other_machines_go_when_a_fingerprint_changes():
    found = {
        "a": {
            "s": {
                "kind": "k",
                "fingerprint": "1",
                "stage": "x",
                "config": {},
                "units": {"0": "u"},
                "beside": {},
                "files": {},
                "floats": True,
            }
        }
    }
    golden = file.written({"cases": {}, "machines": {"old": {}}}, found, {}, "one")
    assert list(golden["machines"]) == ["one"] and "units" not in golden["cases"]["a"]["s"]
    assert set(file.written(golden, found, {}, "two")["machines"]) == {"one", "two"}
    found["a"]["s"]["fingerprint"] = "2"
    assert set(file.written(golden, found, {}, "two")["machines"]) == {"two"}
