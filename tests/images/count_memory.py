"""Counts the live tensors of every preset in its true shapes, on the meta device, into counted.json: python -m tests.images.count_memory

A call of a preset takes some seconds; all of them, some minutes. The test recounts a few.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synth.images.models import inspect_model
from tests.configs import ImagesConfig, ModelConfig, PartConfig
from tests.images.true_shapes import FOLDERS, write

TABLE = Path(__file__).with_name("counted.json")
PRESETS = [name for name in FOLDERS if "." not in name]
LARGEST = {"floyd": 256}  # pixels a side, where the preset leaves it to the folders: stage I and the upscaler
OTHER = {512: 768, 768: 512, 1024: 512}  # one more size
FIXED = ("karlo", "floyd")  # of one size
PLAIN = ("sd15", "sdxl", "pixart_sigma")  # counted with the plain attention kernel too: a U-Net of each kind, and a transformer


def cases(name: str, native: int) -> list[tuple[int, int, bool]]:
    """(pixels a side, batch, whether attention is the plain kernel's) of a preset."""
    more = [] if name in FIXED else [(OTHER[native], 1, False)]
    return [(native, 1, False), (native, 4, False), *more, *([(native, 1, True)] if name in PLAIN else [])]


def key(name: str, side: int, batch: int, plain: bool) -> str:
    return f"{name} {side} {batch}{' plain' * plain}"


def preset(name: str) -> dict[str, Any]:
    """What the YAML of a preset says: as composed, without its folders."""
    from launch.config.compose import Composer

    return dict(Composer().compose([f"model={name}"]).model)


def parts_of(name: str) -> list[str]:
    return [key.partition(".")[2] for key in FOLDERS if key.startswith(f"{name}.")]


def native(name: str, said: Mapping) -> int:
    return said["native_height"] or LARGEST[name]


def config_of(name: str, said: Mapping, side: int) -> ImagesConfig:
    parts = {p: PartConfig(steps=1, guidance_scale=4.0, noise_level=20, start=0.0) for p in parts_of(name)}
    model = ModelConfig(id=name, dtype=said["dtype"], parts=parts)
    return ImagesConfig(seed=0, height=side, width=side, steps=1, guidance_scale=said["native_guidance_scale"], model=model)


def folder_of(name: str, root: Path, config: ImagesConfig):
    """The model of true shapes, written below `root` and judged."""
    paths = {"model": write(name, root / name)}
    paths |= {f"model_part_{p}": write(f"{name}.{p}", root / f"{name}.{p}") for p in parts_of(name)}
    return inspect_model(paths, config.model)


def counted(name: str, side: int, batch: int, plain: bool, scratch: Path) -> dict[str, int]:
    """Bytes of weights and of each phase, at their peak. plain: float32 and the plain attention kernel, as numerics=reference has them."""
    import torch

    from synth.images.families import family_class
    from tests.images.meta_pipelines import count, pipeline, weights_of

    said = preset(name)
    dtype = torch.float32 if plain else getattr(torch, said["dtype"])
    pipe = pipeline(name, scratch, dtype)
    parts = {p: pipeline(f"{name}.{p}", scratch, dtype) for p in parts_of(name)}
    family = family_class(FOLDERS[name][0])(pipe, config_of(name, said, side), batch, parts)
    return {"weights": weights_of([pipe, *parts.values()]), **count(family, batch, plain)}


def main() -> None:
    """Counts what is not in the table yet."""
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in PRESETS:
            for case in cases(name, native(name, preset(name))):
                if key(name, *case) not in table:
                    table[key(name, *case)] = counted(name, *case, Path(scratch))
                    TABLE.write_text(json.dumps(table, indent=1) + "\n")
                    print(key(name, *case), table[key(name, *case)], flush=True)


if __name__ == "__main__":
    main()
