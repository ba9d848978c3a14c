"""The pictures of a report as HTML. Pure; every text escaped and cut."""

from collections.abc import Sequence

from launch.reporting.pictures import Decided, Gallery, Shown, Sweep
from launch.reporting.stages import StageFacts
from synth.export.page_parts import img, text

CAPTION = 200  # characters
CSS = """
.classes { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(31rem, 100%), 1fr)); gap: .4rem 1rem; margin-top: .5rem; }
.classes .row, .examples { display: flex; flex-wrap: wrap; gap: .5rem; margin: .3rem 0 .8rem; }
.pic { margin: 0; width: 7rem; } .pic figcaption { font-size: .75rem; opacity: .8; overflow-wrap: anywhere; }
.pic figcaption small { display: block; }
.pic img, .sweep img, .none { width: 7rem; height: 7rem; object-fit: contain; display: block; background: #8882; }
.pic img[src^="data:image/png"], .sweep img[src^="data:image/png"] { image-rendering: pixelated; }
.none { overflow: auto; font-size: .75rem; }
.sweep { border-collapse: separate; border-spacing: .4rem; }
.sweep td, .sweep th { vertical-align: top; white-space: normal; text-align: left; }
.sweep th { max-width: 9rem; overflow-wrap: anywhere; } .sweep td:first-child { min-width: 9rem; max-width: 16rem; }
"""


def galleries(shown: Sequence[Gallery]) -> str:
    """The first one is open."""
    return "".join(_gallery(g, opened=not at) for at, g in enumerate(shown))


def _gallery(gallery: Gallery, opened: bool) -> str:
    rest = gallery.of - len(gallery.classes)
    more = f"<p><small>and {rest:,} more classes</small></p>\n" if rest > 0 else ""
    classes = "".join(
        f'<div><b>{text(name) or "(no class)"}</b><div class="row">{"".join(map(_figure, group))}</div></div>\n'
        for name, group in gallery.classes.items()
    )
    summary = f"<summary>{text(gallery.stage)}</summary>"
    return f'<details{" open" if opened else ""}>{summary}<div class="classes">{classes}</div>{more}</details>\n'


def sweep(one: Sweep) -> str:
    """A row a caption, a column a point."""
    if not one.rows:
        return f"<p>{text(one.name)}: no caption is there in two points yet.</p>\n"
    head = "".join(f"<th>{text(label or stage)}</th>" for label, stage in zip(one.labels, one.stages, strict=True))
    rows = ""
    for row in one.rows:
        seed = f"seed {row.seed}" if row.seed is not None else "seeds differ"
        cells = "".join(f"<td>{_picture(cell)}</td>" for cell in row.cells)
        rows += f"<tr><td><b>{text(row.class_name)}</b> {text(row.caption, CAPTION)} <small>{text(seed)}</small></td>{cells}</tr>\n"
    more = f"<p><small>{len(one.stages)} of {one.of:,} points are shown</small></p>\n" if one.of > len(one.stages) else ""
    return (
        f'<h3>{text(one.name)}: the same caption in a row</h3>\n<div class="wide"><table class="sweep">'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>\n{rows}</tbody></table></div>\n{more}"
    )


def filters_of(decided: Decided, stage: StageFacts, taken_out: int) -> str:
    """What a filter kept and took out, with pictures."""
    told = f"{stage.folder}: kept {stage.samples:,}, took out {taken_out:,}"
    parts = [f"<h3>{text(told)}</h3>\n"]
    if decided.kept:
        parts.append(f'<p>kept, for example</p>\n<div class="examples">{"".join(map(_figure, decided.kept))}</div>\n')
    for reason, pictures in decided.taken_out.items():
        figures = "".join(map(_figure, pictures)) or "<small>no picture</small>"
        parts.append(f'<p>{text(f"{reason} ({stage.empty.reasons.get(reason, 0):,})")}</p>\n<div class="examples">{figures}</div>\n')
    return "".join(parts)


def _figure(shown: Shown) -> str:
    below = f"{text(shown.caption, CAPTION)}<small>{text(shown.key)}</small>"
    return f"<figure class=pic>{_picture(shown)}<figcaption>{below}</figcaption></figure>"


def _picture(shown: Shown | None) -> str:
    if shown is None:
        return '<div class="none">not there</div>'
    return img(shown.data, shown.caption or shown.key) if shown.data else f'<div class="none">{text(shown.why)}</div>'
