"""What export.hdf5.* may be; read at plan time too, so nothing heavy is imported."""

from synth.errors import InputError
from synth.export.config import Hdf5PartsConfig

KEYED, PACKED = "keyed", "packed"
BYTES, PIXELS = "bytes", "pixels"


def check_settings(config: Hdf5PartsConfig, pairs: bool = False) -> None:
    """InputError naming the key, unless the settings make sense together. pairs: for images of a stage of tracking pairs."""
    if config.content == PIXELS and config.layout == KEYED:
        raise InputError(f"export.hdf5.content={PIXELS}: needs export.hdf5.layout={PACKED}; a keyed file holds encoded pictures")
    if config.gzip and config.content != PIXELS:
        raise InputError(f"export.hdf5.gzip={config.gzip}: only with export.hdf5.content={PIXELS}; encoded pictures are compressed already")
    if pairs and config.layout != KEYED:
        raise InputError(
            f"export.hdf5.layout={config.layout}: tracking pairs have names that annotations tell, and no label; "
            f"use export.hdf5.layout={KEYED}"
        )


def partition_of_pairs(partition: int, variants: int, slots: int) -> int:
    """Pictures a partition, such that all variants of an image lie in one: `partition` rounded down, one image at least.

    >>> partition_of_pairs(10, 4, 100), partition_of_pairs(3, 4, 100), partition_of_pairs(1000, 4, 100)
    (8, 4, 100)
    """
    return max(variants, min(partition, slots) // variants * variants)
