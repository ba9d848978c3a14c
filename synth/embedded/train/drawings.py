"""Render the chosen emoji drawings to RGBA PNGs: npm packages -> pictures/drawings and pictures/held_out.

Fetches seven @iconify-json packages with npm into a scratch folder, renders the named icons with resvg, crops each to
its visible part, centres it on a transparent square and writes PNGs. Needs npm and the `train` extra (resvg_py).
"""

import argparse
import io
import json
import subprocess
import tarfile
from pathlib import Path

from PIL import Image

PICTURES = Path(__file__).resolve().parent.parent / "pictures"
SIDE = 96  # pixels: sharp enough at 128 px scenes, and 100 drawings stay under 1 MB

# package -> version
PACKAGES = {
    "fluent-emoji-flat": "1.2.6",
    "fluent-emoji": "1.2.7",
    "noto": "1.2.9",
    "noto-v1": "1.2.5",
    "twemoji": "1.2.5",
    "emojione": "1.2.3",
    "fxemoji": "1.2.2",
}

# Four drawings a class, alike enough for a small model (all cats are faces, all cars are seen from the side).
TRAINING = {
    "apple": ["fluent-emoji-flat:red-apple", "noto:red-apple", "twemoji:red-apple", "emojione:red-apple"],
    "banana": ["fluent-emoji-flat:banana", "noto:banana", "twemoji:banana", "noto-v1:banana"],
    "strawberry": ["fluent-emoji-flat:strawberry", "noto:strawberry", "noto-v1:strawberry", "emojione:strawberry"],
    "pineapple": ["fluent-emoji-flat:pineapple", "noto:pineapple", "noto-v1:pineapple", "twemoji:pineapple"],
    "mushroom": ["fluent-emoji-flat:mushroom", "noto:mushroom", "twemoji:mushroom", "fluent-emoji:mushroom"],
    "cactus": ["fluent-emoji-flat:cactus", "noto:cactus", "twemoji:cactus", "emojione:cactus"],
    "sunflower": ["fluent-emoji-flat:sunflower", "noto:sunflower", "twemoji:sunflower", "fluent-emoji:sunflower"],
    "frog": ["fluent-emoji-flat:frog", "noto:frog", "noto-v1:frog", "twemoji:frog"],
    "cat": ["fluent-emoji-flat:cat-face", "noto:cat-face", "noto-v1:cat-face", "twemoji:cat-face"],
    "dog": ["fluent-emoji-flat:dog-face", "noto:dog-face", "twemoji:dog-face", "emojione:dog-face"],
    "penguin": ["fluent-emoji-flat:penguin", "noto:penguin", "twemoji:penguin", "emojione:penguin"],
    "honeybee": ["fluent-emoji-flat:honeybee", "noto:honeybee", "noto-v1:honeybee", "twemoji:honeybee"],
    "fish": ["fluent-emoji-flat:fish", "noto:fish", "twemoji:fish", "emojione:tropical-fish"],
    "car": ["fluent-emoji-flat:automobile", "noto:automobile", "twemoji:automobile", "emojione:automobile"],
    "bus": ["fluent-emoji-flat:bus", "noto:bus", "noto-v1:bus", "emojione:bus"],
    "airplane": ["fluent-emoji-flat:airplane", "noto:airplane", "noto-v1:airplane", "emojione:airplane"],
    "sailboat": ["fluent-emoji-flat:sailboat", "noto:sailboat", "noto-v1:sailboat", "twemoji:sailboat"],
    "rocket": ["fluent-emoji-flat:rocket", "noto:rocket", "twemoji:rocket", "emojione:rocket"],
    "umbrella": ["fluent-emoji-flat:umbrella", "noto:umbrella", "noto-v1:umbrella", "twemoji:umbrella"],
    "pizza": ["fluent-emoji-flat:pizza", "noto:pizza", "twemoji:pizza", "emojione:pizza"],
}

# Drawings of artists the image model never sees: the test of how far a classifier carries over.
HELD_OUT = {cls: [cls] for cls in TRAINING} | {
    "apple": ["redapple"],
    "fish": ["tropicalfish", "fish"],
    "car": ["automobile", "recreationalvehicle"],
    "bus": ["bus", "trolleybus"],
    "pizza": ["sliceofpizza"],
}


def fetch(package: str, scratch: Path) -> dict:
    """The icons.json of one @iconify-json package at its pinned version; kept in `scratch` for the next run."""
    tgz = scratch / f"iconify-json-{package}-{PACKAGES[package]}.tgz"
    if not tgz.exists():
        subprocess.run(["npm", "pack", f"@iconify-json/{package}@{PACKAGES[package]}"], cwd=scratch, check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(tgz) as tar:
        return json.load(tar.extractfile("package/icons.json"))


def render_icon(icons: dict, name: str) -> Image.Image:
    """One icon as SIDE x SIDE RGBA, cropped to what is visible and centred. Raises KeyError for an unknown name."""
    import resvg_py

    icon = icons["icons"][name]
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">{icon["body"]}</svg>'
    )
    image = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=384, height=384)))).convert("RGBA")
    box = image.getchannel("A").point(lambda a: 255 if a > 16 else 0).getbbox()
    image = image.crop(box)
    side = max(image.size)
    square = Image.new("RGBA", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square.convert("RGBa").resize((SIDE, SIDE), Image.Resampling.LANCZOS).convert("RGBA")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path, help="folder for the downloaded packages")
    parser.add_argument("--out", type=Path, default=PICTURES, help="the pictures folder (default: %(default)s)")
    args = parser.parse_args()
    args.scratch.mkdir(parents=True, exist_ok=True)
    chosen = [("drawings", cls, spec) for cls, specs in TRAINING.items() for spec in specs]
    chosen += [("held_out", cls, f"fxemoji:{name}") for cls, names in HELD_OUT.items() for name in names]
    loaded: dict[str, dict] = {}
    for folder, cls, spec in chosen:
        package, name = spec.split(":")
        if package not in loaded:
            loaded[package] = fetch(package, args.scratch)
        target = args.out / folder / f"{cls}.{package}.{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        render_icon(loaded[package], name).save(target, optimize=True)
    print(f"{len(chosen)} drawings in {args.out}")


if __name__ == "__main__":
    main()
