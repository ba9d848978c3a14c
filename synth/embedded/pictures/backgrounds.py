"""The painted backgrounds: ten scenes and eleven plain colours, at any size in pixels.

Each painter gets `y` [H, 1] and `x` [1, W] in 0..1 and a numpy Generator, and returns float RGB [H, W, 3] in 0..255.
Horizons lie on eighths of the height: at 32 px that is a multiple of the 4-px patches the image model sees.
"""

from collections.abc import Callable

import numpy as np

PLAIN = {
    "red": (190, 40, 50),
    "orange": (240, 140, 45),
    "yellow": (250, 218, 90),
    "green": (70, 150, 95),
    "blue": (60, 125, 215),
    "purple": (135, 80, 180),
    "pink": (240, 160, 190),
    "brown": (140, 90, 55),
    "black": (25, 24, 28),
    "white": (247, 247, 245),
    "grey": (145, 147, 152),
}


def _blend(below: np.ndarray, above: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`above` over `below` by `share` [H, W] in 0..1."""
    return below + (above - below) * share[..., None]


def _flat(colour, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.asarray(colour, float), (y.shape[0], x.shape[1], 3))


def _ramp(top, bottom, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A vertical gradient from `top` (y = 0) to `bottom` (y = 1)."""
    return _flat(top, y, x) + (np.asarray(bottom, float) - np.asarray(top, float)) * y[..., None]


def _from(edge: float, v: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """[H, W] share that turns from 0 to 1 where v passes `edge`, softened over one pixel."""
    share = np.clip((v - edge) * y.shape[0] + 0.5, 0, 1)
    return np.broadcast_to(share, (y.shape[0], x.shape[1]))


def _horizon(rng: np.random.Generator) -> float:
    return float(rng.choice([0.625, 0.75]))


def _tint(colour, rng: np.random.Generator, spread: float = 8.0) -> np.ndarray:
    """A colour with a small shift of brightness and hue, so that no two pictures are equal."""
    return np.clip(np.asarray(colour, float) + rng.normal(0, spread) + rng.normal(0, spread / 3, 3), 0, 255)


def beach(y, x, rng):
    edge = _horizon(rng)
    sky = _ramp(_tint((110, 185, 240), rng), (205, 230, 245), y, x)
    sea = _blend(sky, _flat(_tint((30, 125, 190), rng), y, x), _from(edge - 0.125, y, y, x))
    return _blend(sea, _flat(_tint((238, 214, 155), rng), y, x), _from(edge, y, y, x))


def meadow(y, x, rng):
    sky = _ramp(_tint((120, 185, 245), rng), (205, 228, 250), y, x)
    return _blend(sky, _ramp(_tint((125, 195, 80), rng), (70, 150, 45), y, x), _from(_horizon(rng), y, y, x))


def snow(y, x, rng):
    sky = _ramp(_tint((150, 165, 195), rng), (195, 205, 222), y, x)
    return _blend(sky, _flat((250, 251, 254), y, x), _from(_horizon(rng), y, y, x))


def night_sky(y, x, rng):
    sky = np.array(_ramp(_tint((8, 10, 38), rng, 4), (32, 34, 84), y, x))
    height, width = sky.shape[:2]
    radius = max(1, round(height / 40))
    for fy, fx in rng.random((10, 2)):
        top, left = int(fy * (height - radius)), int(fx * (width - radius))
        sky[top : top + radius, left : left + radius] = (245, 240, 200)
    return sky


def sunset(y, x, rng):
    edge = _horizon(rng)
    sky = _ramp(_tint((235, 95, 70), rng), (255, 200, 95), y / edge, x)
    return _blend(sky, _flat(_tint((75, 45, 90), rng), y, x), _from(edge, y, y, x))


def wooden_table(y, x, rng):
    edge = _horizon(rng)
    wall = _flat(_tint((243, 230, 205), rng), y, x)
    wood = _flat(_tint((150, 95, 50), rng), y, x)
    plank = _flat((110, 66, 32), y, x)
    table = _blend(wood, plank, np.broadcast_to(np.abs(y - edge - 0.0625) < 0.03, wood.shape[:2]).astype(float))
    return _blend(wall, table, _from(edge, y, y, x))


def lake(y, x, rng):
    edge = float(rng.choice([0.5, 0.625]))
    sky = _ramp(_tint((140, 200, 245), rng), (220, 236, 248), y, x)
    shore = _blend(sky, _flat(_tint((60, 120, 75), rng), y, x), _from(edge - 0.125, y, y, x))
    return _blend(shore, _ramp(_tint((60, 140, 200), rng), (25, 80, 150), y, x), _from(edge, y, y, x))


def city_street(y, x, rng):
    sky = _flat(_tint((185, 195, 210), rng), y, x)
    tops = rng.choice([0.125, 0.25, 0.375], 4)
    greys = rng.choice([105, 125, 150], 4)
    which = np.minimum((x[0] * 4).astype(int), 3)
    houses = np.stack([greys[which], greys[which] * 0.98, greys[which] * 1.06], -1)[None]
    town = _blend(sky, np.broadcast_to(houses, sky.shape), _from(0.0, y - tops[which][None], y, x))
    road = _blend(town, _flat(_tint((75, 76, 82), rng), y, x), _from(0.75, y, y, x))
    return _blend(road, _flat((235, 215, 120), y, x), np.broadcast_to(np.abs(y - 0.89) < 0.03, sky.shape[:2]).astype(float))


def desert(y, x, rng):
    sky = _ramp(_tint((250, 222, 160), rng), (253, 238, 200), y, x)
    dune = _horizon(rng) + 0.06 * np.sin(2 * np.pi * (x + float(rng.choice([0.0, 0.5]))))
    return _blend(sky, _ramp(_tint((232, 165, 85), rng), (205, 130, 60), y, x), _from(0.0, y - dune, y, x))


def forest(y, x, rng):
    green = _ramp(_tint((40, 95, 55), rng), (25, 70, 40), y, x)
    trunks = np.broadcast_to(((x * 8 + float(rng.choice([0.0, 0.5]))) % 2 < 0.75), green.shape[:2]).astype(float)
    wood = _blend(green, _flat(_tint((85, 60, 40), rng), y, x), trunks)
    leaves = _blend(_flat(_tint((60, 130, 60), rng), y, x), wood, _from(0.25, y, y, x))
    return _blend(leaves, _flat(_tint((75, 85, 40), rng), y, x), _from(0.8125, y, y, x))


SCENES: dict[str, Callable] = {
    "beach": beach,
    "meadow": meadow,
    "snow": snow,
    "night sky": night_sky,
    "sunset": sunset,
    "wooden table": wooden_table,
    "lake": lake,
    "city street": city_street,
    "desert": desert,
    "forest": forest,
}
NAMES = (*SCENES, *(f"{colour} background" for colour in PLAIN))


def paint(name: str, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Background `name` as uint8 RGB [height, width, 3]. Raises KeyError naming all backgrounds for an unknown one."""
    y = ((np.arange(height) + 0.5) / height)[:, None]
    x = ((np.arange(width) + 0.5) / width)[None, :]
    if name in SCENES:
        picture = SCENES[name](y, x, rng)
    elif name in NAMES:
        picture = _flat(_tint(PLAIN[name.removesuffix(" background")], rng, 5), y, x)
    else:
        raise KeyError(f"unknown background {name!r}: use one of {', '.join(NAMES)}")
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
