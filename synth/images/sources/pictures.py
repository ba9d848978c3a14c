"""Pictures of a source by number, in any order and from any thread, for stages that have a slot for each of them."""

import hashlib

from synth.errors import InputError, PictureGone, StoreError
from synth.images.sources.base import GONE
from synth.images.sources.read import ANOTHER, ListedSource, Picture, StageSource, read_bytes

WINDOW, WINDOWS = 64, 64  # pictures that are looked up together, and how many times as many are kept: exports may draw them in any order


class Pictures:
    """The pictures of a source, each of them there when the stage that lists them was planned."""

    def __init__(self, source: ListedSource | StageSource, n: int, key: str):
        """n: pictures; key: of the config that names the source, for errors."""
        self._source, self._n, self._key = source, n, key
        self._windows: dict[int, list[Picture]] = {}

    def rows(self, start: int, stop: int) -> list[Picture]:
        """Pictures [start, stop), ready to be read."""
        return self._source.rows(start, stop)

    def at(self, slot: int) -> Picture:
        """One picture, ready to be read. Those beside it are kept: to find one in a listing or a unit costs as much as to find many."""
        start = slot - slot % WINDOW
        if (window := self._windows.get(start)) is None:
            try:
                window = self.rows(start, min(self._n, start + WINDOW))
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
        data = read_bytes(picture, self._source.root, self._key)
        if isinstance(data, bytes):
            another = picture.is_another(hashlib.sha256(data).hexdigest()) if picture.mark else False
            return (b"", f"{picture.key}: {ANOTHER}") if another else (data, "")
        if data in GONE.values():
            why = "was there when the stage was planned; put it back, or run the command again to plan without it"
            raise PictureGone(f"{self._key}: {picture.path}: {data}: it {why}")
        return b"", f"{picture.key}: {data}"
