"""Layout labels as one HTML page: boxes and masks laid over the pictures, captions below. Pure; no script, nothing from outside, every text
escaped and no longer than a page bears.
"""

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from synth.export.boxes_html import BOXES, COLOURS, LIT, PALETTE, place_of, places
from synth.export.html import document
from synth.export.html import escaped as text

TOGGLES = (
    *(("boxes", "boxes", True), ("masks", "masks", True), ("captions", "captions", True)),
    ("empty", "pictures without an object", True),
)
SMALL = 160  # pixels: smaller pictures show their pixels
LABEL, TEXT = 40, 600  # characters of a box's label, and of any other text
NAMED = 20  # reasons
_HOVER = "".join(f"section:has(.c{i}:hover) .c{i}.box {LIT}\n" for i in range(len(PALETTE)))  # the box of the line that is pointed at
CSS = f"""
:root {{ color-scheme: light dark; --height: min(20rem, 60vw); }}
body {{ font: 1rem/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 110rem; padding: 0 1rem 4rem; }}
h1 {{ font-size: 1.4rem; margin: 1rem 0 .3rem; }}
h2 {{ font-size: .95rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }} h2 small {{ font-weight: normal; opacity: .7; }}
header {{ position: sticky; top: 0; z-index: 9; background: Canvas; padding: .4rem 0; border-bottom: 1px solid #8886; }}
header label {{ margin-right: 1.2rem; cursor: pointer; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); gap: 1.8rem 2rem; margin: 1rem 0; }}
section {{ min-width: 0; }} section p {{ margin: .3rem 0; overflow-wrap: anywhere; }}
.pic {{ position: relative; background: #8882; }}
.pic img {{ width: 100%; height: 100%; display: block; }} .small img {{ image-rendering: pixelated; }}
ol {{ margin: .4rem 0; padding: 0; list-style: none; font-size: .85rem; }} ol li {{ overflow-wrap: anywhere; }}
ol i {{ display: inline-block; width: .8em; height: .8em; background: var(--c); box-shadow: 0 0 0 1px #0008; margin-right: .5em; }}
{BOXES}body:has(#boxes:not(:checked)) .box, body:has(#masks:not(:checked)) svg, body:has(#captions:not(:checked)) .captions,
body:has(#empty:not(:checked)) .empty {{ display: none; }}
{COLOURS}{_HOVER}"""


def page(title: str, pictures: Sequence[Mapping], totals: Mapping) -> str:
    """The page. pictures: slot, file, record (without masks) and the outlines of its objects; totals: numbers, dropped, left_out, shown."""
    toggles = "".join(
        f'<label><input type="checkbox" id="{name}"{" checked" if on else ""}> {label}</label>' for name, label, on in TOGGLES
    )
    body = [f"<p>{text(totals_line(totals))}</p>\n", *_reasons(totals), f"<header>{toggles}</header>\n<main>\n", *map(_section, pictures)]
    return document(title, CSS, "".join([*body, "</main>"]))


def totals_line(totals: Mapping) -> str:
    """'20 pictures, 3 of them here: 61 objects, 61 with a mask, 60 with a caption; 2 pictures without an object; ..'"""
    n = totals["numbers"]
    shown = f", {totals['shown']:,} of them here" if totals["shown"] < n.get("pictures", 0) else ""
    line = f"{many(n.get('pictures', 0), 'picture')}{shown}: {many(n.get('objects', 0), 'object')}, {n.get('masks', 0):,} with a mask, "
    line += f"{n.get('captions', 0):,} with a caption"
    if empty := n.get("empty", 0):
        line += f"; {many(empty, 'picture')} without an object"
    left_out = sum(totals["left_out"].values())
    return f"{line}; {many(left_out, 'picture')} could not be labelled" if left_out else line


def many(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _reasons(totals: Mapping) -> Iterator[str]:
    reasons = [(n, f"objects left out: {why}") for why, n in totals["dropped"].items()]
    reasons += [(n, why) for why, n in totals["left_out"].items()]
    if reasons:
        lines = [f"<li>{text(short(why))} ({n:,})</li>" for n, why in sorted(reasons, key=lambda r: (-r[0], r[1]))[:NAMED]]
        more = f"<li>and {len(reasons) - NAMED:,} more</li>" if len(reasons) > NAMED else ""
        yield f"<ul>{''.join(lines)}{more}</ul>\n"


def _section(shown: Mapping) -> str:
    record = shown["record"]
    annos, width, height = record.get("annos", ()), record["width"], record["height"]
    small = " small" if max(width, height) <= SMALL else ""
    head = f"<h2>{text(short(record['image']))} <small>{width} x {height}, {many(len(annos), 'object')}</small></h2>"
    at = places([(short(a["label"], LABEL), a["bbox"]) for a in annos], width, height)
    boxes = "".join(_box(n, a, where, width, height) for n, (a, where) in enumerate(zip(annos, at, strict=True)))
    paths = "".join(f'<path class="{_colour(n)}" d="{text(d)}"/>' for n, d in enumerate(shown["outlines"]) if d)
    over = f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">{paths}</svg>' if paths else ""
    picture = (
        f'<div class="pic{small}" style="aspect-ratio:{width}/{height};width:min(100%,calc(var(--height)*{width}/{height}))">'
        f'<img loading="lazy" src="{quote(shown["file"])}" alt="{text(short(record["caption"]))}">{over}{boxes}</div>'
    )
    alt = f"<p>{text(short(record['caption']))}</p>" if record["caption"] else ""
    lines = "".join(_line(n, anno) for n, anno in enumerate(annos))
    captions = f'<div class="captions">{alt}<ol>{lines}</ol></div>'
    return f"<section{'' if annos else ' class=empty'}>{head}{picture}{captions}</section>\n"


def _colour(number: int) -> str:
    return f"c{number % len(PALETTE)}"


def _box(number: int, anno: Mapping, label_at: str, width: int, height: int) -> str:
    classes = f"box {_colour(number)}" + " again" * (number >= len(PALETTE)) + label_at
    facts = f"{short(anno['label'])}: {short(anno.get('caption', ''))}"
    place = place_of(anno["bbox"], width, height)
    return f'<div class="{classes}" style="{place}" title="{text(facts)}"><b>{text(short(anno["label"], LABEL))}</b></div>'


def _line(number: int, anno: Mapping) -> str:
    """An object below its picture."""
    facts = f"{anno['score']:.2f}" + (f", mask {anno['iou']:.2f}" if "iou" in anno else "")
    caption = f": {text(short(anno['caption']))}" if anno.get("caption") else ""
    return f'<li class="{_colour(number)}"><i></i><b>{text(short(anno["label"]))}</b> <small>{facts}</small>{caption}</li>'


def short(words: str, most: int = TEXT) -> str:
    """Text on one line, cut to `most` characters with an ellipsis.

    >>> short("a  long\\nstory", 8)
    'a long s\u2026'
    """
    line = " ".join(words[: 4 * most].split())
    return line if len(line) <= most else line[:most] + "\u2026"
