"""Members of tars that others wrote: by their headers, whatever these claim."""

import io
import tarfile

import pytest

from synth.images.sources import reader
from synth.store.tars import BLOCK, Member, NoTar, TornTar, members
from tests.images.pictures import picture, write_tar


def listed(path):
    """(members, why it is torn)"""
    found = []
    with open(path, "rb") as raw:
        try:
            found.extend(members(raw))
        except (TornTar, NoTar) as e:
            return found, e
    return found, None


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def test_members_are_listed_with_their_places_and_kinds(tmp_path):
    with tarfile.open(tmp_path / "t", "w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind in (("a", tarfile.REGTYPE), ("d", tarfile.DIRTYPE), ("l", tarfile.SYMTYPE), ("é" * 90, tarfile.REGTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a" if kind == tarfile.SYMTYPE else ""
            info.size = 700 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    found, torn = listed(tmp_path / "t")
    assert [(m.name, m.size, m.regular) for m in found] == [("a", 700, True), ("d", 0, False), ("l", 0, False), ("é" * 90, 700, True)]
    assert found[0] == Member("a", BLOCK, 700, True) and found[0].stop == 3 * BLOCK and torn is None
    assert (tmp_path / "t").read_bytes()[found[3].offset :][:700] == b"x" * 700


@pytest.mark.parametrize("size", [1 << 40, (1 << 62) - 1, (1 << 63) + 5, 1 << 80])
def test_a_size_that_no_file_has_is_where_the_tar_ends(tmp_path, size):
    (tmp_path / "0.tar").write_bytes(header("a.png", 3) + b"abc".ljust(BLOCK, b"\0") + header("b.png", size) + b"x" * 99)
    found, torn = listed(tmp_path / "0.tar")
    assert [m.name for m in found] == ["a.png", "b.png"] and isinstance(torn, TornTar) and str(torn) == "ReadError"
    (tmp_path / "long").write_bytes(header("a.png", 0) + header("././@LongLink", size, b"L") + b"x" * 99)
    assert isinstance(listed(tmp_path / "long")[1], TornTar)
    items = list(reader("webdataset", tmp_path, False))
    assert [(i.key, i.reason) for i in items] == [
        ("0.tar/a", ""), ("0.tar/b", "torn: the tar ends inside it"), ("0.tar", "torn after 2 samples (ReadError)")
    ]  # fmt: skip


def test_a_size_below_zero_and_names_without_end_are_where_the_tar_ends(tmp_path):
    (tmp_path / "a").write_bytes(header("x", 0) + header("y", -600) + bytes(2 * BLOCK))
    found, torn = listed(tmp_path / "a")
    assert [m.name for m in found] == ["x"] and isinstance(torn, TornTar)
    (tmp_path / "b").write_bytes(header("x", 0) + (header("././@LongLink", 2, b"L") + b"n".ljust(BLOCK, b"\0")) * 2000)
    found, torn = listed(tmp_path / "b")
    assert [m.name for m in found] == ["x"] and str(torn) == "RecursionError"


def test_what_is_no_plain_tar_is_told_apart_from_a_torn_one(tmp_path):
    write_tar(tmp_path / "whole.tar", [("a", b"x" * 600), ("b", b"y")])
    data = (tmp_path / "whole.tar").read_bytes()
    assert listed(tmp_path / "whole.tar")[1] is None
    for name, content, kind in (
        ("text", b"hello " * 400, NoTar),
        ("empty", b"", NoTar),
        ("gzip", __import__("gzip").compress(data), NoTar),
        ("cut", data[:800], TornTar),
        ("no end", data.rstrip(b"\0").ljust(5 * BLOCK, b"\0")[: 5 * BLOCK], TornTar),
    ):
        (tmp_path / name).write_bytes(content)
        assert isinstance(listed(tmp_path / name)[1], kind), name


def test_json_without_end_in_a_sample_is_its_reason(tmp_path):
    write_tar(tmp_path / "0.tar", [("k.png", picture()), ("k.json", b"[" * 100_000)])
    assert [i.reason for i in reader("webdataset", tmp_path, True)] == ["its json is torn"]
