"""Which files of tests begin first, and where, so that with pytest -n no core waits.

The longest begin first: none of them is left to the end. Files below WAITING sleep most of their time, by the clocks of Slurm; if all
processes ran them at once the cores would be idle, and later all would compute. So half begin with those, the others with what computes.
pytest-xdist hands files out in this order if it is told not to begin with the file of the most tests.
"""

from pathlib import Path

from xdist.scheduler import LoadFileScheduling

TESTS = Path(__file__).parent
LONG = (  # of fifteen seconds or more on a free core, longest first
    "containers/test_build.py",
    "slurm/test_launch.py",
    "slurm/test_campaign.py",
    "slurm/test_embedded.py",
    "faults/test_kills.py",
    "golden/test_golden.py",
    "captions/llama/test_stage.py",
    "images/test_models.py",
    "slurm/test_stage_sbatch.py",
    "slurm/test_torchrun.py",
    "captions/llama/test_engine.py",
    "gpu/test_llama.py",
    "gpu/test_images.py",
    "gpu/test_faults.py",
    "gpu/test_others.py",
    "tracking/test_pairs.py",
    "launch/test_run.py",
    "launch/test_node.py",
    "docs/test_commands.py",
    "test_main_job.py",
    "launch/local/test_local.py",
    "tracking/test_repaint.py",
    "slurm/test_containers.py",
    "slurm/test_site.py",
    "slurm/test_lost_nodes.py",
    "slurm/test_devcluster.py",
    "images/test_img2img.py",
    "images/test_external.py",
    "captions/test_matrix.py",
    "faults/test_stopped.py",
)


WAITING = "tests/slurm/"


class BesideEachOther(LoadFileScheduling):
    """Of the processes half prefer what waits as long as there is any, the others what computes."""

    def _assign_work_unit(self, node) -> None:
        waits = self.nodes.index(node) % 2 == 0
        if wanted := next((file for file in self.workqueue if file.startswith(WAITING) == waits), None):
            self.workqueue.move_to_end(wanted, last=False)
        super()._assign_work_unit(node)


def longest_first(items: list) -> None:
    """Sort collected tests in place: those of LONG, then all others as they came."""
    if gone := [name for name in LONG if not (TESTS / name).exists()]:
        raise FileNotFoundError(f"tests/order.py: no such file: {', '.join(gone)}; take it off the list LONG")
    place = {TESTS / name: n for n, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
