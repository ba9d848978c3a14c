"""dry_run=true on a Slurm plan, for cards of 24, 40 and 80 GB: golden files, written anew by python -m tests.launch.show.test_dry_run"""

import difflib
import io
import re
import tempfile
from pathlib import Path

import pytest
from rich.console import Console

from launch.config.compose import Composer, typed
from launch.plan.graph import distinct, plan_point
from launch.show import dry_run
from launch.slurm.limits import Limits
from launch.slurm.resources import resources_of
from launch.slurm.site import Site
from synth.errors import InputError
from tests.images.true_shapes import by_first_block, write

GOLDEN = Path(__file__).parent / "golden"
CARDS = (24, 40, 80)
MODELS = ("sd15", "sdxl", "flux_dev")


def text(name: str, root: Path, patch) -> str:
    """What dry_run=true says of a model on each card, and the memory that the jobs of its images ask Slurm for."""
    folder = write(name, root / name)
    by_first_block(patch)
    patch(dry_run, "preview", lambda kind: None)  # the scripts have golden files of their own
    lines = []
    for gb in CARDS:
        words = ["prompts=class_name", "captioner=none", f"model={name}", f"model.path={folder}", f"runs_dir={root}/runs"]
        lines.append(f"== model={name} cluster=slurm cluster.gpu_mem_gb={gb} dry_run=true")
        try:
            point = plan_point(typed(Composer().compose([*words, "cluster=slurm", f"cluster.gpu_mem_gb={gb}", "dry_run=true"])))
        except InputError as e:
            lines.append(str(e))
            continue
        out, stages = io.StringIO(), distinct([point])
        dry_run.show([point], stages, Console(file=out, width=120))
        lines += [line.rstrip() for line in out.getvalue().splitlines()]
        site = Site(point.cluster, Limits(), resources_of(point.cluster, "gate", {}), "")
        lines += [f"sbatch --mem of {s.name}: {site.resources(s).mem}" for s in stages if s.name in ("captions", "images")]
    return re.sub(r"-[0-9a-f]{12}", "-" + "0" * 12, "\n".join(lines).replace(str(root), "/R")) + "\n"


@pytest.mark.parametrize("name", MODELS)
def test_the_dry_run_is_the_golden_file(name, tmp_path, monkeypatch):
    golden, now = GOLDEN.joinpath(f"{name}.txt").read_text(), text(name, tmp_path, monkeypatch.setattr)
    diff = "".join(difflib.unified_diff(golden.splitlines(True), now.splitlines(True), "golden", "now"))
    assert not diff, f"\n{diff}\npython -m tests.launch.show.test_dry_run writes the golden files anew"


@pytest.mark.parametrize("name", MODELS)
def test_what_is_planned_fits_its_card(name):
    """Each needs less than its card has, and what does not is refused by the figure that it needs."""
    golden = GOLDEN.joinpath(f"{name}.txt").read_text()
    planned = re.findall(r"a worker needs ([\d.]+) GB on its GPU .* of (\d+) GB", golden)
    refused = re.findall(r"needs ([\d.]+) GB of GPU memory .* has (\d+) GB", golden)
    assert planned and all(float(needs) <= float(there) for needs, there in planned)
    assert all(float(needs) > float(there) for needs, there in refused)
    assert {int(there) for _, there in planned + refused} == set(CARDS)


if __name__ == "__main__":
    for model in MODELS:
        with tempfile.TemporaryDirectory() as scratch:
            GOLDEN.joinpath(f"{model}.txt").write_text(text(model, Path(scratch), setattr))
