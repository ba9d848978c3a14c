"""The scripts of a session on a GPU are sound, and what they start is there."""

import importlib.util
import re
from pathlib import Path

from tests.gpu import peaks
from tests.lint import clean_shell

HERE = Path(__file__).parent
SESSION = (HERE / "session.sh").read_text(encoding="utf-8")


def test_shellcheck_has_nothing_to_say():
    clean_shell(HERE / "session.sh", HERE / "wheels.sh")


def test_what_a_session_starts_is_there():
    modules = set(re.findall(r"-m (tests\.[\w.]+)", SESSION))
    assert {"tests.gpu.probe", "tests.gpu.peaks", "tests.bench.images", "tests.bench.captions"} <= modules
    assert all(importlib.util.find_spec(m) for m in modules)
    folders = re.search(r"folders=\((tests/[^)]*)\)", SESSION)[1].split()
    assert folders and all((HERE.parents[1] / folder).is_dir() for folder in folders)


def test_a_peak_is_a_line_whatever_becomes_of_it(tmp_path, tiny_sd):
    assert re.fullmatch(r"[\d.]+ s|.* reserved \(planned .*", peaks.peak(tmp_path / "fits", tiny_sd, "exact", 2, 16))
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "model_index.json").write_text("{}")
    assert "code=65" in peaks.peak(tmp_path / "unfit", torn, "exact", 2, 16)
