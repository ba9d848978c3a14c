"""Lines in gzip members: any of them alone, and torn ones named."""

import gzip
import os

import pytest

from synth.errors import InputError
from synth.store.blocks import PIECE, member, members, pack
from synth.story.book import Book
from synth.tracking.listing import AnnotatedListing, ListingWriter

LINES = [b"one\n" * 3, b"", os.urandom(2 * PIECE + 7), b"last\n"]  # the third lies in several pieces


@pytest.fixture
def file(tmp_path):
    (tmp_path / "l.gz").write_bytes(b"".join(map(pack, LINES)))
    return tmp_path / "l.gz"


def test_members_are_listed_and_each_is_read_alone(file):
    found = list(members(file))
    assert [lines for _, _, lines in found] == LINES and gzip.decompress(file.read_bytes()) == b"".join(LINES)
    assert [member(file, offset, size) for offset, size, _ in found] == LINES
    assert sum(size for _, size, _ in found) == file.stat().st_size
    file.write_bytes(b"")
    assert list(members(file)) == []


def test_a_member_has_the_same_bytes_whenever_it_is_packed():
    assert pack(b"x" * 999) == pack(b"x" * 999) and pack(b"x", 1) != pack(b"x" * 2, 1)


@pytest.mark.parametrize(
    "spoil", [lambda d: d[:-9], lambda d: d[:20], lambda d: d[:-1], lambda d: d[:15] + b"\xff\xff\xff" + d[18:], lambda d: b"no" + d]
)
def test_a_torn_file_is_named_with_what_to_do(file, spoil):
    place = next((offset, size) for offset, size, lines in members(file))
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(InputError, match=r"l\.gz: cannot be read .*; remove the stage's folder and run the command again"):
        list(members(file))
    file.write_bytes(spoil(file.read_bytes()[: place[1]]))
    with pytest.raises(InputError, match=r"l\.gz: cannot be read"):
        member(file, *place)
    file.unlink()
    with pytest.raises(InputError, match=r"l\.gz: cannot be read"):
        list(members(file))


def flipped(data: bytes) -> bytes:
    return data[:12] + bytes(b ^ 0xFF for b in data[12:20]) + data[20:]


def test_a_flipped_byte_in_each_listing_is_named(tmp_path):
    data, identity = Book.of([(1, "one", ["a b c d"] * 9)]).to_bytes()
    (tmp_path / "prompts.jsonl.gz").write_bytes(flipped(data))
    with pytest.raises(InputError, match=r"prompts\.jsonl\.gz: cannot be read"):
        Book.read(tmp_path / "prompts.jsonl.gz", identity)
    writer = ListingWriter()
    for k in range(300):
        writer.add(b'{"image": %d}' % k)
    files, identity = writer.finish()
    for name, content in files.items():
        (tmp_path / name).write_bytes(flipped(content) if name.endswith(".gz") else content)
    with pytest.raises(InputError, match=r"annotated\.jsonl\.gz: cannot be read"):
        list(AnnotatedListing(tmp_path, identity).lines([3]))
