"""Folders of toy pictures: whole or not at all, and of the keys that they were asked for by."""

import pytest

from synth.embedded.pictures import folders
from synth.errors import InputError
from synth.images.sources.image_folder import ImageFolderReader


def test_a_folder_is_whole_or_not_there_and_of_its_own_keys(tmp_path, monkeypatch):
    def broken(place, *_):
        (place / "cat").mkdir(parents=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(folders, "write", broken)
        with pytest.raises(KeyboardInterrupt):
            folders.write_whole(tmp_path / "real", 3, 1, False)
    assert not list(tmp_path.iterdir())
    folders.write_whole(tmp_path / "real", 3, 1, False)
    first = {p: p.read_bytes() for p in tmp_path.rglob("*.png")}
    folders.write_whole(tmp_path / "real", 3, 1, False)
    assert len(first) == 3 and {p: p.read_bytes() for p in tmp_path.rglob("*.png")} == first
    with pytest.raises(InputError, match="remove it, or name another folder"):
        folders.write_whole(tmp_path / "real", 3, 2, False)
    reader = ImageFolderReader(tmp_path / "real", False)
    assert len(list(reader)) == 3 and not reader.unread and not reader.notes
