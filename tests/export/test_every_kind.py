"""What holds for every kind of export: sets without a picture, a disk that takes no more, several workers at once."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from synth.errors import EXIT_AGAIN, EXIT_OK
from synth.store.folder import StageFolder
from synth.store.out_folder import PART
from synth.store.samples import Tombstone
from tests.configs import Hdf5Config, Hdf5PartsConfig, ImageFolderConfig, ParquetConfig, WebDatasetConfig
from tests.export.conftest import NAMES
from tests.export.test_image_folder import tree
from tests.fixtures_images import child, work
from tests.verify.conftest import images_of
from tests.verify.test_verify import problems

N = 26
HDF5 = {
    "keyed": Hdf5PartsConfig("keyed"),
    "packed": Hdf5PartsConfig("packed"),
    "pixels": Hdf5PartsConfig("packed", "pixels", 4),
}
FILES = {"image_folder": ImageFolderConfig, "webdataset": WebDatasetConfig, "parquet": ParquetConfig}
RUN = """
import resource, sys
from pathlib import Path
from synth.run.loop import Worker
from synth.store.folder import StageFolder
limit, *stages = sys.argv[1:]
for stage in stages:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    print("code", Worker(StageFolder.open(Path(stage)), 0, 1).run())
"""


def stages_of(images, kinds=(*FILES, *HDF5)) -> dict[str, list[StageFolder]]:
    """kind -> its stages, the one with the place last; the disk of the partitions of HDF5 is not limited."""
    root, found = images.path.parent, {}
    for kind in kinds:
        if kind in FILES:
            found[kind] = [child(root, kind, FILES[kind](), {"images": [images]}, N, 7, 7)]
        else:
            parts = child(root, "hdf5_parts", HDF5[kind], {"images": [images]}, N, 7, 7)
            found[kind] = [parts, child(root, "hdf5", Hdf5Config(), {"parts": [parts], "images": [images]})]
    return found


def named(out: Path) -> dict[str, str]:
    """Digests of the files that have their names, not of those on their way to them."""
    return {n: d for n, d in tree(out).items() if not n.startswith(f"{PART}/")}


@pytest.mark.parametrize("kind", [*FILES, *HDF5])
def test_a_set_without_any_picture_is_an_export_that_says_so(images, kind):
    empty = images_of(images.upstream("captions")[0], [Tombstone(k, "none") for k in range(N)])
    stages = stages_of(empty, [kind])[kind]
    assert all(work(s) == EXIT_OK for s in stages)
    out = stages[-1].out_dir
    assert "0 synthetic pictures" in (out / "README.md").read_text() and len(
        json.loads((out / "classes.json").read_text())["classes"]
    ) == len(NAMES)
    for stage in stages:
        assert not problems(stage.path, deep=True)


def test_a_disk_that_takes_no_more_leaves_no_half_file_under_its_name_and_the_export_goes_on(images):
    stages = stages_of(images)
    assert all(work(s) == EXIT_OK for kind in stages for s in stages[kind][:-1])
    places = [s[-1] for s in stages.values()]
    seen: list[dict[str, dict[str, str]]] = []
    for limit in (60, 2500, 4200):
        run = subprocess.run(
            [sys.executable, "-c", RUN, str(limit), *(str(s.path) for s in places)], capture_output=True, text=True, timeout=240
        )
        codes = [int(line.split()[1]) for line in run.stdout.splitlines() if line.startswith("code")]
        assert len(codes) == len(places) and set(codes) <= {EXIT_OK, EXIT_AGAIN} and EXIT_AGAIN in codes, run.stderr
        assert limit > 60 or set(codes) == {EXIT_AGAIN}
        seen.append({str(s.path): named(s.out_dir) if s.out_dir.exists() else {} for s in places})
    for stage in places:
        assert work(stage) == EXIT_OK and not problems(stage.path, deep=True)
        whole = tree(stage.out_dir)
        assert not [n for n in whole if n.startswith(PART)]
        for state in seen:
            left = {n: d for n, d in state[str(stage.path)].items() if n != ".synthset.claim.json"}
            assert left.items() <= whole.items(), set(left.items()) - set(whole.items())


@pytest.mark.parametrize("kind", [*FILES, "packed"])
def test_two_workers_at_once_write_what_one_writes(images, kind):
    *before, stage = stages_of(images, [kind])[kind]
    assert all(work(s) == EXIT_OK for s in before) and work(stage) == EXIT_OK
    one = tree(stage.out_dir)
    for path in (stage.out_dir, stage.path / "units", stage.path / "leases"):
        shutil.rmtree(path)
    (stage.path / "done.json").unlink()
    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(lambda job: work(StageFolder.open(stage.path), job, 2), range(2))) == {EXIT_OK}
    assert tree(stage.out_dir) == one and not problems(stage.path, deep=True)
