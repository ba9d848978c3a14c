"""Masks as polygons along the borders of their pixels. Pure.

A region of pixels that hang together by their sides is one polygon, so an object that another one cuts in two has two. A polygon has no
hole: `polygons` says so by returning None, and the mask is kept as run lengths.
"""

import numpy as np

# a border edge runs with its pixel on the right hand, in (x, y) with y downwards: along the top to the right, along the right side down, ..
_TURNS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up


def polygons(mask: np.ndarray) -> list[list[int]] | None:
    """COCO's polygons [x0, y0, x1, y1, ..] of a bool mask [H, W], corners of pixels as whole numbers; None where a part has a hole."""
    found = []
    for part in parts(mask):
        loops = _loops(part)
        if len(loops) > 1:
            return None
        found.append([v for point in loops[0] for v in point])
    return found


def parts(mask: np.ndarray) -> list[np.ndarray]:
    """The regions of a mask whose pixels hang together by their sides, in reading order of their first pixels."""
    left, found = mask.copy(), []
    while left.any():
        seed = np.zeros_like(left)
        seed[np.unravel_index(int(np.argmax(left)), left.shape)] = True
        while True:
            grown = seed.copy()
            grown[1:] |= seed[:-1]
            grown[:-1] |= seed[1:]
            grown[:, 1:] |= seed[:, :-1]
            grown[:, :-1] |= seed[:, 1:]
            grown &= left
            if (grown == seed).all():
                break
            seed = grown
        found.append(seed)
        left &= ~seed
    return found


def _loops(part: np.ndarray) -> list[list[tuple[int, int]]]:
    """Closed borders of one region, without points on straight lines; the outer one first."""
    padded = np.pad(part, 1)
    edges: dict[tuple[int, int], list[int]] = {}  # start -> directions of the edges that begin there
    inside = padded[1:-1, 1:-1]
    for direction, beyond, dx, dy in (
        (0, padded[:-2, 1:-1], 0, 0),  # nothing above: the top side, to the right
        (1, padded[1:-1, 2:], 1, 0),  # nothing to the right: the right side, down
        (2, padded[2:, 1:-1], 1, 1),  # nothing below: the bottom side, to the left
        (3, padded[1:-1, :-2], 0, 1),  # nothing to the left: the left side, up
    ):
        for y, x in zip(*np.nonzero(inside & ~beyond), strict=True):
            edges.setdefault((int(x) + dx, int(y) + dy), []).append(direction)
    loops = []
    while edges:
        start = min(edges, key=lambda p: (p[1], p[0]))
        point, direction, loop = start, None, []
        while True:
            there = edges[point]
            # where two edges begin (pixels that touch by a corner) the sharpest left turn keeps a region's border in one loop
            turn = there[0] if len(there) == 1 else min(there, key=lambda d: (d - (direction or 0) - 3) % 4)
            there.remove(turn)
            if not there:
                del edges[point]
            if turn != direction:
                loop.append(point)
            direction = turn
            point = (point[0] + _TURNS[turn][0], point[1] + _TURNS[turn][1])
            if point == start:
                break
        loops.append(loop)
    return loops
