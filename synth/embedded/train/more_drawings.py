"""More drawings for the training of models that look at pictures, in a scratch folder; none of them ships.

Two kinds: icons of the same packages that ../pictures/drawings does without (see drawings.py), and variants of all of them: turned,
stretched, mirrored, recoloured. A model that has seen four drawings of a cat alone knows these four.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from synth.embedded.pictures.render import classes, drawings
from synth.embedded.train.drawings import SIDE, TRAINING, fetch, render_icon

ICONS = {
    "apple": ("red-apple", "green-apple"),
    "mushroom": ("mushroom", "brown-mushroom"),
    "frog": ("frog", "frog-face"),
    "cat": ("cat-face", "cat"),
    "dog": ("dog-face", "dog"),
    "honeybee": ("honeybee", "bee"),
    "fish": ("fish", "tropical-fish", "blowfish"),
    "car": ("automobile", "sport-utility-vehicle"),
    "bus": ("bus", "trolleybus", "minibus"),
    "airplane": ("airplane", "small-airplane"),
    "umbrella": ("umbrella", "umbrella-with-rain-drops"),
}
ARTISTS = ("fluent-emoji-flat", "fluent-emoji", "noto", "noto-v1", "twemoji", "emojione")  # all but those of the held-out drawings
VARIANTS = 10  # of a drawing


def others(scratch: Path, out: Path) -> int:
    """Write the icons of ICONS that are neither among the training drawings nor held out; how many there are."""
    count = 0
    for package in ARTISTS:
        icons = fetch(package, scratch)
        for cls in classes():
            for name in ICONS.get(cls, (cls,)):
                if name in icons["icons"] and f"{package}:{name}" not in TRAINING[cls]:
                    render_icon(icons, name).save(out / f"{cls}.{package}.{name}.png")
                    count += 1
    return count


def variant(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A drawing turned, stretched, perhaps mirrored, and of other colours."""
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width, height = (round(SIDE * s) for s in rng.uniform(0.75, 1, 2))
    image = image.convert("RGBa").resize((width, height), Image.Resampling.BICUBIC)
    image = image.rotate(float(rng.normal(0, 12)), Image.Resampling.BICUBIC, expand=True).convert("RGBA")
    image = image.crop(image.getchannel("A").point(lambda a: 255 if a > 16 else 0).getbbox())
    side = max(image.size)
    square = Image.new("RGBA", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return recoloured(square.convert("RGBa").resize((SIDE, SIDE), Image.Resampling.LANCZOS).convert("RGBA"), rng)


def recoloured(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Hue, saturation, contrast and brightness shifted; one in ten is grey."""
    pixels = np.asarray(image, np.float32)
    colour, alpha = pixels[..., :3], pixels[..., 3:]
    grey = colour.mean(-1, keepdims=True)
    turned = colour @ hue(float(rng.normal(0, 0.06))).T
    colour = grey + (turned - turned.mean(-1, keepdims=True)) * (0.0 if rng.random() < 0.1 else rng.uniform(0.6, 1.3))
    colour = (colour - 128) * rng.uniform(0.7, 1.2) + 128 + rng.normal(0, 18) + rng.normal(0, 6, 3)
    return Image.fromarray(np.concatenate([np.clip(colour, 0, 255), alpha], -1).astype(np.uint8), "RGBA")


def hue(turn: float) -> np.ndarray:
    """[3, 3] that turns colours by a share of the circle about the grey axis (Rodrigues)."""
    cos, sin = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    return cos * np.eye(3) + (1 - cos) / 3 + sin * cross


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path, help="folder of the downloaded packages, as of drawings.py")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()
    args.scratch.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    for cls in classes():
        for path in drawings(cls):
            shutil.copy(path, args.out)
    count = others(args.scratch, args.out)
    originals = sorted(args.out.glob("*.png"))
    for number, path in enumerate(originals):
        rng = np.random.default_rng([args.seed, number])
        for k in range(VARIANTS):
            with Image.open(path) as image:
                variant(image.convert("RGBA"), rng).save(path.with_suffix(f".{k}.png"))
    print(f"{count} drawings more, {len(originals) * VARIANTS} variants, in {args.out}")


if __name__ == "__main__":
    main()
