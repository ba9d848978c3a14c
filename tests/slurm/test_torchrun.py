"""A captions stage of two model-parallel processes as a Slurm job: one task, as many GPUs as shards, drained in the middle of
a decode and gone on with, to the bytes of an undisturbed run on this machine."""

import hashlib

import pytest

from synth.captions.llama.reshard import reshard
from synth.errors import EXIT_AGAIN
from synth.run.loop import Worker
from tests.campaign.worlds import EMBEDDED
from tests.captions.llama import tiny
from tests.captions.llama.test_stage import plan, ranks_of
from tests.slurm.launching import blind_python, launch, local, seen_by, settle, stage, units, wait_whole
from tests.slurm.test_stage_sbatch import SCRIPT
from tests.stages import digests, events


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    tiny.one_process()
    tokenizer = tiny.train_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")
    return tiny.write_checkpoint(tmp_path_factory.mktemp("gqa2"), tiny.GQA, tokenizer, degree=2)


def submit(cluster, folder) -> str:
    options = ("--gpus-per-node=2", "--mem=1000", "--time=20", "--ntasks=1")
    return cluster.sbatch(*options, SCRIPT, folder.path, cwd=folder.path / "logs", SYNTHSET_PYTHON=str(blind_python(folder.path.parent)))


def test_two_shards_drain_in_the_middle_of_a_decode_and_go_on_to_the_same_bytes(cluster, tmp_path, checkpoint):
    folder = plan(tmp_path, checkpoint, degree=2, slots=48, max_gen_len=120)
    first = submit(cluster, folder)
    cluster.wait_for("a unit", lambda: len(folder.committed()) >= 1, 120)  # the next window is being decoded now
    cluster.run("scancel", "--signal=USR2", first)
    cluster.wait_done(first, 120)
    assert cluster.exit_codes(first) == {first: EXIT_AGAIN}
    (stop,) = events(folder, "stop")
    assert "drained" in stop["why"] and 1 <= len(folder.committed()) < folder.spec.n_units
    assert not ranks_of(checkpoint)

    second = submit(cluster, folder)
    assert set(cluster.wait_done(second, 180).values()) == {"COMPLETED"}
    assert not ranks_of(checkpoint)
    assert len({hashlib.sha256(s.read("json")).digest() for s in folder.samples()}) == 48
    (tmp_path / "undisturbed").mkdir()
    undisturbed = plan(tmp_path / "undisturbed", checkpoint, degree=2, slots=48, max_gen_len=120)
    assert Worker(undisturbed, 0, 1).run() == 0
    assert digests(folder) == digests(undisturbed)


def test_two_ranks_under_srun_with_flags_of_the_users_own_write_the_same_bytes(cluster, tmp_path):
    """Ranks are started by torchrun inside one task: what srun is told of tasks must not reach them, nor bind both to one core."""
    reshard(EMBEDDED, tmp_path / "llama", 2)
    few = ("until=captions", "dataset.classes=0..3", "captions.total=16", "captions.unit_size=8", "captions.window=8")
    args = (*few, f"captioner.ckpt_dir={tmp_path}/llama", "captioner.max_gen_len=24")
    flags = ("+cluster.srun_extra.label=true", "+cluster.srun_extra.cpu-bind=none", "cluster.mem=2G")
    runs, python = tmp_path / "runs", blind_python(tmp_path)
    launch(cluster, runs, *args, *flags, f"cluster.python={python}", "cluster.n_jobs=1")
    wait_whole(cluster, runs, 400)
    settle(cluster)
    folder = stage(runs, "captions")
    assert [gpus for gpus, words in seen_by(python) if "synth.worker" in words] == ["0,1"]
    lines = [line for log in (folder.path / "logs").glob("*_0.log") for line in log.read_text().splitlines()]
    assert any(line.startswith("0: ") for line in lines), "srun did not label the lines of its task"
    local(cluster, tmp_path / "local", *args, n_jobs=1)
    assert units(runs) == units(tmp_path / "local")
