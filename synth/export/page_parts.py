"""What pages of several families are laid out with: text, tables, and pictures inside of the page. Pure; every text escaped and cut."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from synth.export.html import escaped

if TYPE_CHECKING:
    from PIL.Image import Image

TEXT = 600  # characters of a text
MIME = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}  # how a file begins
CSS = """
:root { color-scheme: light dark; --side: 6rem; }
body { font: 1rem/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 80rem; padding: 1rem 1rem 4rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .3rem 0; overflow-wrap: anywhere; } .said { font-size: 1.15rem; font-weight: 600; } small, .how { opacity: .7; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem .2rem 0; text-align: right; white-space: nowrap; } th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 1px solid #8888; font-weight: 600; } tr.best td { font-weight: 600; }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 11rem; max-width: 30rem; }
"""


def text(words: str, longest: int = TEXT) -> str:
    """Words on one line, escaped, no longer than a page bears."""
    line = " ".join(words.split())
    return escaped(line if len(line) <= longest else f"{line[:longest]}\u2026")


def table(rows: Sequence[Mapping[str, str]], best: bool = False) -> str:
    """Rows of cells by the names of their columns, which are those of the first row; "" of none. best: the first row is marked."""
    if not rows:
        return ""
    head = "".join(f"<th>{text(name)}</th>" for name in rows[0])
    body = ""
    for at, row in enumerate(rows):
        marked = ' class="best"' if best and not at else ""
        body += f"<tr{marked}>{''.join(f'<td>{text(cell)}</td>' for cell in row.values())}</tr>\n"
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>\n'


def img(data: bytes, alt: str) -> str:
    """A PNG or JPEG as part of the page."""
    mime = next(mime for begin, mime in MIME.items() if data.startswith(begin))
    return f'<img alt="{text(alt)}" src="data:{mime};base64,{base64.b64encode(data).decode()}">'


def thumbnail(image: "Image", side: int, quality: int) -> tuple[bytes, str]:
    """(file, extension): a small picture as it is, a larger one as a JPEG of `side` pixels at most."""
    out = io.BytesIO()
    if max(image.size) <= side:
        image.save(out, "PNG")
        return out.getvalue(), "png"
    image.thumbnail((side, side))
    image.save(out, "JPEG", quality=quality)
    return out.getvalue(), "jpg"
