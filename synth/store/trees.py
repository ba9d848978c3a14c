"""Folders that others filled: one walk for all who read them, and which of their files are pictures. No torch, no numpy.

Names come in an order that they alone decide; hidden ones and what systems leave are left out and links are followed. What cannot be
listed is an error that names it: a folder that is silently missing would be a smaller dataset. What is not read is counted (`Unread`).
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

from synth import foreign
from synth.errors import REFUSALS, InputError, StoreError, not_trouble

if TYPE_CHECKING:
    from PIL import Image

# Pillow's name of a format -> suffixes, whose case does not matter. For none of these formats does Pillow start another program
_FORMATS = {
    "PNG": "png apng",
    "JPEG": "jpg jpeg jpe jfif mpo",  # the first picture of a camera's MPO is a JPEG
    "WEBP": "webp",
    "BMP": "bmp",
    "GIF": "gif",
    "TIFF": "tif tiff",
    "PPM": "ppm pgm pbm pnm pfm",
    "JPEG2000": "jp2 j2k j2c jpc jpf jpx",
}
# not every Pillow reads these: such a file is taken where this one does, and told where it does not
_MODERN = {"AVIF": "avif avifs", "HEIF": "heic heics heif heifs hif", "JXL": "jxl"}
# any two pictures of these formats have one size in bytes where they have one in pixels, so that a size tells nothing of the content
_OF_ONE_SIZE = frozenset(("BMP", "TIFF", "PPM"))
PICTURES = {suffix: form for form, suffixes in _FORMATS.items() for suffix in suffixes.split()}
MODERN = {suffix: form for form, suffixes in _MODERN.items() for suffix in suffixes.split()}
# format -> the module that teaches Pillow to read it, where it is installed; what to install
DECODERS = {
    "AVIF": ("pillow_avif", "Pillow 11.3 or newer"),
    "HEIF": ("pillow_heif", "pillow-heif"),
    "JXL": ("pillow_jxl", "pillow-jxl-plugin"),
}
# what pictures begin with, for files whose name has no suffix
_MAGIC = re.compile(
    rb"""(?P<PNG>\x89PNG\r\n\x1a\n)|(?P<JPEG>\xff\xd8\xff)|(?P<GIF>GIF8[79]a)|(?P<WEBP>RIFF....WEBP)
    |(?P<BMP>BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0)|(?P<TIFF>II[*+]\0|MM\0[*+])|(?P<PPM>P[1-6Ff][ \t\r\n]+[\#0-9])
    |(?P<JPEG2000>\0\0\0\x0cjP\ \ \r\n\x87\n|\xff\x4f\xff\x51)|(?P<AVIF>....ftypavi[fs])|(?P<HEIF>....ftyp(?:hei|hev|mif1|msf1))
    |(?P<JXL>\xff\x0a|\0\0\0\x0cJXL\ )""",
    re.DOTALL | re.VERBOSE,
)
HEAD = 32  # bytes that tell
MARKER = ".synthset.json"  # of an export of ours: nothing is missing without it
# what file managers, archives and file systems put beside the files of people; letter case does not matter
LITTER = frozenset(
    [
        *("__macosx", "@eadir", "#recycle", "@recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    ]
)
MOST_LINKS = 1000  # times that links may lead to one folder: links to folders of links multiply, and few of them make a walk without end


# -- pictures --------------------------------------------------------------------------------------------------------


def suffix_of(name: str) -> str:
    """ "A.JPG" -> "jpg"; "" of a name without one."""
    return name.rpartition(".")[2].lower() if "." in name else ""


def is_picture(name: str) -> bool:
    """By its suffix alone, whether or not it can be decoded here."""
    return (suffix := suffix_of(name)) in PICTURES or suffix in MODERN


def of_one_size(suffix: str) -> bool:
    """Whether files of a suffix have the size of their pixels, uncompressed."""
    return PICTURES.get(suffix) in _OF_ONE_SIZE


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


class Unread:
    """What lies below a folder of pictures and is not read: counted by what it is, and named, so that nothing goes missing in silence."""

    def __init__(self) -> None:
        self.undecoded: Counter[str] = Counter()  # suffix of pictures that nothing here decodes
        self.others: Counter[str] = Counter()  # suffix of files that are called like no picture; "" of none
        self.hidden: Counter[str] = Counter()  # names that begin with a dot, or that systems leave
        self.said: Counter[str] = Counter()  # whatever else, in words
        self.first = ""  # of the others

    def other(self, path: str) -> None:
        """A file that is called like no picture."""
        self.first = self.first or plain(path)
        self.others[suffix_of(path.rpartition("/")[2])] += 1

    def __bool__(self) -> bool:
        return any((self.undecoded, self.others, self.hidden, self.said))

    def note(self) -> str:
        """What to say of them; "" if there are none.

        >>> unread = Unread()
        >>> unread.undecoded["heic"] += 3
        >>> unread.note()
        '3 .heic files are not read: this Pillow has no decoder (install pillow-heif, or convert to PNG)'
        """
        parts = [
            f"{_files(n, f'.{suffix} ')} not read: this Pillow has no decoder (install {DECODERS[MODERN[suffix]][1]}, or convert to PNG)"
            for suffix, n in sorted(self.undecoded.items())
        ]
        if self.others:
            kinds = Counter({f".{suffix}" if suffix else "without a suffix": n for suffix, n in self.others.items()})
            parts.append(f"{_files(self.others.total())} not called like a picture ({_counts(kinds)}; the first: {self.first!r})")
        parts += [f"{what}: {n:,}" for what, n in sorted(self.said.items())]
        if self.hidden:
            parts.append(f"{self.hidden.total():,} hidden names and leavings of systems are left out ({_counts(self.hidden)})")
        return "; ".join(parts)


def _files(n: int, kind: str = "") -> str:
    return f"{n:,} {kind}{'file is' if n == 1 else 'files are'}"


def _counts(counter: Counter[str], most: int = 6) -> str:
    """The commonest, with their numbers: ".txt 3, .md 1"."""
    ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    more = f", {len(ranked) - most} more kinds" if len(ranked) > most else ""
    return ", ".join(f"{plain(name)} {n:,}" for name, n in ranked[:most]) + more


def plain(name: str) -> str:
    r"""A name that any encoding takes: bytes that are no UTF-8 are written \xff."""
    return os.fsencode(name).decode("utf-8", "backslashreplace") if not name.isascii() else name


# -- folders ---------------------------------------------------------------------------------------------------------


def is_hidden(name: str) -> bool:
    """Whether a name begins with a dot, or is one that file managers, archives and file systems leave."""
    return name.startswith(".") or name.casefold() in LITTER


def entries(
    folder: str | os.PathLike[str], key: str = "", hidden: bool = False, missing: bool = False, unread: Unread | None = None
) -> list[os.DirEntry]:
    """What a folder holds, by name. key: of the config, for the error of a folder that cannot be listed.

    hidden: hidden names too; otherwise `unread` counts them. missing: a folder that is not there holds nothing.
    """
    try:
        with os.scandir(os.fspath(folder)) as scanned:
            there = sorted(scanned, key=lambda e: e.name)
    except OSError as e:
        if missing and e.errno in (ENOENT, ENOTDIR, ENAMETOOLONG):
            return []
        raise _unlisted(folder, e, key) from e
    if hidden:
        return there
    if unread is not None:
        unread.hidden.update(e.name for e in there if is_hidden(e.name) and e.name != MARKER)
    return [e for e in there if not is_hidden(e.name)]


def holds_any(folder: str | os.PathLike[str], key: str = "") -> bool:
    """Whether a folder holds anything that `entries` lists; it is not listed to its end."""
    try:
        with os.scandir(os.fspath(folder)) as scanned:
            return any(not is_hidden(e.name) for e in scanned)
    except OSError as e:
        raise _unlisted(folder, e, key) from e


def is_folder(entry: os.DirEntry, key: str = "") -> bool:
    """Whether it is one, or a link to one. A link that leads where nobody may look is an error, unless it is called like a picture."""
    try:
        return entry.is_dir()
    except OSError as e:
        if e.errno in REFUSALS and not (e.errno in (EACCES, EPERM) and is_picture(entry.name)):
            raise _unlisted(entry.path, e, key) from e
        return False  # a link to itself, or one of a picture's name that leads where nobody may look: who reads it says so


def walk(
    root: str | os.PathLike, below: str = "", key: str = "", once: bool = False, unread: Unread | None = None
) -> Iterator[tuple[str, os.DirEntry]]:
    """(path below `root`, entry) of all that is no folder in the folder `below` and in those in it, by name, depth first.

    A link back to a folder above is not followed. once: a folder to which several names lead is entered by the first of them alone.
    Bytes of a name that are no UTF-8 come as lone surrogates. unread: counts hidden names.
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
        inside = entries(folder, key, unread=unread)
        todo += [(f"{path}/{e.name}" if path else e.name, e, (*above, mark), linked) for e in reversed(inside)]


def pictures(
    root: str | os.PathLike, unread: Unread, below: str = "", key: str = "", once: bool = False
) -> Iterator[tuple[str, os.DirEntry]]:
    """The pictures of `walk` that can be decoded here; the others are counted. What is called like a picture may be no file at all."""
    for path, entry in walk(root, below, key, once, unread):
        if decoded_here(path, entry, unread):
            yield path, entry


def decoded_here(path: str, entry: os.DirEntry, unread: Unread) -> bool:
    """Whether an entry is called like a picture that can be decoded, or is one and has no suffix; another one is counted."""
    suffix = suffix_of(entry.name) or form_suffix(entry)
    if can_decode(suffix):
        return True
    if suffix in MODERN:
        unread.undecoded[suffix] += 1
    else:
        unread.other(path)
    return False


def is_picture_file(entry: os.DirEntry) -> bool:
    """Whether it is called like a picture, or is one and has no suffix; decodable or not."""
    return is_picture(entry.name) or is_picture(f".{form_suffix(entry)}")


def form_suffix(entry: os.DirEntry) -> str:
    """The suffix that a file without one should have, by its first bytes; "" of other names, of what is no picture and no file."""
    if "." in entry.name:
        return ""
    try:
        with foreign.open_file(entry.path) as f:
            found = _MAGIC.match(f.read(HEAD))
    except InputError:  # a pipe
        return ""
    except OSError as e:
        not_trouble(entry.path, e)
        return ""
    form = found and found.lastgroup
    return (_FORMATS.get(form) or _MODERN[form]).split()[0] if form else ""


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
