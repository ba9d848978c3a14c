"""Pairs as one HTML page: an original a row, boxes and masks laid over the pictures.

Pure; no script, nothing from outside, every text escaped.
"""

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from synth.export.boxes_html import BOXES, COLOURS, LIT, PALETTE, place_of, places
from synth.export.html import document
from synth.export.html import escaped as text
from synth.tracking.look import Frame, Object, Row, Totals

TOGGLES = (("boxes", "boxes", True), ("masks", "masks", False), ("empty", "images without an object to keep", True))
SMALL = 160  # pixels: smaller pictures show their pixels
NAMED = 20  # reasons of tombstones
_HOVER = "".join(f"section:has(.c{i}:hover) .c{i}.box {LIT}\n" for i in range(len(PALETTE)))  # the same track beside it
CSS = f"""
:root {{ color-scheme: light dark; --height: min(14rem, 44vw); }}
body {{ font: 1rem/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 100rem; padding: 0 1rem 4rem; }}
h1 {{ font-size: 1.4rem; margin: 1rem 0 .3rem; }} h2 {{ font-size: .95rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }}
h2 small, .note {{ font-weight: normal; opacity: .7; }}
header {{ position: sticky; top: 0; z-index: 9; background: Canvas; padding: .4rem 0; border-bottom: 1px solid #8886; }}
header label {{ margin-right: 1.2rem; cursor: pointer; }}
main {{ display: flex; flex-wrap: wrap; align-items: flex-start; gap: 1.4rem 2.6rem; margin: 1rem 0; }}
section {{ max-width: 100%; }}
.row {{ display: flex; flex-wrap: wrap; gap: .9rem; }}
figure {{ margin: 0; max-width: 100%; width: min-content; min-width: 11rem; }}
figcaption {{ font-size: .8rem; opacity: .8; overflow-wrap: anywhere; }}
.pic {{ position: relative; height: var(--height); max-width: 92vw; background: #8882; }}
.pic img {{ width: 100%; height: 100%; display: block; }} .small img {{ image-rendering: pixelated; }}
.none {{ height: var(--height); width: 16rem; background: #8882; display: grid; place-items: center; padding: .5rem;
  box-sizing: border-box; overflow: auto; overflow-wrap: anywhere; }}
{BOXES}body:has(#boxes:not(:checked)) .box, body:has(#masks:not(:checked)) svg,
body:has(#empty:not(:checked)) .empty {{ display: none; }}
{COLOURS}{_HOVER}"""


def page(title: str, rows: Sequence[Row], totals: Totals) -> str:
    """The page. Pictures lie beside it."""
    toggles = "".join(
        f'<label><input type="checkbox" id="{name}"{" checked" if on else ""}> {label}</label>' for name, label, on in TOGGLES
    )
    parts = [
        f"<p>{text(totals_line(totals))}</p>\n",
        *_reasons(totals),
        f"<header>{toggles}<span class=note>the same colour in a row is the same track</span></header>\n<main>\n",
        *map(_section, rows),
        "</main>",
    ]
    return document(title, CSS, "".join(parts))


def totals_line(t: Totals) -> str:
    """'200 images, 194 pairs, 423 objects in them, 19 of which left the frame; ...'"""
    shown = f", {t.shown:,} of them here" if t.shown < t.images else ""
    line = f"{_n(t.images, 'image')}{shown}: {_n(t.pairs, 'pair')}, {_n(t.objects, 'object')} in them, "
    line += f"{t.gone:,} of which left the frame"
    if t.as_they_were:
        were = "it was" if t.as_they_were == 1 else "they were"
        line += f"; {_n(t.as_they_were, 'image')} without an object to keep, stored as {were}"
    lost = sum(t.tombstones.values())
    return f"{line}; {_n(lost, 'variant')} could not be made" if lost else line


def _n(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _reasons(totals: Totals) -> Iterator[str]:
    if totals.tombstones:
        yield "<ul>"
        for reason, n in sorted(totals.tombstones.items(), key=lambda r: (-r[1], r[0]))[:NAMED]:
            yield f"<li>{text(reason)}{f' ({n:,})' if n > 1 else ''}</li>"
        more = len(totals.tombstones) - NAMED
        yield f"<li>and {more:,} more</li></ul>\n" if more > 0 else "</ul>\n"


def _section(row: Row) -> str:
    small = " small" if max(row.width, row.height) <= SMALL else ""
    about = f"image {row.image_id}, {row.width} x {row.height}"
    empty = " class=empty" if row.empty else ""
    figures = "".join(_figure(frame, row, small) for frame in row.frames)
    note = " \u00b7 no object of it is kept" if row.empty else ""
    head = f"<h2>{text(row.file_name)} <small>{text(about)}{note}</small></h2>"
    return f'<section{empty}>{head}<div class="row">{figures}</div></section>\n'


def _figure(frame: Frame, row: Row, small: str) -> str:
    gone = [f"{o.name} {o.id}" for o in frame.objects if o.gone]
    lines = [f"<b>{text(frame.label)}</b> {text(frame.caption)}"]
    lines += [text(frame.warp)] if frame.warp else []
    lines += [f"left the frame: {text(', '.join(gone))}"] if gone else []
    lines += [text(frame.why)] if frame.why and frame.file else []
    if not frame.file:
        picture = f'<div class="none">{text(frame.why)}</div>'
    else:
        title = "\n".join(x for x in (frame.caption, frame.warp, *(_facts(o, row) for o in frame.objects)) if x)
        there = [o for o in frame.objects if not o.gone]
        boxes = "".join(_box(o, row, place) for o, place in zip(there, label_places(there, row), strict=True))
        paths = "".join(f'<path class="c{o.colour % len(PALETTE)}" d="{o.outline}"/>' for o in frame.objects if o.outline)
        over = f'<svg viewBox="0 0 {row.width} {row.height}" preserveAspectRatio="none">{paths}</svg>' if paths else ""
        picture = (
            f'<div class="pic{small}" style="aspect-ratio:{row.width}/{row.height}" title="{_lines(title)}">'
            f'<img loading="lazy" src="{quote(frame.file)}" alt="{text(frame.label)} of {text(row.file_name)}">'
            f"{over}{boxes}</div>"
        )
    return f"<figure>{picture}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"


def label_places(objects: Sequence[Object], row: Row) -> list[str]:
    """The class of each box that says where its label lies: see synth.export.boxes_html."""
    return places([(f"{o.name} {o.id}", o.box) for o in objects], row.width, row.height)


def _box(o: Object, row: Row, label_at: str) -> str:
    classes = f"box c{o.colour % len(PALETTE)}" + " again" * (o.colour >= len(PALETTE)) + label_at
    place = place_of(o.box, row.width, row.height)
    label, facts = text(f"{o.name} {o.id}"), text(_facts(o, row))
    return f'<div class="{classes}" data-track="{text(str(o.id))}" style="{place}" title="{facts}"><b>{label}</b></div>'


def _facts(o: Object, row: Row) -> str:
    if o.gone:
        return f"{o.name} {o.id}: left the frame"
    before = next((b.area for b in row.frames[0].objects if b.id == o.id), o.area)
    was = f", {before:,.0f} in the original" if before != o.area else ""
    return f"{o.name} {o.id}: {o.area:,.0f} pixels{was}; box " + " ".join(f"{v:g}" for v in o.box)


def _lines(content: str) -> str:
    """As `text`, with line ends kept."""
    return "&#10;".join(text(line) for line in content.split("\n"))
