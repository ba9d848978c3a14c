"""containers/cogview2/fetch.py against a real server on loopback that breaks off, changes its files and answers with what was not asked."""

import hashlib
import importlib.util
import io
import json
import stat
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.containers.standin import ROOT

FETCH = ROOT / "containers" / "cogview2" / "fetch.py"
STAGES = ("coglm", "cogview2-dsr", "cogview2-itersr")


@pytest.fixture(scope="module")
def fetch():
    spec = importlib.util.spec_from_file_location("cogview2_fetch", FETCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def archive(name: str, size: int = 3000, **more: bytes) -> bytes:
    """The zip of a model whose weights are `size` bytes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as zipped:
        members = {"model_config.json": b"{}", "latest": b"20000", "20000/mp_rank_00_model_states.pt": bytes(range(250)) * (size // 250)}
        for file, content in (members | more).items():
            zipped.writestr(f"{name}/{file}", content)
    return data.getvalue()


class Mirror:
    """What is served, and how: `breaks` bytes a connection of a file, `ranges` heeded or not."""

    def __init__(self):
        self.files = {f"{name}.zip": archive(name) for name in STAGES} | {"ice_text.model": b"words" * 50, "ice_image.pt": b"pixels" * 500}
        self.breaks: dict[str, int] = {}
        self.then: dict[str, bytes] = {}  # what a file becomes after its first answer
        self.kind, self.ranges, self.length, self.status = "application/octet-stream", True, True, 0
        self.asked: list[tuple[str, str]] = []  # (file, Range)


@pytest.fixture
def mirror():
    served = Mirror()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_): ...

        def do_GET(self):
            self.close_connection = True
            name, asked = self.path.strip("/"), self.headers.get("Range", "")
            served.asked.append((name, asked))
            data = served.files.get(name)
            if data is None or served.status:
                self.send_error(served.status or 404)
                return
            tag = f'"{hashlib.sha256(data).hexdigest()[:8]}"'
            start = int(asked[6:-1]) if asked and served.ranges and self.headers.get("If-Range") == tag else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            if served.length:
                self.send_header("Content-Length", str(len(data) - start))
            self.send_header("Content-Type", served.kind)
            self.send_header("ETag", tag)
            self.end_headers()
            if name in served.then:  # before the answer: behind it a test may already have put another file in its place
                served.files[name] = served.then.pop(name)
            self.wfile.write(data[start : start + served.breaks.get(name, len(data))])

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        served.url = f"http://127.0.0.1:{server.server_port}"
        yield served
        server.shutdown()


@pytest.fixture
def run(fetch, mirror, tmp_path, monkeypatch, capsys):
    """fetch.py FOLDER --mirror ...; (exit code, what it said). Nobody waits between tries."""
    monkeypatch.setattr(fetch.time, "sleep", lambda _: None)

    def call(*words: str):
        code = fetch.main([str(tmp_path / "m"), "--mirror", mirror.url, *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def tree(folder) -> dict[str, bytes]:
    """What users see of a folder: no hidden names."""
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: p.read_bytes() for name, p in found.items() if not name.startswith(".") and "/." not in name}


def test_a_server_that_breaks_off_again_and_again_is_asked_for_the_rest(run, mirror, tmp_path):
    mirror.breaks = {"coglm.zip": 700, "ice_image.pt": 1000}
    code, said = run()
    assert code == 0, said
    found = tree(tmp_path / "m")
    assert (
        found["coglm/20000/mp_rank_00_model_states.pt"] == bytes(range(250)) * 12 and found["icetk_models/ice_image.pt"] == b"pixels" * 500
    )
    assert sorted(n for n in found if n.endswith(".lock")) == sorted(
        [*(f"{s}.zip.lock" for s in STAGES), *(f"icetk_models/{n}.lock" for n in ("ice_image.pt", "ice_text.model"))]
    )
    assert not [n for n in found if n.endswith((".zip", ".part"))]
    asked = [r for name, r in mirror.asked if name == "coglm.zip"]
    assert asked == ["", *(f"bytes={n}-" for n in range(700, len(mirror.files["coglm.zip"]), 700))]


def test_a_fetch_that_was_killed_goes_on_and_a_whole_one_asks_for_nothing(mirror, run, tmp_path):
    mirror.breaks = {"coglm.zip": 1200}
    words = [sys.executable, "-c", "import runpy, sys, time; time.sleep = lambda _: __import__('os')._exit(9); sys.argv = sys.argv[1:]; "]
    words[-1] += "runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([*words, FETCH, tmp_path / "m", "--mirror", mirror.url], capture_output=True, text=True)
    assert done.returncode == 9 and "going on at byte 1200" in done.stderr and not (tmp_path / "m" / "coglm").exists()
    (tmp_path / "m" / ".coglm.unpacking").mkdir()  # of a process that was killed later
    mirror.breaks, mirror.asked = {}, []
    code, said = run()
    assert code == 0 and ("coglm.zip", "bytes=1200-") in mirror.asked and len(mirror.asked) == 3, said
    mirror.asked = []
    assert run("--check")[0] == 0 and not mirror.asked


def test_a_check_fetches_nothing_and_makes_no_folder(fetch, run, mirror, tmp_path, capsys):
    assert fetch.main([str(tmp_path / "typo"), "--mirror", mirror.url, "--check"]) == 65 and not (tmp_path / "typo").exists()
    assert "no such folder" in capsys.readouterr().err
    assert run()[0] == 0
    mirror.asked = []
    (tmp_path / "m" / "icetk_models" / "ice_image.pt").unlink()
    code, said = run("--check")
    assert code == 65 and "ice_image.pt is not there; the same command without --check fetches it" in said and not mirror.asked


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_changes_on_the_server_is_fetched_from_its_beginning(ranges, run, mirror, tmp_path):
    mirror.ranges = ranges
    mirror.breaks, mirror.then = {"ice_image.pt": 1200}, {"ice_image.pt": b"others" * 200}
    code, said = run()
    assert code == 0, said
    assert tree(tmp_path / "m")["icetk_models/ice_image.pt"] == b"others" * 200


def test_a_network_that_is_gone_is_told_to_be_tried_again_and_what_came_is_kept(run, mirror, tmp_path):
    mirror.breaks = {"coglm.zip": 0}
    code, said = run()
    assert code == 75 and "8 times without a byte in between" in said and "the same command goes on" in said
    mirror.status = 503
    assert run()[0] == 75
    mirror.status = 403
    code, said = run()
    assert code == 65 and "the server says 403" in said


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "text/html"}, "answered with a page"),
        ({"length": False}, "does not say how long"),
        ({"files": {"ice_text.model": b""}}, "empty file"),
    ],
)
def test_an_answer_that_is_no_file_is_refused(change, why, run, mirror, tmp_path):
    for name, value in change.items():
        setattr(mirror, name, mirror.files | value if name == "files" else value)
    code, said = run()
    assert code == 65 and why in said and not [n for n in tree(tmp_path / "m") if not n.endswith(".lock")]


def test_other_bytes_than_expected_and_files_that_changed_are_refused_by_name(run, mirror, tmp_path, fetch):
    assert run()[0] == 0
    record = tmp_path / "m" / ".fetched.json"
    known = json.loads(record.read_text())
    weights = "coglm/20000/mp_rank_00_model_states.pt"
    assert known[weights] == {"size": 3000, "sha256": hashlib.sha256(bytes(range(250)) * 12).hexdigest()} and "coglm.zip" in known
    expected = tmp_path / "theirs.json"
    expected.write_text(json.dumps(known | {"cogview2-dsr.zip": known["coglm.zip"]}))
    other = tmp_path / "other"
    assert fetch.main([str(other), "--mirror", mirror.url, "--expected", str(expected)]) == 65
    assert (other / "coglm").is_dir() and not (other / "cogview2-dsr").exists() and not list(other.glob("*.zip"))
    file = tmp_path / "m" / weights
    file.write_bytes(b"x" * 3000)
    assert run()[0] == 0  # sizes alone are compared with what was recorded ..
    code, said = run("--check")
    assert code == 65 and f"{file}: {{'size': 3000, 'sha256': " in said  # .. unless every byte is asked for
    file.write_bytes(b"x")
    code, said = run()
    assert code == 65 and f"{file} has 1 bytes where 3000 came" in said


def odd(name: str, mode: int = 0, content: bytes = b"x") -> bytes:
    """An archive of coglm with one more member."""
    data = io.BytesIO(archive("coglm"))
    with zipfile.ZipFile(data, "a") as zipped:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        zipped.writestr(member, content)
    return data.getvalue()


def torn() -> bytes:
    """An archive whose last bytes of weights are others than its checksum says."""
    data = bytearray(archive("coglm"))
    data[data.rindex(bytes(range(240, 250)))] ^= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (lambda: odd("coglm/../../evil"), "'coglm/../../evil', which lies outside of coglm/"),
        (lambda: odd("/tmp/evil"), "outside of coglm/"),
        (lambda: odd("cogview2-dsr/latest"), "outside of coglm/"),
        (lambda: odd("coglm\\..\\..\\evil"), "outside of coglm/"),
        (lambda: odd("coglm/link", stat.S_IFLNK | 0o777, b"/etc/passwd"), "twice, or as no plain file"),
        (lambda: odd("coglm//latest"), "twice, or as no plain file"),
        (torn, "Bad CRC-32"),
        (lambda: b"PK\3\4 no archive", "File is not a zip file"),
        (lambda: archive("coglm", latest=b"30000"), "holds no 30000/mp_rank_00_model_states.pt"),
    ],
)
def test_an_archive_that_leaves_its_folder_or_is_not_whole_leaves_nothing(data, why, run, mirror, tmp_path):
    mirror.files["coglm.zip"] = data()
    code, said = run("--first-stage")
    assert code == 65 and why in said
    assert sorted(p.name for p in (tmp_path / "m").iterdir() if not p.name.startswith(".")) == ["icetk_models"]
    assert not (tmp_path / "evil").exists() and not list(tmp_path.rglob("evil"))
    mirror.files["coglm.zip"] = archive("coglm")
    code, said = run("--first-stage")
    assert code == 0 and "coglm: fetched" in said  # what was refused is not remembered


def test_two_fetches_into_one_folder_are_told_of_and_homes_are_filled_when_asked(run, fetch, mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("--first-stage", "--home")[0] == 0
    assert (tmp_path / ".icetk_models" / "ice_image.pt").read_bytes() == b"pixels" * 500
    assert not (tmp_path / "m" / "cogview2-dsr").exists()
    with open(tmp_path / "m" / ".lock") as held:
        fetch.fcntl.flock(held, fetch.fcntl.LOCK_EX)
        code, said = run()
    assert code == 75 and "another fetch is at work" in said


def test_the_addresses_are_those_of_the_libraries_and_content_ranges_are_read(fetch):
    assert fetch.span("bytes 10-99/100") == (10, 100) and fetch.span("bytes */100") == fetch.span("") == (None, None)
    assert all(url.startswith("https://") for url in (*fetch.ARCHIVES.values(), *fetch.TOKENIZERS.values()))
