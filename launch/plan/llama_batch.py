"""`captioner.max_batch_size=auto`, resolved once, at plan time: stage.json holds a number, whatever GPU a worker finds."""

from dataclasses import replace

from launch.config.schema import Captioner, Config, Llama
from synth.errors import InputError


def settled(config: Config) -> Captioner:
    """The captioner of `config` with a number for max_batch_size. A wrong value is an InputError."""
    captioner = config.captioner
    rows, native = captioner.max_batch_size, isinstance(captioner, Llama)
    if native and rows == "auto":
        together = min(config.captions.window, config.captions.unit_size)  # a window ends with its unit
        return replace(captioner, max_batch_size=_auto(captioner, gpu_mem_gb(config.cluster), together))
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise InputError(f"captioner.max_batch_size={rows}: {'auto, or ' if native else ''}a number of captions, 1 at least")
    return captioner


def gpu_mem_gb(cluster) -> float | None:
    """Memory of the GPUs that captions are made on: cluster.stages.captions.gpu_mem_gb, else cluster.gpu_mem_gb."""
    own = getattr(cluster, "stages", {}).get("captions")
    for key, value in (("stages.captions.gpu_mem_gb", own and own.gpu_mem_gb), ("gpu_mem_gb", cluster.gpu_mem_gb)):
        if value is None:
            continue
        if not value > 0:
            raise InputError(f"cluster.{key}={value:g}: the memory of one GPU in GB, as 80; null: no GPU, or unknown")
        return value
    return None


def _auto(captioner: Llama, memory: float | None, window: int) -> int:
    from launch.plan.engines import checkpoint_of
    from synth.captions.llama.memory import ITEM_BYTES, auto_rows

    if captioner.dtype not in ITEM_BYTES or captioner.max_seq_len < 1:
        return 1  # refused with all other keys in a moment
    found = checkpoint_of(captioner)
    return auto_rows(found.params, captioner.dtype, found.degree, captioner.max_seq_len, memory, window, found.shards[0].parent)
