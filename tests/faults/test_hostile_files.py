"""Whatever stands in the place of a file of a planned stage: launchers end by their exit codes and name it; the other stages are whole."""

import shutil
from pathlib import Path

import pytest

from tests import hostile
from tests.faults.zygote import Command, Zygote

CHAIN = ("recipe=probe_chain", "until=second", "probe.slots=8", "probe.unit_size=4", "cluster=local", "cluster.n_jobs=1")
PLACES = ("stage.json", "inputs.json", "logs", "events", "failed", "leases/000", "parts/000", "units/000", "submissions/0001.json")
TOLD = {"stage.json", "inputs.json", "logs", "units/000"}  # of the others a launcher on one machine needs none, or makes it anew


@pytest.fixture(scope="module")
def zygote(tmp_path_factory):
    made = Zygote(tmp_path_factory.mktemp("zygote"), ["launch.node"])
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole(zygote, tmp_path_factory) -> Path:
    """A folder whose runs/ holds two whole stages, one of which reads the other."""
    place = tmp_path_factory.mktemp("whole")
    assert zygote.run(Command("launch.run", CHAIN, str(place / "log"), cwd=str(place))) == 0, (place / "log").read_text()
    return place


def unfinished(whole: Path, tmp_path: Path) -> tuple[Path, list[Path]]:
    """A copy in which the first stage lacks a unit; it, and all stages."""
    place = shutil.copytree(whole, tmp_path / "copy")
    stages = sorted(p.parent for p in place.glob("runs/*/*/stage.json"))
    (stages[0] / "done.json").unlink()
    sorted((stages[0] / "units").rglob("*.tar"))[-1].unlink()
    return stages[0], stages


@pytest.mark.parametrize(("number", "name"), list(enumerate(PLACES)))
def test_launchers_name_what_stands_in_the_way(number, name, whole, zygote, tmp_path):
    form = ("fifo", "link to itself", "bytes")[number % 3]
    stage, stages = unfinished(whole, tmp_path)
    hostile.put(stage / name, form)
    log = tmp_path / "log"
    tool = ("launch.node", ("N_GPUS=1", *map(str, stages))) if number % 2 else ("launch.run", CHAIN)
    with hostile.within(60, f"{tool[0]} with {name} as {form}"):
        code = zygote.run(
            Command(*tool, str(log), cwd=str(tmp_path / "copy"), env={"SYNTHSET_BEAT_S": "0.1", "SYNTHSET_DEAD_AFTER_S": "0.3"})
        )
    said = log.read_text()
    assert code in (0, 65, 75) and "Traceback (most" not in said and not set(said) & set("\x1b\x07"), (
        f"{name} as {form}: exit {code}\n{said}"
    )
    assert (name in said.replace("\n", "")) == (code != 0), f"{name} as {form}: exit {code}\n{said}"
    assert code or name not in TOLD, f"{name} as {form}: {said}"
    assert (stages[1] / "done.json").exists()
