"""The keys that all caption engines share: temperature, top_p, the lengths and stop. Imports nothing heavy."""

from synth.config import CaptionerConfig
from synth.errors import InputError

DTYPES = ("float32", "bfloat16", "float16")


def check_keys(captioner: CaptionerConfig) -> None:
    """InputError for a value out of range, naming its key."""
    if captioner.dtype not in DTYPES:
        msg = f"captioner.dtype={captioner.dtype}: one of {', '.join(DTYPES)}"
        raise InputError(msg)
    if not captioner.temperature >= 0 or captioner.temperature == float("inf"):
        msg = f"captioner.temperature={captioner.temperature}: 0 (the likeliest token) or more"
        raise InputError(msg)
    if not 0 <= captioner.top_p <= 1:
        msg = f"captioner.top_p={captioner.top_p}: between 0 and 1"
        raise InputError(msg)
    for key in ("max_seq_len", "max_gen_len", "max_batch_size", "model_parallel"):
        if getattr(captioner, key) < 1:
            msg = f"captioner.{key}={getattr(captioner, key)}: at least 1"
            raise InputError(msg)
    if not all(captioner.stop):
        msg = f"captioner.stop={list(captioner.stop)}: texts, none of them empty"
        raise InputError(msg)
