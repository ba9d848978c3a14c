"""A disk that fills up at any call that takes something of it, in stages of every kind that needs no model: nothing is lost, and the same
command completes the stage with the same bytes. Kinds with models, and a real small file system: python -m tests.campaign --phase disk.

SYNTHSET_FULL says how many calls a stage is tried at, SYNTHSET_FULL_SEED picks others.
"""

import hashlib
import os
import random
import re
import shutil
from pathlib import Path

import pytest

from synth.errors import EXIT_AGAIN, EXIT_OK
from synth.store.folder import StageFolder
from tests.configs import (
    BalanceConfig,
    CaptionsJsonConfig,
    CaptionsTxtConfig,
    ContactSheetConfig,
    Hdf5Config,
    Hdf5PartsConfig,
    ImageFolderConfig,
    NearDuplicatesConfig,
    ParquetConfig,
    PerceptualHashConfig,
    WebDatasetConfig,
)
from tests.export.conftest import images  # noqa: F401 (a fixture)
from tests.faults.zygote import HOW, Command, Zygote
from tests.fixtures_images import child

SEED = int(os.environ.get("SYNTHSET_FULL_SEED", "0"))
N = 26
TRIES = int(os.environ.get("SYNTHSET_FULL", "3"))  # times that the same command is typed on a disk that fills up; then there is room
SIGNS = {"enospc": "No space left", "edquot": "quota", "inodes": "No space left", "erofs": "Read-only"}
OURS = re.compile(r"/\.synthset|/README.md$|/\.[^/]*\.tmp$")  # files on their way, and those that name their place
KINDS = ("captions_json", "captions_txt", "image_folder", "webdataset", "parquet", "hdf5", "packed", "contact_sheet", "balance", "near")


@pytest.fixture(scope="module")
def zygote(tmp_path_factory):
    made = Zygote(
        tmp_path_factory.mktemp("zygote"), ["synth.export.image_folder", "synth.filters.near_duplicates", "synth.export.contact_sheet"]
    )
    yield made
    made.close()


def stages_of(kind: str, images: StageFolder) -> list[StageFolder]:  # noqa: F811
    """Planned stages, the ones that others read first."""
    root, table = images.path.parent, images.upstream("captions")[0]
    of = {"images": [images]}
    rows = {
        "image_folder": ImageFolderConfig(),
        "webdataset": WebDatasetConfig(shard=7),
        "parquet": ParquetConfig(shard=7),
        "contact_sheet": ContactSheetConfig(),
        "balance": BalanceConfig(7, {str(label): 1 for label in range(13)}),
    }
    match kind:
        case "captions_json":
            return [child(root, kind, CaptionsJsonConfig(20), {"captions": table.upstream("captions")})]
        case "captions_txt":
            return [child(root, kind, CaptionsTxtConfig(), {"captions": [table]})]
        case "hdf5" | "packed":
            parts = child(root, "hdf5_parts", Hdf5PartsConfig("packed" if kind == "packed" else "keyed"), of, N, 7, 7)
            return [parts, child(root, "hdf5", Hdf5Config(), of | {"parts": [parts]})]
        case "near":
            hashes = child(root, "perceptual_hash", PerceptualHashConfig(), of, N, 7, 7)
            return [hashes, child(root, "near_duplicates", NearDuplicatesConfig(), of | {"scores": [hashes]}, N, 7, 7)]
    return [child(root, kind, rows[kind], of, *((1, 1, 1) if kind == "contact_sheet" else (N, 7, 7)))]


def files(runs: Path, stages: list[Path]) -> dict[str, str]:
    """sha256 of all units of the stages, and of all exported files that have their names; not of those that name their place."""
    units = (p for stage in stages for p in (runs / stage / "units").rglob("*"))
    exported = (p for p in runs.glob("*/exports/**/*") if not OURS.search(p.relative_to(runs).as_posix()))
    return {p.relative_to(runs).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in (*units, *exported) if p.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stage_goes_on_behind_every_call_that_found_no_room(kind, images, zygote, tmp_path):  # noqa: F811
    runs, rng, met = images.path.parents[1], random.Random(f"{SEED}/{kind}"), 0
    stages = [s.path.relative_to(runs) for s in stages_of(kind, images)]
    other = shutil.copytree(runs, tmp_path / "undisturbed", symlinks=True)
    for stage in stages:
        command = Command("synth.worker", (str(other / stage),), str(tmp_path / "log"))
        assert zygote.run(command) == EXIT_OK, (tmp_path / "log").read_text()
    want = files(other, stages)
    assert len(want) >= len(stages)
    for stage in stages:
        for tried in range(10 * TRIES):
            how, log, where = rng.choice(HOW), tmp_path / f"log-{stage.name}-{tried}", tmp_path / "where"
            where.unlink(missing_ok=True)
            room = rng.randrange(60) if tried < TRIES else None
            code = zygote.run(
                Command("synth.worker", (str(runs / stage),), str(log), root=f"{runs}/", room=room, how=how, where=str(where))
            )
            said = log.read_text()
            assert code in (EXIT_OK, EXIT_AGAIN) and "Traceback" not in said, (how, room, where.exists() and where.read_text(), said)
            assert code == EXIT_OK or (SIGNS[how] in said and "run the same command again" in said), (how, room, said)
            met += where.exists()
            assert files(runs, stages).items() <= want.items(), (how, room, said)
            if code == EXIT_OK and StageFolder.open(runs / stage).is_done():
                break
        assert not [p for p in (runs / stage / "failed").rglob("*") if p.is_file()]
    assert files(runs, stages) == want and met
