"""Layout labels of the scenes and toy models that ship with synthset, on a real Slurm: the bytes of one machine, however many workers."""

from synth.errors import EXIT_OK
from synth.store.folder import StageFolder
from tests.fixtures_images import work
from tests.layout.shipped import planned
from tests.slurm.launching import blind_python, launch, settle, units, wait_whole

# a worker of each stage costs seconds of imports, so the stages are few
ARGS = ("tagger=[caption]", "segmenter=none", "box_captioner=none", "export=[layout_labels]", "layout.unit_size=16")


def test_the_chain_of_layout_labels_is_byte_identical_to_one_machine(cluster, tmp_path):
    runs = tmp_path / "slurm"
    said = launch(cluster, runs, "recipe=layout", *ARGS, "cluster.n_jobs=2", f"cluster.python={blind_python(tmp_path)}")
    assert said.count("gate") >= 3
    for jobs in (1, 3):  # meanwhile, here
        for folder in planned(tmp_path / f"jobs{jobs}", *ARGS).values():
            assert {work(StageFolder.open(folder.path), job, jobs) for job in reversed(range(jobs))} == {EXIT_OK}
    wait_whole(cluster, runs, 400)
    settle(cluster)
    assert units(runs) == units(tmp_path / "jobs1") == units(tmp_path / "jobs3") and len(units(runs)) == 9
