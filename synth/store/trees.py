"""Folders that others filled: one walk for all who read them, and which of their files are pictures. No torch, no numpy.

Names come in an order that they alone decide; hidden ones are left out and links are followed. What cannot be listed is an error that
names it: a folder that is silently missing would be a smaller dataset.
"""

import importlib
import io
import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM
from functools import cache
from typing import TYPE_CHECKING

from synth.errors import REFUSALS, InputError, StoreError

if TYPE_CHECKING:
    from PIL import Image

# Pillow's name of a format -> suffixes, whose case does not matter. For none of these formats does Pillow start another program
_FORMATS = {
    "PNG": "png",
    "JPEG": "jpg jpeg jpe jfif",
    "WEBP": "webp",
    "BMP": "bmp",
    "GIF": "gif",
    "TIFF": "tif tiff",
    "PPM": "ppm pgm",
    "JPEG2000": "jp2",
}
# not every Pillow reads these: such a file is taken where this one does, and told where it does not
_MODERN = {"AVIF": "avif avifs", "HEIF": "heic heics heif heifs hif", "JXL": "jxl"}
PICTURES = {suffix: form for form, suffixes in _FORMATS.items() for suffix in suffixes.split()}
MODERN = {suffix: form for form, suffixes in _MODERN.items() for suffix in suffixes.split()}
# format -> the module that teaches Pillow to read it, where it is installed; what to install
DECODERS = {
    "AVIF": ("pillow_avif", "Pillow 11.3 or newer"),
    "HEIF": ("pillow_heif", "pillow-heif"),
    "JXL": ("pillow_jxl", "pillow-jxl-plugin"),
}
MOST_LINKS = 1000  # times that links may lead to one folder: links to folders of links multiply, and few of them make a walk without end


# -- pictures --------------------------------------------------------------------------------------------------------


def suffix_of(name: str) -> str:
    """ "A.JPG" -> "jpg"; "" of a name without one."""
    return name.rpartition(".")[2].lower() if "." in name else ""


def is_picture(name: str) -> bool:
    """By its suffix alone, whether or not it can be decoded here."""
    return (suffix := suffix_of(name)) in PICTURES or suffix in MODERN


@cache
def can_decode(suffix: str) -> bool:
    """Whether pictures of this suffix can be decoded. Pillow is asked, and imported, for those of MODERN alone."""
    if suffix not in MODERN:
        return suffix in PICTURES
    from PIL import Image

    form = MODERN[suffix]

    def registered() -> bool:
        return Image.registered_extensions().get(f".{suffix}") == form and form in Image.OPEN

    if not registered():
        with suppress(ImportError):
            plugin = importlib.import_module(DECODERS[form][0])
            getattr(plugin, "register_heif_opener", lambda: None)()  # the others register when they are imported
    return registered()


class NoDecoder(InputError):
    """A picture is of a format that this Pillow does not read: a fact about what is installed here, and none about the picture."""

    def __init__(self, form: str, install: str):
        super().__init__(f"a picture of the format {form}, which nothing here reads: install {install}, or convert it and plan again")


_NOT_BUILT = re.compile(r"(?:en|de)coder (\w+) not available")  # as Pillow says it
_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"mif1": "HEIF",
    b"msf1": "HEIF",
    b"heic": "HEIF",
    b"heix": "HEIF",
    b"hevc": "HEIF",
    b"heim": "HEIF",
}


def without_decoder(data: bytes, error: BaseException) -> NoDecoder | None:
    """Of what Pillow raised for a picture's bytes: NoDecoder if another Pillow may read them."""
    if built := _NOT_BUILT.search(str(error)):
        return NoDecoder(built[1], "a Pillow that has it (pip install --force-reinstall pillow)")
    form = _BRANDS.get(data[8:12], "") if data[4:8] == b"ftyp" else ""
    if data[:2] == b"\xff\x0a" or data[4:12] == b"JXL \r\n\x87\n":
        form = "JXL"
    return NoDecoder(form, DECODERS[form][1]) if form and not can_decode(_MODERN[form].split()[0]) else None


@contextmanager
def naming(what: object) -> Iterator[None]:
    """Say whose picture it is in a NoDecoder."""
    try:
        yield
    except NoDecoder as e:
        raise InputError(f"{what}: is {e}") from e


def open_picture(data: bytes) -> "Image.Image":
    """Pillow's image of a picture's file bytes, by what they are and not by a name; nothing is decoded yet. Raises what Pillow raises."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(data), formats=list(_FORMATS))
    except UnidentifiedImageError:
        more = [form for form, suffixes in _MODERN.items() if can_decode(suffixes.split()[0])]
        if not more:
            raise
        return Image.open(io.BytesIO(data), formats=more)


class Undecodable(InputError):
    """A picture's bytes are none, or not all of one. `why`, in a few words."""

    def __init__(self, why: str):
        super().__init__(f"a picture does not decode ({why}); verify --deep on its stage names it")
        self.why = why


# what Pillow's readers raise where a picture is damaged or hostile, beside its own errors
_UNDECODED = (OSError, SyntaxError, ValueError, EOFError, TypeError, AttributeError, LookupError, OverflowError, struct.error, zlib.error)


def decoded(data: bytes, mode: str = "") -> "Image.Image":
    """The whole picture in a mode such as RGB ("": its own), decoded as `open_picture` has it. Undecodable if it cannot be."""
    from PIL import Image

    try:
        with open_picture(data) as image:
            image.load()
            return image.convert(mode) if mode else image
    except (*_UNDECODED, Image.DecompressionBombError) as e:
        if absent := without_decoder(data, e):
            raise absent from e
        raise Undecodable(str(e) or type(e).__name__) from e


class Undecoded(Counter):
    """suffix -> pictures that were passed over because nothing here decodes them."""

    def note(self) -> str:
        """What to say of them; "" if there are none.

        >>> Undecoded(heic=3).note()
        '3 .heic files are not read: this Pillow has no decoder (install pillow-heif, or convert to PNG)'
        """
        return "; ".join(
            f"{n:,} .{suffix} {'file is' if n == 1 else 'files are'} not read: this Pillow has no decoder "
            f"(install {DECODERS[MODERN[suffix]][1]}, or convert to PNG)"
            for suffix, n in sorted(self.items())
        )


def plain(name: str) -> str:
    r"""A name that any encoding takes: bytes that are no UTF-8 are written \xff."""
    return os.fsencode(name).decode("utf-8", "backslashreplace") if not name.isascii() else name


# -- folders ---------------------------------------------------------------------------------------------------------


def entries(folder: str | os.PathLike[str], key: str = "", hidden: bool = False, missing: bool = False) -> list[os.DirEntry]:
    """What a folder holds, by name. key: of the config, for the error of a folder that cannot be listed.

    hidden: names that begin with a dot too. missing: a folder that is not there holds nothing.
    """
    try:
        with os.scandir(os.fspath(folder)) as there:
            return sorted((e for e in there if hidden or not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as e:
        if missing and e.errno in (ENOENT, ENOTDIR, ENAMETOOLONG):
            return []
        raise _unlisted(folder, e, key) from e


def is_folder(entry: os.DirEntry, key: str = "") -> bool:
    """Whether it is one, or a link to one. A link that leads where nobody may look is an error, unless it is called like a picture."""
    try:
        return entry.is_dir()
    except OSError as e:
        if e.errno in REFUSALS and not (e.errno in (EACCES, EPERM) and is_picture(entry.name)):
            raise _unlisted(entry.path, e, key) from e
        return False  # a link to itself, or one of a picture's name that leads where nobody may look: who reads it says so


def walk(root: str | os.PathLike, below: str = "", key: str = "", once: bool = False) -> Iterator[tuple[str, os.DirEntry]]:
    """(path below `root`, entry) of all that is no folder in the folder `below` and in those in it, by name, depth first.

    A link back to a folder above is not followed. once: a folder to which several names lead is entered by the first of them alone.
    Bytes of a name that are no UTF-8 come as lone surrogates.
    """
    root, parts = os.fspath(root), below.split("/") if below else []
    above = tuple(_mark(os.path.join(root, *parts[:n]), key) for n in range(len(parts)))
    met: set[tuple[int, int]] = set()
    by_links: Counter[tuple[int, int]] = Counter()
    todo: list[tuple[str, os.DirEntry | None, tuple, bool]] = [(below, None, above, False)]
    while todo:  # a stack and no recursion: trees may be deeper than that goes
        path, entry, above, linked = todo.pop()
        if entry is not None and not is_folder(entry, key):
            yield path, entry
            continue
        folder = os.path.join(root, path) if path else root
        mark = _mark(folder, key)
        if mark in (met if once else above):
            continue
        met.add(mark)
        linked = linked or (entry is not None and entry.is_symlink())
        by_links[mark] += linked
        if by_links[mark] > MOST_LINKS:
            raise InputError(
                f"{_named(root, key)}: links lead to {folder} and {MOST_LINKS:,} times before; remove the links between its folders"
            )
        inside = entries(folder, key)
        todo += [(f"{path}/{e.name}" if path else e.name, e, (*above, mark), linked) for e in reversed(inside)]


def pictures(
    root: str | os.PathLike, undecoded: Undecoded, below: str = "", key: str = "", once: bool = False
) -> Iterator[tuple[str, os.DirEntry]]:
    """The pictures of `walk` that can be decoded here; the others are counted. What is called like a picture may be no file at all."""
    for path, entry in walk(root, below, key, once):
        if decoded_here(entry.name, undecoded):
            yield path, entry


def decoded_here(name: str, undecoded: Undecoded) -> bool:
    """Whether a name is that of a picture that can be decoded; one that cannot be is counted."""
    if can_decode(suffix := suffix_of(name)):
        return True
    if suffix in MODERN:
        undecoded[suffix] += 1
    return False


def _mark(folder: str, key: str) -> tuple[int, int]:
    try:
        seen = os.stat(folder)
    except OSError as e:
        raise _unlisted(folder, e, key) from e
    return seen.st_dev, seen.st_ino


def _named(path: str | os.PathLike, key: str) -> str:
    return f"{key}: {os.fspath(path)}" if key else os.fspath(path)


def _unlisted(folder: str | os.PathLike, error: OSError, key: str) -> InputError | StoreError:
    where = _named(folder, key)
    if error.errno in REFUSALS and error.errno not in (EACCES, EPERM):
        return StoreError(f"{where} cannot be listed ({error.strerror}); mend that, then run the same command again")
    return InputError(f"{where} cannot be listed ({error.strerror}); check the path and its permissions")
