"""The models that ship with synthset, swept on a real Slurm: one worker a (fake) GPU, same bytes as on one machine."""

from pathlib import Path

from launch.slurm.submissions import read
from tests.slurm.launching import blind_python, launch, local, seen_by, settle, stages, units, wait_whole

ARGS = (
    "-m",
    "images.guidance_scale=1.5,4",
    "captions.total=20",
    "captions.unit_size=16",
    "captions.window=16",
    "images.unit_size=16",
    "images.steps=2",
    "export=[image_folder]",
)


def test_a_sweep_is_byte_identical_to_one_machine_with_one_worker_a_gpu(cluster, tmp_path):
    runs, python = tmp_path / "slurm", blind_python(tmp_path)
    said = launch(cluster, runs, *ARGS, "cluster.n_jobs=2", f"cluster.python={python}")
    assert said.count("gate") == 6  # captions and captions.json are shared by both points
    wait_whole(cluster, runs, 400)
    settle(cluster)
    for folder in stages(runs):
        assert len(read(folder.path)) == 1
        gpus = [given for given, words in seen_by(python) if "synth.worker" in words and str(folder.path) in words]
        assert gpus and (all(g.isdigit() for g in gpus) if folder.spec.kind in ("captions", "images") else set(gpus) == {""})
    local(cluster, tmp_path / "local", *ARGS, n_jobs=1)
    assert units(runs) == units(tmp_path / "local")
    pictures = exports(runs)
    assert len(pictures) >= 40 and pictures == exports(tmp_path / "local")


def exports(runs: Path) -> dict[str, bytes]:
    """All files of all exports, but those that tell the command and the place: the card and the marker."""
    return {
        str(p.relative_to(runs)): p.read_bytes()
        for p in sorted(runs.glob("*/exports/**/*"))
        if p.is_file() and p.name not in ("README.md", ".synthset.json") and not any(q.is_symlink() for q in p.parents)
    }
