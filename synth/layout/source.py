"""Where a chain of layout stages has its pictures: slot k of each of its stages is picture k of the source.

The source is a folder, whose listing lies in the folder of the chain's first stage, or a stage of pictures. Each stage of the chain names
it as an input of its own, so that any worker, and any export, can read pictures.
"""

import hashlib

from synth.errors import InputError, PictureGone, StoreError
from synth.images.sources.listing import NAME, Listing
from synth.images.sources.read import ANOTHER, GONE, ListedSource, Picture, StageSource, read_bytes
from synth.store.folder import StageFolder

KEY = "layout.source"
WINDOW, WINDOWS = 64, 64  # pictures that are looked up together, and how many times as many are kept: exports may draw them in any order
SOURCE = "source"  # input of each stage of the chain whose pictures lie in a folder
IMAGES = "images"  # else the role in which each of them reads a stage of pictures
PUT_BACK = "put it back as it was when it was labelled, and run the command again"
ROLE = "layout"  # in which a stage of the chain reads the one before it


class PictureSource:
    """The pictures of a chain, as any of its stages names them."""

    def __init__(self, folder: StageFolder):
        self._slots, self._windows = folder.spec.slots, dict[int, list[Picture]]()
        self._source: ListedSource | StageSource
        if stages := folder.upstream(IMAGES):
            self._source = StageSource(stages[0], None)
        else:
            listing = Listing(first_of(folder).path / NAME, folder.input(SOURCE).identity)
            self._source = ListedSource(folder.input_path(SOURCE), listing, (), {0: ""}, KEY)

    def rows(self, start: int, stop: int) -> list[Picture]:
        """Pictures [start, stop), ready to be read."""
        return self._source.rows(start, stop)

    def at(self, slot: int) -> Picture:
        """One picture, ready to be read. Those beside it are kept: to find one in a listing or a unit costs as much as to find many."""
        start = slot - slot % WINDOW
        if (window := self._windows.get(start)) is None:
            try:
                window = self.rows(start, min(self._slots, start + WINDOW))
            except (InputError, StoreError):  # of any of them
                return self.rows(slot, slot + 1)[0]
            if len(self._windows) >= WINDOWS:
                self._windows.clear()
            self._windows[start] = window
        return window[slot - start]

    def check(self) -> None:
        """StoreError if the source is not there at all, InputError if it is a stage that is not whole."""
        self._source.check()

    def gone(self) -> str:
        """Why no picture can be read now; "" if they can."""
        try:
            self.check()
        except (InputError, StoreError) as e:
            return str(e)
        return ""

    def read(self, picture: Picture) -> tuple[bytes, str]:
        """(bytes of a picture's file, "") or (nothing, the reason why it cannot be used). Threads may share one source.

        A file that was there when the stage was planned and is not now says something of the disk: PictureGone.
        """
        if picture.reason:
            return b"", f"{picture.key}: {picture.reason}"
        data = read_bytes(picture, self._source.root, KEY)
        if isinstance(data, bytes):
            return (b"", f"{picture.key}: {ANOTHER}") if _another(picture, data) else (data, "")
        if data in GONE.values():
            why = "was there when the stage was planned; put it back, or run the command again to plan without it"
            raise PictureGone(f"{KEY}: {picture.path}: {data}: it {why}")
        return b"", f"{picture.key}: {data}"


def _another(picture: Picture, data: bytes) -> bool:
    """Whether the listing knows the digest of other bytes. The mark of a picture of a stage is of its whole sample, and was compared."""
    return bool(picture.mark and picture.stored is None and picture.mark != hashlib.sha256(data).hexdigest())


def first_of(folder: StageFolder) -> StageFolder:
    """The first stage of the chain that a stage belongs to."""
    while stages := folder.upstream(ROLE):
        folder = stages[0]
    return folder
