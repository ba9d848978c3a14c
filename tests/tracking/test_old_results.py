"""OVTrack's own results: the same file as the rules make, from pickles that can do nothing but hold plain data."""

import json
import os
import pathlib
import pickle
import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest

from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.tracking import plain_pickle
from synth.tracking.old_results import main
from synth.tracking.plain_pickle import Refused, loads
from tests.tracking.ovtrack_rules import reference

RULES = {"min_area": 64.0**2, "min_variant_area": 32.0**2, "min_side": 1.0}
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Three images; one with a crowd and a small object, one without annotations."""
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": 640, "height": 480} for i in (30, 10, 20)]
    said = [
        (5, 30, 9000.5, 0),
        (2, 30, 5000.0, 0),
        (9, 10, 8000.0, 0),
        (7, 30, 50000.0, 1),
        (6, 30, 100.0, 0),
        (8, 10, 4096.0, 0),
    ]
    annotations = [
        {
            "id": a,
            "image_id": i,
            "category_id": 3,
            "iscrowd": crowd,
            "area": area,
            "bbox": [1.5, 2, 100, 90.25],
            "segmentation": [[1.5, 2, 9, 9, 9, 2]],
        }
        for a, i, area, crowd in said
    ]
    data = {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 3, "name": "caf\u00e9", "synset": "cafe.n.01"}],
    }
    path = tmp_path_factory.mktemp("base") / "base.json"
    path.write_text(json.dumps(data))
    return path


def entry(base, id_: int, variant: int = 0, box=(3, 4, 50, 60), area=2500, **other) -> dict:
    """An annotation of a variant as OVTrack's generation keeps it: a copy of the original with numpy's numbers."""
    original = next(a for a in json.loads(base.read_text())["annotations"] if a["id"] == id_)
    name = f"{original['image_id']:012d}_v{variant}.jpg"
    return {
        **original,
        "bbox": list(np.array(box, np.int32)),
        "area": np.ones(area, np.uint8).sum(),
        "image_name": name,
    } | other


def entries(base) -> list[dict]:
    return [
        entry(base, 5),
        entry(base, 2, area=1023),
        entry(base, 5, 1, (0, 0, 0, 0), 0),
        entry(base, 2, 1, area=1024),
        entry(base, 9, 1),
    ]


def run(base, tmp_path, parts: list, *words, protocol=4) -> tuple[int, object]:
    """(exit code, path of the output) of the tool for pickles of `parts`; bytes are taken as they are."""
    paths = [tmp_path / f"part_{n}.pkl" for n in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part if isinstance(part, bytes) else pickle.dumps(part, protocol=protocol))
    out = tmp_path / "out" / "old.json"
    return main([*map(str, paths), "--annotations", str(base), "--output", str(out), *words]), out


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_old_results_become_what_the_rules_make_of_them(base, tmp_path, protocol):
    found = entries(base)
    code, out = run(base, tmp_path, [found[:2], found[2:]], "--variants", "2", protocol=protocol)
    assert code == EXIT_OK
    made: dict[str, list] = {}
    for e in found:
        made.setdefault(e["image_name"], []).append({"id": e["id"], "bbox": [int(v) for v in e["bbox"]], "area": int(e["area"])})
    assert json.loads(out.read_text()) == reference(json.loads(base.read_text()), made, 2, RULES)
    assert [p.name for p in out.parent.iterdir()] == ["old.json"]


def test_thresholds_of_another_generation_are_given(base, tmp_path, capsys):
    words = ["--variants", "2", "--min_area", "50", "--min_variant_area", "0", "--min_side", "51"]
    code, out = run(base, tmp_path, [entries(base)], *words)
    made: dict[str, list] = {}
    for e in entries(base):
        made.setdefault(e["image_name"], []).append({"id": e["id"], "bbox": [int(v) for v in e["bbox"]], "area": int(e["area"])})
    rules = {"min_area": 50.0, "min_variant_area": 0.0, "min_side": 51.0}
    assert code == EXIT_OK and json.loads(out.read_text()) == reference(json.loads(base.read_text()), made, 2, rules)
    out.unlink()
    assert run(base, tmp_path, [entries(base)], "--min_area", "nan")[0] == EXIT_BAD_INPUT and not out.exists()
    assert "--min_area nan: must be a number of pixels" in capsys.readouterr().err


def test_the_hdf5_file_must_hold_every_image(base, tmp_path, capsys):
    with h5py.File(tmp_path / "m.h5", "w") as f:
        for n in (10, 20, 30):
            for name in (f"{n:012d}.jpg", f"{n:012d}_v0.jpg"):
                f[name] = np.zeros(3, np.uint8)
    assert run(base, tmp_path, [entries(base)[:2]], "--hdf5", str(tmp_path / "m.h5"))[0] == EXIT_OK
    (tmp_path / "out" / "old.json").unlink()
    code, out = run(base, tmp_path, [entries(base)], "--hdf5", str(tmp_path / "m.h5"), "--variants", "2")
    assert code == EXIT_BAD_INPUT and "_v1.jpg" in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: e.pop("image_name"), "entry 1: has no image_name"),
        (lambda e: e.update(image_name="../../etc/passwd"), "entry 1: image_name '../../etc/passwd' is no variant"),
        (lambda e: e.update(image_name="000000000030_v3.jpg"), "--variants"),
        (lambda e: e.update(id=999), "annotation 999 is not in --annotations"),
        (lambda e: e.update(id=9), "annotation 9 is of image 10"),
        (lambda e: e.update(image_id=10), "is this the file that was given to the generation?"),
        (lambda e: e.update(bbox=[1, 2, 3]), "bbox of type list is not x, y, width, height"),
        (lambda e: e.update(bbox=[1, 2, 3, float("nan")]), "bbox nan is not a number"),
        (lambda e: e.update(area="9"), "area '9' is not a number"),
        (lambda e: e.update(area=1e300), "area 1e+300 is not a number"),
        (lambda e: e.update(id=True), "id True is not a number"),
        (lambda e: e.update(id=5), "annotation 5 of '000000000030_v0.jpg' was told before"),
    ],
)
def test_an_entry_that_does_not_fit_is_named(base, tmp_path, capsys, change, said):
    found = [entry(base, 5), entry(base, 2)]
    change(found[1])
    code, out = run(base, tmp_path, [found])
    err = capsys.readouterr().err
    assert code == EXIT_BAD_INPUT and "part_0.pkl" in err and said in err and not out.exists()


@pytest.mark.parametrize(
    ("part", "said"), [({}, "holds a dict"), ([3], "entry 0: is a int"), ("x", "holds a str"), ([[]], "entry 0: is a list")]
)
def test_other_things_than_a_list_of_annotations_are_named(base, tmp_path, capsys, part, said):
    assert run(base, tmp_path, [part])[0] == EXIT_BAD_INPUT and said in capsys.readouterr().err


def test_a_refused_name_of_any_length_is_told_in_a_line(base):
    with pytest.raises(Refused, match="names 'aaa") as e:
        loads(b"c" + b"a" * 500_000 + b"\n" + b"b" * 500_000 + b"\n.")
    assert len(str(e.value)) < 300


def test_a_pickle_torn_at_any_byte_is_named_and_nothing_is_written(base, tmp_path, capsys):
    for protocol in PROTOCOLS:
        whole = pickle.dumps(entries(base)[:1], protocol=protocol)
        for at in range(len(whole)):
            with pytest.raises(Refused):
                loads(whole[:at])
    code, out = run(base, tmp_path, [whole[:-40]])
    err = capsys.readouterr().err
    assert code == EXIT_BAD_INPUT and "part_0.pkl: torn" in err and not out.exists()


def test_a_file_that_is_there_a_missing_part_and_a_base_without_images_are_named(base, tmp_path, capsys):
    assert (
        run(base, tmp_path, [entries(base)[:1]])[0] == EXIT_OK
        and run(base, tmp_path, [[]])[0] == EXIT_BAD_INPUT
        and "is there already" in capsys.readouterr().err
    )
    words = ["--annotations", str(base), "--output", str(tmp_path / "other.json")]
    assert main([str(tmp_path / "none.pkl"), *words]) == EXIT_BAD_INPUT and "none.pkl" in capsys.readouterr().err
    (tmp_path / "empty.json").write_text('{"images": [], "annotations": [], "categories": []}')
    code, _ = run(tmp_path / "empty.json", tmp_path / "out", [[]])
    assert code == EXIT_BAD_INPUT and "has no images" in capsys.readouterr().err


# -- pickles that would do something -----------------------------------------------------------------------------------


class Calls:
    """Pickled as a call."""

    def __init__(self, function, *args):
        self.said = function, args

    def __reduce__(self):
        return self.said


class WithState:
    def __setstate__(self, state): ...

    def __getstate__(self):
        return {"a": 1}


def hostile(canary) -> dict[str, bytes]:
    """Programs that make a file named `canary` when Python's own unpickler runs them, or that misuse what is allowed."""
    touch, code = f"touch {canary}", f"open({str(canary)!r}, 'w')"
    npy = canary.with_name("evil.npy")
    np.save(npy, np.array([Calls(os.system, touch)], dtype=object), allow_pickle=True)
    g = lambda module, name: b"c" + module.encode() + b"\n" + name.encode() + b"\n"  # noqa: E731
    text = lambda s: b"\x8c" + bytes([len(s)]) + s.encode()  # noqa: E731
    return {
        "system": pickle.dumps(Calls(os.system, touch)),
        "system in an entry": pickle.dumps([{"id": 1, "bbox": [Calls(os.system, touch)]}]),
        "eval": pickle.dumps(Calls(eval, code)),
        "exec": pickle.dumps(Calls(exec, code)),
        "subprocess": pickle.dumps(Calls(subprocess.call, ["touch", str(canary)])),
        "getattr": pickle.dumps(Calls(getattr, "x", "upper")),
        "numpy.load": b"\x80\x02" + g("numpy", "load") + b"(X" + struct.pack("<I", len(str(npy))) + str(npy).encode() + b"N\x88tR.",
        "a name with dots": b"\x80\x04" + text("numpy") + text("core.multiarray.scalar") + b"\x93" + text("x") + b"\x85R.",
        "a module behind an allowed one": b"\x80\x02" + g("numpy.core.multiarray", "os.system") + b"U\x01x\x85R.",
        "a call of what a call made": b"\x80\x04" + g("numpy", "dtype") + text("i4") + b"\x85R" + text("x") + b"\x85R.",
        "a name as a value": b"\x80\x04" + g("numpy", "dtype") + b".",
        "a dtype as a value": pickle.dumps([np.dtype("i4")]),
        "a dtype of objects": pickle.dumps(np.dtype("O")),
        "a dtype with fields": pickle.dumps(np.zeros(1, [("a", "i4")])[0]),
        "a dtype with metadata": b"\x80\x04"
        + g("numpy", "dtype")
        + text("i4")
        + b"\x85R(K\x04"
        + text("<")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00}tb.",
        "dict as the state of a dtype": b"\x80\x04" + g("numpy", "dtype") + text("i4") + b"\x85R}b.",
        "a scalar of objects": b"\x80\x04"
        + g("numpy.core.multiarray", "scalar")
        + g("numpy", "dtype")
        + text("O8")
        + b"\x89\x88\x87RC\x08"
        + bytes(8)
        + b"\x86R.",
        "a scalar of too few bytes": b"\x80\x04"
        + g("numpy.core.multiarray", "scalar")
        + g("numpy", "dtype")
        + text("i4")
        + b"\x85RC\x02xx\x86R.",
        "an array": pickle.dumps([np.arange(3)]),
        "an array of protocol 5": pickle.dumps([np.arange(3)], protocol=5),
        "encode by another codec": b"\x80\x02" + g("_codecs", "encode") + b"X\x01\x00\x00\x00xX\x03\x00\x00\x00zip\x86R.",
        "an object": pickle.dumps(WithState()),
        "an object of protocol 1": pickle.dumps(WithState(), protocol=1),
        "INST": b"(S'" + touch.encode() + b"'\nios\nsystem\n.",
        "OBJ": b"(" + g("os", "system") + b"X\x01\x00\x00\x00xo.",
        "an extension": b"\x80\x02\x82\x01.",
        "a large extension": b"\x80\x02\x84\x01\x00\x00\x00.",
        "a persistent id": b"Pos.system\n.",
        "a binary persistent id": b"\x80\x02K\x01Q.",
        "a buffer from elsewhere": b"\x80\x05\x97.",
        "a set": pickle.dumps({1, 2}),
        "bytes": pickle.dumps([b"x"]),
        "a bytearray": pickle.dumps(bytearray(b"x"), protocol=5),
        "a dict with keys that are no text": pickle.dumps({(): 1}),
        "a key of nested tuples": b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"K\x01s.",
        "eight exabytes of text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 63) + b"x.",
        "four gigabytes of bytes": b"\x80\x04B" + struct.pack("<I", 0xFFFFFFFF) + b"x.",
        "a huge frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
        "a number of two gigabytes": b"\x80\x02\x8b" + struct.pack("<I", 0x7FFFFFFF) + b"x.",
        "a number of many digits": b"L" + b"9" * 100_000 + b"L\n.",
        "a value memorised far away": b"\x80\x02Nr\xff\xff\xff\xffj\x00\x00\x00\x00.",
        "a value memorised where there is memory for it": b"\x80\x02Nr\x00\x00\x00\x10.",
        "a value memorised far away, in text": b"Np1000000000\n.",
        "a value memorised before the first": b"Np-1\n.",
        "a value that was never memorised": b"\x80\x02h\x00.",
        "gigabytes of one text": b"\x80\x02("
        + g("_codecs", "encode")
        + b"q\x00X"
        + struct.pack("<I", 1 << 20)
        + b"x" * (1 << 20)
        + b"X\x06\x00\x00\x00latin1\x86q\x01R"
        + b"h\x00h\x01R" * 10_000
        + b"l.",
        "a dtype whose state is nested tuples": b"\x80\x04"
        + g("numpy", "dtype")
        + text("i4")
        + b"\x85R(K\x03)"
        + b"\x85" * 300_000
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb.",
        "the name of a dtype is nested tuples": b"\x80\x04" + g("numpy", "dtype") + b")" + b"\x85" * 300_000 + b"R.",
        "a key of nested tuples in a dict at once": b"(" + b")" + b"\x85" * 200_000 + b"K\x01d.",
        "a key of nested tuples, memorised": b"\x80\x02()" + b"\x85" * 200_000 + b"q\x00}(h\x00K\x01ut.",
        "a function's state": b"\x80\x04" + g("numpy", "dtype") + b"}" + text("x") + b"K\x01sb.",
        "a function's attributes": b"\x80\x04" + g("numpy", "dtype") + b"N}" + text("__call__") + b"K\x01s\x86b.",
        "a number's state": b"\x80\x04K\x01}" + text("x") + b"K\x01sb.",
        "a call of text": b"\x80\x04" + text("x") + b")R.",
        "a call with no tuple": b"\x80\x04" + g("numpy", "dtype") + text("i4") + b"R.",
        "opcodes that C's unpickler runs and pickletools takes for a number": b"\x80\x04\x95"
        + struct.pack("<Q", 2)
        + b"MaaJ\x8f\x8f\x8f\x8f\x86.",
        "a frame within a frame": b"\x80\x04\x95" + struct.pack("<Q", 11) + b"\x95" + struct.pack("<Q", 2) + b"N.",
        "DUP": b"N2\x86.",
        "POP": b"NN0.",
        "POP_MARK": b"N(N1.",
        "nothing": b"",
        "two values": b"NN.",
        "an open mark": b"(N.",
        "an append to nothing": b"Na.",
        "bytes behind the end": b"N.N",
        "protocol 9": b"\x80\x09N.",
        "no pickle": b"\x89HDF\r\n\x1a\n",
        "text": b'[{"id": 1}]',
    }


def test_hostile_pickles_run_nothing_and_are_refused(base, tmp_path, capsys):
    canary = tmp_path / "canary"
    programs = hostile(canary)
    for name, data in programs.items():
        (tmp_path / "out").mkdir(exist_ok=True)
        with pytest.raises(Refused):
            loads(data)
        code, out = run(base, tmp_path, [data])
        err = capsys.readouterr().err
        assert code == EXIT_BAD_INPUT and "part_0.pkl: " in err and not out.exists(), name
        assert not canary.exists(), name
    for name, told in (
        ("system", "'posix' 'system'"),
        ("eval", "'eval'"),
        ("numpy.load", "'numpy' 'load'"),
        ("an extension", "EXT1"),
        ("a persistent id", "PERSID"),
        ("opcodes that C's unpickler runs and pickletools takes for a number", "crosses the end of a frame"),
        ("a function's state", "state of a function"),
        ("a value memorised where there is memory for it", "value 268,435,456 is memorised after 0 others"),
        ("gigabytes of one text", "bytes are not written as Python writes those of a number"),
    ):
        run(base, tmp_path, [programs[name]])
        assert told in capsys.readouterr().err, name
    pickle.loads(programs["system"])  # noqa: S301 (that the canary sings when it is let)
    assert canary.exists()


def test_what_a_pickle_can_make_this_hold_is_bounded(monkeypatch, tmp_path):
    monkeypatch.setattr(plain_pickle, "MAX_CONTAINERS", 1000)
    with pytest.raises(Refused, match="more than 1,000 lists"):
        loads(b"\x80\x04" + b"]" * 2000 + b".")
    with pytest.raises(Refused, match="more than 1,000 lists"):
        loads(b"(" * 2000 + b".")
    path = tmp_path / "large.pkl"
    monkeypatch.setattr(plain_pickle, "MAX_BYTES", 10)
    path.write_bytes(pickle.dumps([1] * 100))
    with pytest.raises(plain_pickle.InputError, match="more than the 10 that are read"):
        plain_pickle.load(path)


def test_lists_within_lists_by_the_hundred_thousand_end_in_a_message(base, tmp_path, capsys):
    deep = b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b"."
    assert run(base, tmp_path, [deep])[0] == EXIT_BAD_INPUT and "entry 0: is a list" in capsys.readouterr().err
    laughs = b"\x80\x02(]q\x00" + b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(100)) + b"l."  # each holds the one before twice
    assert run(base, tmp_path, [laughs])[0] == EXIT_BAD_INPUT and "entry 0: is a list" in capsys.readouterr().err
    itself = b"\x80\x04]\x94h\x00a."
    assert run(base, tmp_path, [itself])[0] == EXIT_BAD_INPUT and "entry 0: is a list" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_of_every_form_come_back_as_python_would_give_them(protocol):
    numbers = [
        np.dtype(order + kind).type(7)
        for order in "<>"
        for kind in ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
    ]
    swapped = [np.frombuffer(np.array([513], ">i4").tobytes(), ">i4")[0], np.float32(1.5), np.int64(-(2**40)), np.bool_(True)]
    text = ["", "x" * 300, "beyond any frame" * 10_000, "caf\u00e9 \u96ea \U0001f43c", "a\nb\\u0041'\"", "\0"]
    values = [
        *numbers,
        *swapped,
        *text,
        None,
        True,
        False,
        0,
        -1,
        255,
        256,
        65536,
        -(2**31),
        2**31,
        2**63,
        -(2**100),
        1.5,
        -0.0,
        1e300,
        [],
        {},
        (),
        (1,),
        (1, 2, 3, 4),
    ]
    nested = {"a": values, "again": values, "tuple": (1, ("x", [2]))}
    found = loads(pickle.dumps(nested, protocol=protocol))
    assert found == nested and found["a"] is found["again"]
    assert {type(v) for v in found["a"]} <= {int, float, bool, str, type(None), list, dict, tuple}


def test_scalars_are_read_as_old_and_new_numpy_name_their_module():
    written = pickle.dumps([np.int64(3)], protocol=2)
    modules = [b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"]
    mine = next(m for m in modules if m in written)
    assert [loads(written.replace(mine, m)) for m in modules] == [[3], [3]]


def test_reading_pickles_needs_no_numpy():
    code = "import sys, synth.tracking.plain_pickle; assert 'numpy' not in sys.modules, 'loaded'"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_hostile_pickles_reach_nothing_outside(tmp_path):
    """No file, import, process or code object: Python's own audit sees nothing of them."""
    code = """
import pathlib, sys
from synth.tracking.plain_pickle import Refused, loads
from tests.tracking.test_old_results import hostile

programs, events = hostile(pathlib.Path(sys.argv[1])), set()
sys.addaudithook(lambda event, args: events.add(event))
for program in programs.values():
    try:
        loads(program)
    except Refused:
        continue
print(sorted(events - {"builtins.id"}))
"""
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "canary")], cwd=root, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
