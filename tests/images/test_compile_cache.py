"""Compiled code that is kept: a folder of this node, and an archive that all nodes see and that nobody else may write."""

import hashlib
import os
import stat
import subprocess
import sys

import pytest

from synth.errors import StoreError
from synth.images.compile_cache import Archive, key_of, use_folder
from synth.images.compiling import Shapes


def test_compiled_code_is_kept_by_model_device_and_versions_in_a_folder_of_one_s_own(node_cache):
    key = key_of("model", "H200", {"torch": "2"})
    first = use_folder(key)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(first) and stat.S_IMODE(first.parent.stat().st_mode) == 0o700
    assert use_folder(key_of("model", "H200", {"torch": "2"})) == first
    others = {
        key_of(*called)
        for called in (("other", "H200", {"torch": "2"}), ("model", "A100", {"torch": "2"}), ("model", "H200", {"torch": "3"}))
    }
    assert len(others | {key}) == 4
    first.parent.chmod(0o777)  # anyone may have put code there
    elsewhere = use_folder(key)
    assert elsewhere.parent != first.parent and stat.S_IMODE(elsewhere.parent.stat().st_mode) == 0o700


COMPILES = """
import sys, torch, torch._inductor.config
from pathlib import Path
from synth.images.compile_cache import Archive, use_folder
torch._inductor.config.compile_threads = 1
use_folder("k")
archive = Archive(Path(sys.argv[1]), "k")
loaded = archive.load()
with torch.inference_mode():
    torch.compile(lambda x: x @ x, dynamic=False)(torch.ones(8, 8))  # a product needs no compiler of C++
hits = torch._dynamo.utils.counters["aot_autograd"]["autograd_cache_hit"] + torch._dynamo.utils.counters["inductor"]["fxgraph_cache_hit"]
print(loaded, bool(hits), archive.save())
"""


def test_another_node_begins_with_what_the_first_one_compiled(tmp_path):
    said = []
    for node in ("a", "b"):
        (tmp_path / node).mkdir()
        env = os.environ | {"TMPDIR": str(tmp_path / node), "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run([sys.executable, "-c", COMPILES, str(tmp_path)], capture_output=True, text=True, env=env, check=True)
        said.append(run.stdout.split())
    assert said == [["False", "False", "True"], ["True", "True", "False"]]  # loaded, something of it used, written
    (file,) = (tmp_path / f".compiled-{os.getuid()}").iterdir()
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.fixture
def artifacts(monkeypatch):
    """What torch packs, and what it was given to unpack."""
    import torch

    given = []
    packed = {"now": b"code"}
    monkeypatch.setattr(torch.compiler, "save_cache_artifacts", lambda: (packed["now"], None))
    monkeypatch.setattr(torch.compiler, "load_cache_artifacts", lambda data: given.append(data) or data)
    return packed, given


def test_the_first_to_write_an_archive_wins_and_writes_once(tmp_path, artifacts):
    packed, given = artifacts
    first, second = Archive(tmp_path, "k"), Archive(tmp_path, "k")
    assert not first.load() and not second.load()  # both begin before there is one
    assert first.save()
    packed["now"] = b"other code"
    assert not second.save() and not second.save()
    assert Archive(tmp_path, "k").load() and given == [b"code"]
    packed["now"] = b"code and more code"
    assert not first.save() and Archive(tmp_path, "k").load() and given[1:] == [b"code"]
    late = Archive(tmp_path, "k")
    assert late.load() and not late.save()


@pytest.mark.parametrize(
    "harm", ["writable", "folder writable", "a link", "torn", "a folder", "someone else's", "too large", "received", "no home"]
)
def test_an_archive_that_others_could_have_written_is_not_run(harm, tmp_path, artifacts, monkeypatch):
    _, given = artifacts
    archive = Archive(tmp_path, "k")
    assert archive.save()
    match harm:
        case "writable":
            archive.path.chmod(0o602)
        case "folder writable":
            archive.path.parent.chmod(0o770)
        case "a link":
            archive.path.rename(tmp_path / "elsewhere")
            archive.path.symlink_to(tmp_path / "elsewhere")
        case "torn":
            archive.path.write_bytes(archive.path.read_bytes()[:-1])
        case "a folder":
            archive.path.unlink()
            archive.path.mkdir()
        case "someone else's":
            uid = os.getuid()
            monkeypatch.setattr(os, "getuid", lambda: uid + 1)
            later = Archive(tmp_path, "k")
            later.path = archive.path
            assert not later.load() and given == []
            return
        case "received":  # with our owner and the right modes, as a tar unpacks it
            archive.path.write_bytes(hashlib.sha256(b"code").digest() + b"code")
        case "no home":
            monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
            assert not Archive(tmp_path, "other").save()
        case "too large":
            monkeypatch.setattr("synth.images.compile_cache.LARGEST", 2)
            assert not Archive(tmp_path, "other").save()
            archive.path.write_bytes(bytes(40))
    assert not Archive(tmp_path, "k").load() and given == []


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_an_archive_is_read_whatever_the_umask_of_whom_wrote_it(umask, tmp_path, artifacts):
    before = os.umask(umask)
    try:
        assert Archive(tmp_path, "k").save() and Archive(tmp_path, "k").load()
    finally:
        os.umask(before)


def test_an_archive_that_torch_stumbles_over_costs_a_compilation_and_nothing_else(tmp_path, artifacts, monkeypatch, capsys):
    import torch

    def no_space(data):
        raise OSError(28, "No space left on device")

    assert Archive(tmp_path, "k").save()
    monkeypatch.setattr(torch.compiler, "load_cache_artifacts", no_space)
    assert not Archive(tmp_path, "k").load()
    assert "No space left on device" in capsys.readouterr().err


def test_old_archives_make_room_and_a_full_disk_costs_only_the_archive(tmp_path, artifacts, monkeypatch):
    monkeypatch.setattr("synth.images.compile_cache.FILES", 2)
    for n, key in enumerate("abc"):
        archive = Archive(tmp_path, key)
        assert archive.save()
        os.utime(archive.path, (n, n))
    assert sorted(p.name for p in archive.path.parent.iterdir()) == ["b", "c"]

    def full(*args):
        raise StoreError("no space left on device")

    monkeypatch.setattr("synth.images.compile_cache.write_once", full)
    assert not Archive(tmp_path, "d").save()


@pytest.mark.parametrize(("sizes", "when"), [(1, 1), (3, 3)])
def test_a_worker_packs_after_its_first_batch_or_where_others_will_come_when_it_closes(sizes, when):
    saved = []

    class Packed:
        save = staticmethod(lambda: saved.append(len(met)))

    met, shapes = [], Shapes(tunes=True, archive=Packed(), sizes=sizes)
    for shape in ((4, None), (4, None), (2, None)):
        met.append(shape)
        shapes.met(shape)
    shapes.close()
    assert saved[0] == when
