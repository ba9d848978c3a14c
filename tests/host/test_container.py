"""What a worker in a container says of its image, and how it finds that it is another than that of the plan."""

import json
import shutil
import subprocess
import sys

import pytest

from synth.host import container
from synth.host.code import digest as code
from synth.host.container import IMAGE, compared, inside, planned, tell
from synth.host.source import SOURCE


def told(facts: dict) -> dict[str, str]:
    return {IMAGE: json.dumps({"image": "a.sif", "runtime": "apptainer", "digest": "sha256:0", "inside": facts})}


def said(env: dict[str, str]) -> list[tuple[str, dict]]:
    events: list[tuple[str, dict]] = []
    tell(lambda event, **facts: events.append((event, facts)), env)
    return events


def test_outside_of_a_container_nothing_is_told():
    assert said({}) == [] and planned({IMAGE: "torn{"}) is None


def test_the_image_of_the_plan_is_told_without_a_warning():
    ((event, facts),) = said(told(inside()))
    assert event == "image" and facts["digest"] == "sha256:0" and facts["inside"]["code"] == code()


@pytest.mark.parametrize("unknown", [{}, {"recipe": {"commit": "x"}}])
def test_what_the_plan_did_not_know_is_not_compared(unknown):
    assert [event for event, _ in said(told(unknown))] == ["image"]


def test_another_version_or_other_code_is_named():
    here = inside()
    other = here | {"digest": "x", "code": "y", "versions": here["versions"] | {"torch": "0.1"}}
    (_, (event, facts)) = said(told(other))
    assert event == "warning" and "a.sif: the image of this worker is not that of the plan" in facts["why"]
    assert "was 0.1 when this was planned" in facts["why"] and "was y when" in facts["why"]
    assert "packages beside those that are named" in compared({"inside": here | {"digest": "x"}}, here)


def test_what_is_inside_hangs_on_packages_code_and_system_and_on_nothing_else(tmp_path, monkeypatch):
    first = inside(tmp_path)
    assert inside(tmp_path) == first
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "os-release").write_text("NAME=other")
    assert inside(tmp_path)["digest"] != first["digest"]
    (tmp_path / "etc" / "os-release").unlink()
    monkeypatch.setattr(container, "packages", lambda: {"torch": "9"})
    assert inside(tmp_path)["digest"] != first["digest"]


def test_the_code_of_an_image_is_that_of_its_modules(tmp_path):
    shutil.copytree(SOURCE / "synth", tmp_path / "synth", ignore=shutil.ignore_patterns("__pycache__", "train", "models"))
    assert code(tmp_path) == code()  # no wheel has the scripts that train models
    (tmp_path / "synth" / "seeds.py").write_text("")
    assert code(tmp_path) != code()


def test_a_container_tells_which_paths_it_does_not_see(tmp_path):
    command = [sys.executable, "-P", "-m", "synth.host.container", str(tmp_path), "/not/there"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=SOURCE, env={"PYTHONPATH": str(SOURCE)}, check=True)
    assert json.loads(done.stdout)["missing"] == ["/not/there"]
