"""What training is for: pictures that are drawn with LoRAs lie nearer to the real ones than those that the model draws alone."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import synth
from synth import numerics
from synth.embedded.pictures.folders import write
from synth.features.encoders import encoder_of
from tests.lora.planned import whole

EMBEDDED = Path(synth.__file__).parent / "embedded" / "models"
CLASSES = ("cactus", "strawberry")  # which other artists draw otherwise than those that the model knows
KEYS = (
    "images.height=32", "images.width=32", "images.steps=6", "images.per_caption=6",
    "images.batch_size=8", "images.unit_size=8", "images.guidance_scale=2", "lora.per_class=4", "lora.steps=25", "lora.save_every=25",
    "lora.batch_size=4", "lora.rank=8", "lora.learning_rate=0.002",
)  # fmt: skip


@pytest.fixture(scope="module")
def near(tmp_path_factory):
    """Of pictures drawn without and with LoRAs: class -> their mean cosine similarity to the nearest real picture of it."""
    root = tmp_path_factory.mktemp("adapted")
    write(root / "real", 80, 1, held_out=True)  # of artists whose drawings the model never saw
    (root / "two.txt").write_text("\n".join(CLASSES))
    encoder = encoder_of(EMBEDDED / "tiny_clip")(EMBEDDED / "tiny_clip", 8, numerics.apply(numerics.EXACT)["dtype"])

    def features(pictures: list[bytes]) -> np.ndarray:
        return encoder.pictures([encoder.preparation(Image.open(io.BytesIO(p)).convert("RGB")) for p in pictures])

    def run(name: str, real: Path | None) -> dict[str, float]:
        made = whole(root / name, EMBEDDED / "tiny_sd", real, f"dataset.source={root}/two.txt", *KEYS)
        found = {}
        for cls in CLASSES:
            drawn = features([s.read("png") for s in made["images"].samples() if s.json()["class"] == cls])
            shots = features([p.read_bytes() for p in sorted((root / "real" / cls).iterdir())])
            found[cls] = float((drawn @ shots.T).max(1).mean())
        return found

    return run("without", None), run("with", root / "real")


@pytest.mark.parametrize("cls", CLASSES)
def test_adapted_pictures_lie_nearer_to_the_real_ones(cls, near):
    without, adapted = near
    assert adapted[cls] > without[cls] + 0.05
