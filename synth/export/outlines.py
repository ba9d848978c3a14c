"""The outlines of masks, along the borders of their pixels. Pure.

Pixels that touch by a corner only do not hang together, so an object that another one cuts in two has two outlines.
"""

import numpy as np

Loop = list[tuple[int, int]]  # corners (x, y), not repeated at the end; clockwise around pixels, counterclockwise around a hole
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up; the pixel lies to the right of the way


def outlines(mask: np.ndarray) -> list[Loop]:
    """Closed borders of a bool mask [H, W], in reading order of their first corners, without points on straight lines."""
    edges = _edges(mask.astype(bool))
    loops = []
    for start in sorted(edges, key=lambda p: (p[1], p[0])):
        while start in edges:
            loops.append(_walk(edges, start))
    return loops


def polygons(mask: np.ndarray) -> list[list[int]] | None:
    """COCO's polygons [x0, y0, x1, y1, ..], which give the mask back to the pixel; None where it has a hole."""
    loops = outlines(mask)
    return None if any(_turns_left(loop) for loop in loops) else [[v for point in loop for v in point] for loop in loops]


def svg_path(mask: np.ndarray, scale: int = 1) -> str:
    """The `d` of an SVG path, to be filled by the even-odd rule; a pixel of the mask is `scale` wide."""
    parts = []
    for loop in outlines(mask):
        (x, y), *rest = loop
        text = [f"M{x * scale} {y * scale}"]
        for nx, ny in rest:  # corners lie above or beside each other
            text.append(f"v{(ny - y) * scale}" if nx == x else f"h{(nx - x) * scale}")
            x, y = nx, ny
        parts.append("".join(text) + "z")
    return "".join(parts)


def _edges(mask: np.ndarray) -> dict[tuple[int, int], list[int]]:
    """Corner -> directions of the border's edges that begin there: one, or two where pixels touch by that corner."""
    padded, edges = np.pad(mask, 1), {}
    for direction, beyond, dx, dy in (
        (0, padded[:-2, 1:-1], 0, 0),  # nothing above: along the top to the right
        (1, padded[1:-1, 2:], 1, 0),  # nothing to the right: down
        (2, padded[2:, 1:-1], 1, 1),  # nothing below: to the left
        (3, padded[1:-1, :-2], 0, 1),  # nothing to the left: up
    ):
        rows, columns = np.nonzero(mask & ~beyond)
        for x, y in zip((columns + dx).tolist(), (rows + dy).tolist(), strict=True):
            edges.setdefault((x, y), []).append(direction)
    return edges


def _walk(edges: dict[tuple[int, int], list[int]], start: tuple[int, int]) -> Loop:
    """One closed border from `start`; its edges are taken out."""
    point, direction, loop = start, -1, []
    while True:
        there = edges[point]
        right = (direction + 1) % 4  # where pixels touch by this corner: around the same one, not on to the next
        turn = right if right in there else there[0]
        there.remove(turn)
        if not there:
            del edges[point]
        if turn != direction:
            loop.append(point)
        direction = turn
        point = (point[0] + _STEPS[turn][0], point[1] + _STEPS[turn][1])
        if point == start:
            return loop


def _turns_left(loop: Loop) -> bool:
    """Whether it goes around a hole: its area (y downwards) is negative."""
    return sum(ax * by - bx * ay for (ax, ay), (bx, by) in zip(loop, [*loop[1:], loop[0]], strict=True)) < 0
