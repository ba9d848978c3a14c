"""launch/report.py: what judgements below a folder say, on the terminal and in files."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from launch.report import main
from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.judge.config import JudgeReportConfig
from tests.fixtures_images import child, work
from tests.judge.sets import clusters, features, judge


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two judged sets, one of which is nothing like the test set."""
    root = tmp_path_factory.mktemp("runs") / "toys"
    test = features(root, "test_features", *clusters(15, seed=2))
    for name, spread in (("good", 0.4), ("bad", 4.0)):
        folder = judge(features(root, name, *clusters(8, seed=3, spread=spread)), None, test, seeds=(0,))
        report = child(root, "judge_report", JudgeReportConfig(worst=0, shown=1), {"judge": [folder]})
        assert work(folder) == work(report) == EXIT_OK
    return root.parent


def test_it_tells_which_set_to_take_and_writes_all_of_them(runs, tmp_path, capsys):
    files = [tmp_path / f"points.{suffix}" for suffix in ("html", "json", "parquet")]
    assert main([str(runs), *(word for file in files for word in ("--out", str(file)))]) == EXIT_OK
    said = capsys.readouterr().out
    assert "take judge.source=/data/good (accuracy " in said and "judge.source=/data/bad gives ." in said
    assert said.rstrip().splitlines()[-3:] == [str(file) for file in files]
    judge = files[0].read_text().partition("<h2>Judge</h2>")[2].partition("</section>\n<section id")[0]
    assert judge.count("<details") == 2 and "take judge.source=/data/good" in judge
    points = json.loads(files[1].read_text())["points"]
    assert [p["test_rows"] for p in points] == [60, 60]
    table = pq.read_table(files[2]).to_pylist()
    assert {row["point"] for row in table} == {"judge.source=/data/good", "judge.source=/data/bad"} and all(
        row["group"] == 0 for row in table
    )


def test_what_cannot_be_read_is_named_and_the_others_are_told(runs, tmp_path, capsys):
    here = shutil.copytree(runs, tmp_path / "runs", symlinks=True)
    torn, *_ = sorted(here.glob("*/judge_report-*/done.json"))
    torn.unlink()
    (here / "toys" / "other-1").mkdir()
    (here / "toys" / "other-1" / "stage.json").write_text("{")
    assert main([str(here)]) == EXIT_OK
    out, err = capsys.readouterr()
    assert "is not done" in err and "other-1/stage.json" in err and "accuracy" in out and "take" not in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--out", "points.pdf"], "called *.html, *.json, *.parquet"),
        (["--out", "nodir/points.html"], "there is no folder nodir"),
        (["--out", "points.parquet"], "holds no judgement"),
    ],
)
def test_what_it_cannot_do_is_refused(runs, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    empty = shutil.copytree(next(runs.glob("*/test_features-*")), tmp_path / "runs" / "toys" / next(runs.glob("*/test_features-*")).name)
    assert main([str(empty.parent), *words]) == EXIT_BAD_INPUT
    assert told in capsys.readouterr().err
