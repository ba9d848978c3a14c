"""Units as bytes: what any tar or WebDataset reader sees in them, and what a torn one is called."""

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import pytest

from synth.errors import InputError
from synth.store import framing
from synth.store.framing import BLOCK, DIGESTS_NAME, FRAMINGS, INDEX_NAME, Entry, UnitIndex, frame, read_index, sample_digest, seal
from synth.store.samples import Sample, Tombstone
from synth.store.units import UnitReader
from tests.earlier_units import as_now, earlier

EARLIER = "e808a6beeab41b6e6d508a939c9b4c65a2fddb7e91df6dff07df0c2b5171ab79"  # sha256 of the unit below without digests of files
EARLIER_INDEX = "a64c0bd73b5128ea324b2a5beda629a78c6020768b460d4923c6e0d8dd9346ad"  # and of its index
NAMES = ["a b", "naïve café", "日本", 'it\'s "quoted"', "100%", "*?[x]", "-rf", "~", "x" * 90]


def samples(framing: str, n=5, first=20) -> list:
    made = []
    for k in range(n):
        text = json.dumps({"slot": first + k, "text": NAMES[k % len(NAMES)]}, ensure_ascii=False).encode()
        files = {"json": text} if framing == "jsonl" else {"json": text, "png": bytes([k]) * (k * 511), "seg.png": b""}
        made.append(Sample(first + k, f"{first + k:09d}", files))
    made.insert(2, Tombstone(first + n, "not this one: ünsafe"))
    return made


def unit(framing: str, made: list, batch=2) -> bytes:
    """A whole unit of `made`, in batches."""
    data, entries, tombstones = b"", [], {}
    for at in range(0, len(made), batch):
        b = frame(framing, made[at : at + batch])
        entries += [e.moved(len(data)) for e in b.entries]
        tombstones |= dict(b.tombstones)
        data += b.data
    first = min(s.slot for s in made) if made else 0
    return data + seal(framing, UnitIndex(3, first, len(made), tuple(entries), tombstones, "in"), len(data))[0]


UNITS = {"tar": lambda: unit("tar", samples("tar")), "earlier": lambda: earlier(unit("tar", samples("tar"))),
         "jsonl": lambda: unit("jsonl", samples("jsonl"))}  # fmt: skip


def framing_of(form: str) -> str:
    return "jsonl" if form == "jsonl" else "tar"


def read_all(path: Path, framing: str) -> None:
    with UnitReader(path, framing) as reader:
        for entry in reader.index.samples:
            reader.files(entry)


def whole(reader: UnitReader, entry: Entry) -> bool:
    return sample_digest({ext: reader.unchecked(entry, ext) for ext in entry.files}) == entry.sha256


@pytest.mark.parametrize("form", UNITS)
def test_a_unit_comes_back_as_it_was_made(tmp_path, form):
    framing = framing_of(form)
    made = samples(framing)
    path = tmp_path / "u"
    path.write_bytes(UNITS[form]())
    with UnitReader(path, framing) as reader:
        assert (reader.index.unit, reader.index.first, reader.index.count, reader.index.inputs) == (3, 20, 6, "in")
        assert reader.index.tombstones == {25: "not this one: ünsafe"}
        wanted = [s for s in made if isinstance(s, Sample)]
        assert [(e.slot, e.key) for e in reader.index.samples] == [(s.slot, s.key) for s in wanted]
        for entry, sample in zip(reader.index.samples, wanted, strict=True):
            assert {ext: reader.read(entry, ext) for ext in entry.files} == dict(sample.files)
            assert whole(reader, entry)


@pytest.mark.parametrize("framing", ["tar", "jsonl"])
def test_the_same_samples_in_other_batches_give_the_same_bytes(framing):
    assert unit(framing, samples(framing), 1) == unit(framing, samples(framing), 2) == unit(framing, samples(framing), 100)


def test_python_tarfile_reads_a_unit_and_finds_nothing_of_time_or_owner_in_it():
    made = samples("tar")
    with tarfile.open(fileobj=io.BytesIO(unit("tar", made))) as tar:
        members = tar.getmembers()
        assert all((m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) == (0, 0, 0, "", "", 0o644) for m in members)
        assert [m.name for m in members[-2:]] == [DIGESTS_NAME, INDEX_NAME]
        got = {m.name: tar.extractfile(m).read() for m in members[:-2]}
    assert got == {f"{s.key}.{ext}": data for s in made if isinstance(s, Sample) for ext, data in s.files.items()}


def test_a_webdataset_reader_groups_a_unit_into_its_samples():
    made = [s for s in samples("tar") if isinstance(s, Sample)]
    groups: dict[str, dict[str, bytes]] = {}
    with tarfile.open(fileobj=io.BytesIO(unit("tar", samples("tar"))), mode="r|") as tar:
        for member in tar:  # webdataset.tariterators: up to the first dot of the base name is the key; no dot, no sample
            match = re.match(r"^((?:.*/|)[^.]+)[.]([^/]*)$", member.name)
            if match:
                groups.setdefault(match[1], {})[match[2].lower()] = tar.extractfile(member).read()
    assert groups == {s.key: dict(s.files) for s in made}


def test_a_jsonl_unit_is_lines_of_json_and_its_last_two_are_its_index():
    made = samples("jsonl")
    lines = unit("jsonl", made).splitlines()
    parsed = [json.loads(line) for line in lines]
    assert [p["slot"] for p in parsed[:-2]] == [s.slot for s in made if isinstance(s, Sample)]
    assert list(parsed[-2]) == ["__unit__"] and parsed[-1]["magic"]


@pytest.mark.parametrize("framing", ["tar", "jsonl"])
def test_a_unit_of_tombstones_only_is_a_unit(tmp_path, framing):
    path = tmp_path / "u"
    path.write_bytes(unit(framing, [Tombstone(0, "a"), Tombstone(1, "b")]))
    with UnitReader(path, framing) as reader:
        assert reader.index.samples == () and reader.index.tombstones == {0: "a", 1: "b"}


@pytest.mark.parametrize("form", UNITS)
def test_a_unit_torn_at_any_length_is_an_input_error_that_names_it(tmp_path, form):
    framing, data = framing_of(form), UNITS[form]()
    lengths = (
        set(range(0, len(data), 97))
        | {n * BLOCK for n in range(len(data) // BLOCK)}
        | {len(data) - k for k in (1, 2, 511, 512, 513, 1024, 1536)}
    )
    for length in sorted(n for n in lengths if n < len(data)):
        with pytest.raises(InputError, match=r"torn\.unit: not a whole unit"):
            read_index(io.BytesIO(data[:length]), framing, "torn.unit")


@pytest.mark.parametrize("form", UNITS)
def test_a_unit_with_something_behind_or_zeros_in_its_index_is_an_input_error(form):
    framing, data = framing_of(form), UNITS[form]()
    index, _ = read_index(io.BytesIO(data), framing, "u")
    end = len(data) - BLOCK - len(FRAMINGS[framing].tail)
    for bad in (
        data + b"x",
        data + bytes(512),
        bytes(len(data)),
        data[: end - 40] + bytes(40) + data[end:],
        data[:end] + bytes(len(data) - end),
    ):
        with pytest.raises(InputError, match="not a whole unit"):
            read_index(io.BytesIO(bad), framing, "u")
    assert index.count == 6


@pytest.mark.parametrize(
    "record",
    [
        b"[]",
        b"{}",
        b'{"magic":"synthset-unit-1","offset":-5,"size":3,"sha256":""}',
        b'{"magic":1,"offset":1e99,"size":1,"sha256":"x"}',
        b"nonsense",
    ],
)
def test_a_foreign_end_record_is_an_input_error(record):
    with pytest.raises(InputError, match="not a whole unit"):
        read_index(io.BytesIO(bytes(2048) + record.ljust(BLOCK)), "jsonl", "u")


@pytest.mark.parametrize("form", ["tar", "earlier"])
def test_a_changed_picture_is_found_by_verifying_and_does_not_hide_the_others(tmp_path, form):
    data = bytearray(UNITS[form]())
    index, _ = read_index(io.BytesIO(bytes(data)), "tar", "u")
    victim = index.samples[3]
    data[victim.files["png"][0]] ^= 1
    (tmp_path / "u").write_bytes(data)
    with UnitReader(tmp_path / "u", "tar") as reader:
        assert [whole(reader, e) for e in reader.index.samples] == [True, True, True, False, True]
        assert [reader.verify(e) for e in reader.index.samples] == [True, True, True, False, True]


@pytest.mark.parametrize("key", NAMES[:-1])
def test_keys_with_strange_characters_are_whole_in_a_tar(key):
    data = unit("tar", [Sample(0, key, {"txt": b"hello"})])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.extractfile(tar.getmember(f"{key}.txt")).read() == b"hello"


@pytest.mark.parametrize(("key", "ext"), [("a.b", "png"), ("", "png"), ("../x", "png"), ("/x", "png"), ("a/b", "png"),
                                          ("a\nb", "png"), ("a\0b", "png"), ("..", "png"), ("a", ""), ("a", "x/y"),
                                          ("a", "p\n"), ("x" * 300, "png")])  # fmt: skip
def test_keys_that_a_reader_would_take_apart_are_refused(key, ext):
    with pytest.raises(ValueError):
        frame("tar", [Sample(0, key, {ext: b""})])


@pytest.mark.parametrize("files", [{}, {"png": b""}, {"json": b"a\nb"}, {"json": b"{}", "txt": b""}])
def test_a_jsonl_unit_takes_one_line_a_sample_and_nothing_else(files):
    with pytest.raises(ValueError, match="one line"):
        frame("jsonl", [Sample(0, "k", files)])


def test_an_entry_knows_its_digest_and_place():
    b = frame("tar", [Sample(4, "k", {"b": b"22", "a": b"1"})])
    entry = b.entries[0]
    assert entry.sha256 == hashlib.sha256(b"122").hexdigest()
    assert {e: b.data[o : o + n] for e, (o, n) in entry.files.items()} == {"a": b"1", "b": b"22"}
    assert [entry.digest_of(ext) for ext in "ab"] == [hashlib.sha256(data).hexdigest() for data in (b"1", b"22")]
    assert Entry.from_list(json.loads(json.dumps(entry.to_list()))) == entry._replace(digests=b"")


def test_a_unit_without_digests_of_files_is_the_bytes_that_were_made_before_there_were_any():
    data = unit("tar", samples("tar"))
    assert hashlib.sha256(earlier(data)).hexdigest() == EARLIER and json.loads(earlier(data)[-1536:-1024])["sha256"] == EARLIER_INDEX
    assert read_index(io.BytesIO(data), "tar", "u")[1] == EARLIER_INDEX  # what stands for the unit is the same
    assert as_now(earlier(data)) == data


def test_samples_of_one_file_have_no_digests_of_files():
    data = unit("tar", [Sample(0, "a", {"json": b"{}"}), Tombstone(1, "why")])
    assert data == earlier(data) and DIGESTS_NAME.encode() not in data
    assert read_index(io.BytesIO(data), "tar", "u")[0].samples[0].digest_of("json") == hashlib.sha256(b"{}").hexdigest()


@pytest.mark.parametrize("change", ["flipped", "cut", "longer", "empty", "elsewhere", "nowhere", "none"])
def test_digests_of_files_that_are_not_those_of_its_samples_are_told_with_the_unit(tmp_path, change):
    data = unit("tar", samples("tar"))
    with_record, record = data[: -2 * BLOCK - BLOCK], json.loads(data[-3 * BLOCK : -2 * BLOCK])
    at, size, _ = record["digests"]
    if change == "flipped":
        with_record = with_record[:at] + bytes([with_record[at] ^ 1]) + with_record[at + 1 :]
    else:
        places = {"cut": (at, size - 32), "longer": (at, size + 32), "empty": (at, 0), "elsewhere": (at - BLOCK, size), "nowhere": (-1, 1)}
        start, length = places.get(change, (at, size))
        record["digests"] = [start, length, hashlib.sha256(data[start : start + length]).hexdigest()] if change != "none" else None
    (tmp_path / "u.tar").write_bytes(with_record + json.dumps(record).encode().ljust(BLOCK) + bytes(2 * BLOCK))
    lengths = {"cut": 448, "longer": 512, "empty": 0}
    said = {c: f"its digests are {n} bytes, where 480 are" for c, n in lengths.items()} | {"elsewhere": "sample 000000020: its bytes"}
    with pytest.raises(InputError, match=rf"u\.tar: {said.get(change, 'not a whole unit')}"):
        read_all(tmp_path / "u.tar", "tar")


@pytest.mark.parametrize("name", ["000000001.png", "x" * 99, "x" * 100, "d" * 90 + "/" + "x" * 50, "caf\u00e9.json", ""])
@pytest.mark.parametrize("size", [0, 1, 511, 512, 123_456_789, 8**11 - 1])
def test_headers_are_those_of_tarfile(name, size):
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    assert framing._header(name, size) == info.tobuf(tarfile.USTAR_FORMAT)
