"""auto: sizes that are settled when a stage is planned, by the memory of one GPU, and stand in stage.json as numbers from then on.

A stage of cores gets the fixed ones below, which a core draws or decodes as fast as larger ones. What a GPU cannot hold even one
by one is an InputError here, not an hour later on the GPU.
"""

from dataclasses import dataclass, field
from typing import Any

from launch.plan.gpu_memory import GpuMemory, gpu_memory
from launch.plan.models import PlannedModel
from launch.plan.node import Node
from synth.captions.config import CaptionsConfig
from synth.errors import InputError
from synth.images.config import DrawingConfig
from synth.images.families import family_class
from synth.images.memory import CONTEXT, Need, known, need
from synth.keys import WrongKey
from synth.numerics import PRESETS

AUTO = "auto"
PICTURES = 16  # drawn together at most: a denoiser keeps the matrix units of any card of today busy from fewer on
ALL = 0  # vae_batch: as many as are denoised together
SLOTS = 32  # a window and a unit of captions on cores
SMALLEST, LARGEST = 256, 4096  # of a window on GPUs: below, its tail idles most rows; above, a killed job loses much
FILLINGS = 16  # of the rows in a window
GB = 1e9


@dataclass(frozen=True)
class Batches:
    """How many pictures are drawn together, and how many of them decoded together (0: all). memory: for the stage's settings."""

    batch: int
    vae_batch: int
    memory: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """Of a stage: what is told of its memory, where that is known."""
        return {"memory": self.memory} if self.memory else {}


# -- pictures --------------------------------------------------------------------------------------------------------


def batches_of(node: Node, model: PlannedModel, config: DrawingConfig, asked: DrawingConfig, group: str) -> Batches:
    """What `asked` leaves to auto, for a stage that draws by `config` (size and model filled in). A number stays what it is."""
    batch, vae_batch = (_number(getattr(asked, key), key, low, group) for key, low in (("batch_size", 1), ("vae_batch", 0)))
    gpu = gpu_memory(node.config.cluster, node.kind, {})
    if gpu is None or model.config.command or model.absent or not known(model.folder):
        return Batches(PICTURES if batch is None else batch, ALL if vae_batch is None else vae_batch)
    numerics, offload = PRESETS[node.config.numerics], bool(node.config.model.text_offload)

    def cost(rows: int, decoded: int) -> Need:
        return need(model.folder, config, numerics, rows, decoded, offload)

    def decodings(rows: int) -> list[int]:
        if vae_batch is not None:
            return [vae_batch]
        return [ALL, *_divisors(rows)[1:]] if "vae" in model.folder.components else [ALL]

    sizes = [batch] if batch is not None else [n for n in (16, 8, 4, 2, 1) if n <= max(1, asked.unit_size)]
    tried = [(rows, decoded, cost(rows, decoded)) for rows in sizes for decoded in decodings(rows)]
    fits = next((t for t in tried if t[2].device <= gpu.gb * GB), None)
    if fits is None and batch is None:
        resting = need(model.folder, config, numerics, 1, 1, offload=True)
        rests = not offload and family_class(model.folder.pipeline).embeds and resting.device <= gpu.gb * GB
        raise InputError(_too_large(model, config, cost(1, 1), gpu, group, rests))
    rows, decoded, needed = fits or tried[-1]  # a number is somebody's own word; the dry run says that it does not fit
    return Batches(rows, decoded, told(needed, gpu))


def _number(value: Any, key: str, low: int, group: str) -> int | None:
    """A number, or None for auto."""
    if value == AUTO:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise WrongKey(key, value, f"auto, or a whole number, {low} or more", group=group)
    return value


def _divisors(n: int) -> list[int]:
    return [d for d in range(n, 0, -1) if n % d == 0]


def told(cost: Need, gpu: GpuMemory) -> dict[str, Any]:
    """For the stage's settings: GB on one GPU and on the host, of one worker."""
    figures = {"weights": sum(cost.weights.values()), "encode": cost.encode, "denoise": cost.denoise, "decode": cost.decode}
    figures |= {"device": cost.device, "host": cost.host}
    return {name: round(value / GB, 1) for name, value in figures.items()} | {"dtype": cost.dtype, "gpu": gpu.gb, "source": gpu.source}


def _too_large(model: PlannedModel, config: DrawingConfig, cost: Need, gpu: GpuMemory, group: str, rests: bool) -> str:
    """What does not fit, why, and what to do. rests: it would fit with its text encoders at rest."""
    widest = max((cost.denoise, "denoising"), (cost.decode, "decoding"), (cost.encode, "encoding its text"))
    fixes = ["use GPUs with more memory (cluster.gres, cluster.constraint, cluster.gpu_mem_gb says how much they have)"]
    if cost.dtype == "float32":
        fixes.append("numerics=exact with model.dtype=bfloat16")
    if rests:
        fixes.append("model.text_offload=true")
    if widest[0] > sum(cost.weights.values()) / 4:
        fixes.append(f"a smaller {group}.height and .width")
    needs = f"{sum(cost.weights.values()) / GB:.1f} weights, {widest[0] / GB:.1f} {widest[1]} one picture, {CONTEXT / GB:.1f} beside them"
    what = f"model {model.config.id} in {cost.dtype} at {config.width}x{config.height} needs {cost.device / GB:.1f} GB of GPU memory"
    return f"{what} ({needs}), and a GPU of this plan has {gpu.gb:g} GB ({gpu.source}); {', or '.join(fixes)}"


# -- captions --------------------------------------------------------------------------------------------------------


def windows_of(captions: CaptionsConfig, gpu: GpuMemory | None, rows: int) -> tuple[int, int]:
    """(window, slots a unit) of a captions stage; a number stays what it is. A window does not go beyond its unit.

    rows: decoded at once, in windows that are large enough.
    """
    window, unit = (_number(getattr(captions, key), key, 1, "captions") for key in ("window", "unit_size"))
    if window is None:
        window = SLOTS if gpu is None else min(window_for(rows), unit or LARGEST)
    if unit is None:
        unit = max(SLOTS, window) if gpu is None else window
    return window, unit


def window_for(rows: int) -> int:
    """Sixteen fillings of the rows, from 256 to 4096: so many that tails do not matter, so few that a drain waits for some tens of
    seconds on any card. Not by the number of slots, with which captions that are there would not be taken over.

    >>> window_for(8), window_for(64), window_for(256)
    (256, 1024, 4096)
    """
    return max(SMALLEST, min(LARGEST, FILLINGS * rows))
