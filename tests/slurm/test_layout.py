"""Layout labels of the scenes and toy models that ship with synthset, on a real Slurm: the bytes of one machine, however many workers and
whichever of them are killed."""

import shlex
import sys
from pathlib import Path

from synth.errors import EXIT_OK
from synth.store.folder import StageFolder
from tests.fixtures_images import work
from tests.layout.shipped import UNITS, planned
from tests.slurm.launching import launch, settle, stages, units, wait_whole

STAGES = ("tags", "boxes", "masks", "box_captions")  # three units of two batches each
ARGS = (*UNITS, "export=[layout_labels]")


def test_all_stages_of_layout_labels_are_byte_identical_to_one_machine_with_a_worker_of_each_killed(cluster, tmp_path):
    runs, python = tmp_path / "slurm", python_that_dies_once(tmp_path)
    said = launch(cluster, runs, "recipe=layout", *ARGS, "cluster.n_jobs=3", f"cluster.python={python}")
    assert said.count("gate") >= 5
    for jobs in (1, 3):  # meanwhile, here
        for folder in planned(tmp_path / f"jobs{jobs}", *ARGS).values():
            assert {work(StageFolder.open(folder.path), job, jobs) for job in reversed(range(jobs))} == {EXIT_OK}
    wait_whole(cluster, runs, 600)
    settle(cluster)
    assert units(runs) == units(tmp_path / "jobs1") == units(tmp_path / "jobs3") and len(units(runs)) == 15
    assert sorted((tmp_path / "killed").read_text().split()) == sorted(s.path.name for s in stages(runs) if s.spec.name in STAGES)


def python_that_dies_once(folder: Path) -> Path:
    """A Python that does not see the devcluster's GPUs, which are links to /dev/null. The first worker of each of STAGES is killed behind
    its first batch, and `killed` tells the folder of its stage."""
    program, here = folder / "python", shlex.quote(str(folder))
    (folder / "begun").mkdir()
    program.write_text(
        f"""#!/bin/bash
export CUDA_VISIBLE_DEVICES= SYNTHSET_GPUS=
words="$*"
stage="${{words#*-m synth.worker }}"
stage=$(basename "${{stage%% *}}")
case "$words" in *"-m synth.worker "*) case "$stage" in {"|".join(f"{name}-*" for name in STAGES)})
    if mkdir {here}/begun/"$stage" 2>/dev/null; then
        SYNTHSET_FAULT=after_batch:kill@1 {sys.executable} "$@"
        code=$?
        [ $code = 137 ] && echo "$stage" >>{here}/killed && kill -KILL $$
        exit $code
    fi ;;
esac ;; esac
exec {sys.executable} "$@"
"""
    )
    program.chmod(0o755)
    return program
