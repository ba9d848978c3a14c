"""A story as one HTML page to scroll through. Pure; nothing from outside, no script, every text escaped."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

CSS = """
:root { color-scheme: light dark; --side: min(15rem, 42vw); }
body { font: 1rem/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 90rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; border-top: 1px solid #8886; padding-top: 1rem; }
section { content-visibility: auto; contain-intrinsic-size: auto 20rem; margin: 1.2rem 0; }
p { margin: 0 0 .4rem; overflow-wrap: anywhere; } small { opacity: .65; }
.row { display: flex; flex-wrap: wrap; gap: .6rem; }
figure { margin: 0; width: var(--side); } figcaption { font-size: .8rem; opacity: .75; overflow-wrap: anywhere; }
img { width: 100%; image-rendering: pixelated; display: block; background: #8882; } .large img { image-rendering: auto; }
"""
# nothing is loaded but pictures that lie beside the page, even if some text of a story should find a hole in the escaping
POLICY = "default-src 'none'; img-src 'self' file: data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Cell:
    """A picture: its place relative to the page, and what stands below it."""

    src: str
    caption: str
    title: str = ""  # shown where the pointer rests


@dataclass(frozen=True)
class Row:
    """The pictures of a prompt; prompt 0: of a chapter as a whole."""

    chapter: int
    title: str
    prompt: int
    text: str
    cells: tuple[Cell, ...]


def page(title: str, rows: Sequence[Row], refresh: int = 0, large: bool = False) -> str:
    """The page. refresh: seconds after which a browser reads it again, 0 = never. large: photographs, not 32 pixels wide."""
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    parts: list[str] = []
    chapter = None
    for row in rows:
        if row.chapter != chapter:
            chapter = row.chapter
            parts.append(f'<h2 id="chapter-{chapter}">{escaped(row.title or f"Chapter {chapter}")}</h2>\n')
        figures = "".join(_figure(cell) for cell in row.cells)
        line = f"<p><small>{row.prompt}</small> {escaped(row.text)}</p>" if row.prompt else f"<p><small>{escaped(row.text)}</small></p>"
        name = f' id="p{chapter}-{row.prompt}"' if row.prompt else ""
        parts.append(f'<section{name}>{line}<div class="row">{figures}</div></section>\n')
    return document(title, CSS, "".join(parts), again, " class=large" if large else "")


def document(title: str, css: str, body: str, head: str = "", attributes: str = "", policy: str = POLICY) -> str:
    """A whole page, its title on top. head: more of that; attributes: of <body>; policy: what it may load."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">{head}'
        f'<meta name="viewport" content="width=device-width"><title>{escaped(title)}</title><style>{css}</style></head>\n'
        f"<body{attributes}><h1>{escaped(title)}</h1>\n{body}</body></html>\n"
    )


def _figure(cell: Cell) -> str:
    title = f' title="{escaped(cell.title)}"' if cell.title else ""
    src, caption = quote(cell.src, errors="surrogatepass"), escaped(cell.caption)
    return f'<figure><img loading="lazy" src="{src}" alt="{caption}"{title}><figcaption>{caption}</figcaption></figure>'


def escaped(text: str) -> str:
    """Escaped, and without control characters and lone surrogates, which no HTML may have."""
    return escape("".join(c if c.isprintable() or c == " " else "\ufffd" for c in text))
