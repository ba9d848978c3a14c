"""launch/report.py of a whole run: its figures are those of events and units, and it tells of whatever is there."""

import io
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from launch import report
from launch.reporting.captions import captions
from launch.reporting.drawn import timeline
from launch.reporting.facts import _joules, as_json, gather, taken_out
from launch.reporting.page import page
from launch.reporting.pictures import _one, small
from launch.slurm import submissions
from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.filters.config import BalanceConfig
from synth.judge.reading import comparable
from synth.keys import dump
from synth.numerics import EXACT
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone
from synth.store.spec import StageSpec
from tests.browser import browse
from tests.fixtures_images import IMAGES, child, commit_units
from tests.judge.points import point
from tests.launch.conftest import REPO
from tests.launch.reported import H100, HOUR, images_stage, opened, png, start, stop, table_stage, unit, write_events

CLASSES = ("cat", "dog", "owl")
CAPTIONS = [f"a {CLASSES[i % 3]} number {i}" for i in range(24)]
HOSTILE = '</title><script>document.title="owned"</script><img src=x onerror="alert(2)">&\'"\n../..\u202e'


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A sweep of two points on two GPUs, one of which is half done, with a filter behind the whole one. Its figures stand in the tests."""
    root = tmp_path_factory.mktemp("runs") / "toys"
    table = table_stage(root, [*CAPTIONS, "one too many", {"left_empty": "names another class"}], CLASSES, 24)
    whole = images_stage(root, table, CAPTIONS, CLASSES, {5: "not finite"}, guidance_scale=2.0)
    half = images_stage(root, table, CAPTIONS, CLASSES, guidance_scale=7.0)
    write_events(whole, "a", start(0), opened(10), *(unit(100 * n, n, 50.0, *((3, 1) if n == 1 else (4,))) for n in range(3)),
                 unit(300, 3, 60.0, outcome="theirs"), stop(HOUR, HOUR, energy_j=7.2e6))  # fmt: skip
    write_events(whole, "b", start(0, 1, "n2"), opened(10, torch="2.8"), *(unit(200 * n, n, 100.0) for n in (3, 4, 5)),
                 stop(2 * HOUR, 2 * HOUR))  # fmt: skip
    whole.mark_done({"units": 6, "slots": 24, "samples": 23, "tombstones": 1})
    # killed 400 s behind its only unit; stopped early 500 s behind its own, with two GPUs; left its device as bad
    pace = {"event": "pace", "time": 600, "busy_s": 500.0, "idle_s": 90.0}
    adopted = {"event": "adopted", "time": 1600, "unit": 2, "batches": 1, "of": 2}
    bad = {"event": "device", "time": 1100, "why": "ECC", "host": "n9", "node": "n9", "place": "gpu 3", "gpu": H100, "uuid": "GPU-1"}
    write_events(half, "killed", start(0), opened(10), unit(200, 0, 190.0), pace)
    drained = stop(2000, 1000.0, 75, "drained on SIGTERM")
    write_events(half, "early", start(1000, 1, devices="0,1"), opened(1010), unit(1500, 1, 490.0), adopted, drained)
    write_events(half, "bad", start(1000, 2, "n9"), bad, stop(1100, 100.0, 75, "ECC"))
    for number in range(2, 6):
        half.unit_path(number).unlink()
    balance(root, whole)
    return root.parent


def balance(root, images):
    """A filter that keeps the first 12 slots, of which one was empty before."""
    config = BalanceConfig(seed=1, counts={str(label): 4 for label in range(3)}, allow_short=True)
    chosen = child(root, "balance", config, {"images": [images]}, 24, 8, 4)
    gone = {5: "not finite"} | dict.fromkeys(range(12, 24), "balance: more than 4 of its class")
    commit_units(chosen, [Tombstone(s, gone[s]) if s in gone else Sample(s, f"{s:09d}", {"json": b"{}"}) for s in range(24)])
    made = [unit(9002 + n, n, 1.0, *counts) for n, counts in enumerate([(7, 1), (4, 4), (0, 8)])]
    write_events(chosen, "c", start(9000, node="cpu1", devices=""), opened(9001, "cpu"), *made, stop(9010, 10.0))
    chosen.mark_done({"units": 3, "slots": 24, "samples": 11, "tombstones": 13})


@pytest.fixture(scope="module")
def found(run):
    told: list[str] = []
    found = gather(run, told.append, co2=400.0)
    assert not told
    return found


def stage_of(found, name, done=True):
    return next(s for s in found.stages if s.name == name and s.done == done)


def test_counts_and_hours_are_those_of_the_events(found):
    t, half = found.totals, stage_of(found, "images", done=False)
    assert (t.samples, t.tombstones, t.taken_out) == (23 + 8, 1, 12)
    assert t.device_hours == pytest.approx(1 + 2 + 600 / HOUR + 2 * 1000 / HOUR)  # two GPUs count twice; "bad" opened no device
    assert t.lost_hours == pytest.approx({"killed": 400 / HOUR, "stopped early": 2 * 500 / HOUR, "errors": 0.0})
    assert (t.twice, t.adopted, t.adopted_batches) == (1, 1, 1)
    assert half.left_s == pytest.approx(16 * (190 + 490) / 8) and t.left_hours == pytest.approx(2 * half.left_s / HOUR)
    assert (t.energy_kwh, t.energy_jobs, t.co2_kg) == (pytest.approx(2.0), 1, pytest.approx(0.8))
    assert t.idle == pytest.approx((0.2 * 3 * HOUR + 90 + 200 + 20) / (3 * HOUR + 590 + 1000 + 100))


def test_energy_of_a_gpu_that_workers_share_counts_once(found):
    job = next(j for _, j in found.jobs if j.energy_j is not None)
    a, b, c = (replace(job, begun=at, ended=at + 100.0, energy_j=1000.0, uuid="GPU-1") for at in (0.0, 50.0, 150.0))
    assert _joules([c, b, a]) == pytest.approx(2500.0) and _joules([a, replace(b, uuid="GPU-2")]) == pytest.approx(2000.0)


def test_a_half_done_run_says_what_is_there_and_how_its_jobs_ended(found):
    half = stage_of(found, "images", done=False)
    assert not found.done and (half.state, half.committed, half.samples) == ("not done", 2, 8)
    ends = {j.worker: (j.state, j.why) for j in half.jobs}
    assert ends == {
        "killed": ("ended without a word", ""),
        "early": ("stopped early", "drained on SIGTERM"),
        "bad": ("stopped early", "ECC"),
    }
    assert [(x.node, x.place, x.uuid) for x in half.suspects] == [("n9", "gpu 3", "GPU-1")]


def test_who_wrote_something_just_now_is_at_work_and_not_killed(run, tmp_path):
    here = shutil.copytree(run, tmp_path / "runs")
    half = StageFolder.open(next(p.parent for p in here.glob("toys/images-*/stage.json") if not (p.parent / "done.json").exists()))
    write_events(half, "killed", start(time.time() - 100), opened(time.time() - 90))
    found = gather(here, print)
    assert stage_of(found, "images", done=False).state == "at work" and found.totals.lost_hours["killed"] == 0


def test_slow_nodes_and_versions_that_differ_are_told(found):
    assert {version: found.versions["torch"][version] for version in ("2.9", "2.8")} == {"2.9": 4, "2.8": 1}
    [slow] = found.nodes
    assert slow.name == "n2" and slow.slot_s == pytest.approx(25.0) and slow.slots == 12


def test_reasons_are_counted_and_a_filter_is_told_apart_from_what_was_empty_before(found):
    chosen = stage_of(found, "balance")
    assert chosen.empty.reasons == {"balance: more than 4 of its class": 12, "not finite": 1}
    [decided] = found.filters
    assert len(decided.kept) == 4 and len(decided.taken_out["balance: more than 4 of its class"]) == 4
    assert decided.taken_out["not finite"] == ()  # there is no picture of it


def test_points_of_a_sweep_stand_side_by_side_by_caption_and_seed(found):
    [sweep] = found.sweeps
    assert sorted(sweep.labels) == ["images.guidance_scale=2.0", "images.guidance_scale=7.0"]
    assert len(sweep.rows) == 3  # a class each
    for row in sweep.rows:
        assert all(cell and (cell.caption, cell.seed) == (row.caption, row.seed) and cell.data for cell in row.cells)


def test_captions_are_told_with_their_lengths_and_why_others_were_not_taken(found):
    [captions] = found.captions
    assert (captions.read, captions.all, captions.distinct, captions.longest) == (24, True, 24, 4)
    assert {r.reason: r.captions for r in captions.rejects} == {"more captions than captions.total": 1, "names another class": 1}
    assert ("one too many",) in {r.examples for r in captions.rejects}


def test_of_more_tables_than_a_page_bears_the_first_are_read(found, monkeypatch):
    monkeypatch.setattr("launch.reporting.captions.TABLES", 2)
    table = stage_of(found, "captions_json")
    said: list[str] = []
    assert len(captions([table] * 5, said.append)) == 2 and said == ["captions of 3 more tables are not told"]


def test_the_json_has_the_numbers_of_the_page_and_no_pictures(found, tmp_path):
    facts = json.loads(json.dumps(as_json(found)))
    html = page(found, tmp_path / "report.html")
    t = facts["totals"]
    assert f"{t['samples']:,} samples made, {t['tombstones']} slots left empty, {t['taken_out']} taken out by filters" in html
    assert f"<td>device hours used</td><td>{t['device_hours']:.4g}</td>" in html
    for why, hours in t["lost_hours"].items():
        assert f"whole unit: {why}</td><td>{hours:.4g}</td>" in html
    assert f"{t['energy_kwh']:.3g} kWh of 1 workers" in html and f"{t['co2_kg']:.3g} kg CO2 at 400 g/kWh" in html
    for stage in facts["stages"]:
        assert re.search(
            rf"<td>{stage['folder']}</td><td>{stage['state']}</td><td>{stage['committed']} of {stage['units']}</td><td>{stage['samples']}<",
            html,
        )
    assert facts["sweeps"][0]["rows"][0]["cells"][0]["caption"] and '"data"' not in json.dumps(facts)
    assert facts["points"] == []


def test_the_command_of_a_submission_is_told_without_secrets(run, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-4fJ2pQ9xLm0Zt7Vw8Kd3")
    here = shutil.copytree(run, tmp_path / "runs")
    half = next(p.parent for p in here.glob("toys/images-*/stage.json") if not (p.parent / "done.json").exists())
    record = submissions.intend(half, 1)
    command = "python launch/run.py x=sk-4fJ2pQ9xLm0Zt7Vw8Kd3 'notify.command=curl hook.example/T0'"
    order = {"script": "s", "gate_script": "g", "n_jobs": 1, "command": command}
    submissions.record(half, submissions.Submission(**{**vars(record), "state": "abandoned", "order": order, "why": "no such partition"}))
    html = page(gather(here, print), tmp_path / "report.html")
    assert "<pre>python launch/run.py x=***</pre>" in html and "4fJ2pQ9x" not in html and "no such partition" in html


def test_torn_events_and_a_torn_stage_are_told_on_the_page_and_the_rest_is_there(run, tmp_path, capsys):
    here = shutil.copytree(run, tmp_path / "runs")
    half = next(p.parent for p in here.glob("toys/images-*/stage.json") if not (p.parent / "done.json").exists())
    log = half / "events" / "killed.jsonl"
    head, *rest = log.read_text().splitlines()
    log.write_text("\n".join([head, '{"event": "un', *rest, '{"event": "pa']))
    (here / "toys" / "other-1").mkdir()
    (here / "toys" / "other-1" / "stage.json").write_text("{")
    out = tmp_path / "report.html"
    assert report.main([str(here), "--out", str(out)]) == EXIT_OK
    html, err = out.read_text(), capsys.readouterr().err
    assert "killed.jsonl: line 2" in html and "other-1/stage.json" in html and "other-1/stage.json" in err
    assert "not done" in html and "3.7" in html  # the hours


def hostile_run(root):
    """Hostile text wherever somebody else chose one."""
    names = (HOSTILE, "..", "caf\u00e9 \u732b")
    captions = [f"{HOSTILE} {i}" for i in range(12)]
    table = table_stage(root, captions, names, 12)
    for scale in (2.0, 4.0):
        images = images_stage(root, table, captions, names, {4: HOSTILE}, guidance_scale=scale)
        begin = start(0, node=HOSTILE, slurm=HOSTILE, place=HOSTILE, sources=HOSTILE)
        write_events(images, "w", begin, opened(1, HOSTILE, **{HOSTILE: HOSTILE}), unit(2, 0, 1.0), unit(3, 1, 1.0, 3, 1),
                     {"event": "warning", "time": 4, "why": HOSTILE}, {"event": "device", "time": 4, "why": HOSTILE, "host": HOSTILE},
                     stop(5, 5.0, 70, HOSTILE))  # fmt: skip
        images.report_failure(2, {"error": HOSTILE, "traceback": HOSTILE, "host": "h", "device": "d", "sticky": False})
        (images.path / "missing.json").write_text(json.dumps({"missing": [2], "why": HOSTILE, "command": HOSTILE}))
    return root.parent


def test_hostile_names_are_text_and_a_browser_opens_the_page(tmp_path):
    root = tmp_path / "runs" / "<script>alert(1)<&'\""
    html_file, told = tmp_path / "report.html", []
    html = page(gather(hostile_run(root), told.append), html_file)
    html_file.write_text(html, encoding="utf-8")
    assert "<script" not in html and 'onerror="' not in html and "\u202e" not in html
    assert not re.findall(r'src="(?!data:image/(?:png|jpeg);base64,)', html)
    assert not [link for link in re.findall(r'href="([^"]*)"', html) if not link.startswith(("#part-", "./"))]
    dom = browse(html_file.as_uri(), tmp_path, "--dump-dom")
    assert "<script" not in dom and dom.count("<h1>") == 1 and "owned" not in re.findall(r"<title>(.*?)</title>", dom)[0]
    assert dom.count("<img") == html.count("<img") > 10 and dom.count("<section") == html.count("<section")


def test_pages_of_stages_are_linked_by_relative_paths(run, tmp_path):
    here = shutil.copytree(run, tmp_path / "runs")
    root = here / "toys"
    images = StageFolder.open(next(p.parent for p in root.glob("images-*/done.json")))
    from synth.export.config import ContactSheetConfig

    sheet = child(root, "contact_sheet", ContactSheetConfig(columns=2, tile=32, max_classes=3, out=""), {"images": [images]})
    sheet.out_dir.mkdir(parents=True)
    (sheet.out_dir / "contact_sheet.png").write_bytes(b"png")
    html = page(gather(here, print), root / "report.html")
    assert f'<a href="./exports/{sheet.out_dir.name}/contact_sheet.png">' in html and "1 files, 3 bytes, not whole yet" in html


def test_a_hundred_thousand_units_are_told_in_seconds_and_less_than_ten_megabytes(tmp_path):
    root, units, workers = tmp_path / "runs" / "large", 100_000, 50
    table = table_stage(root, CAPTIONS, CLASSES, 24)
    small = images_stage(root, table, CAPTIONS, CLASSES)
    spec = StageSpec("images", "images", dump(IMAGES), units * 4, 4, 2, EXACT, small.spec.upstream, small.spec.inputs)
    large = StageFolder.create(root, spec)
    shutil.copytree(small.path / "units", large.path / "units", dirs_exist_ok=True)
    shutil.rmtree(small.path)
    for w in range(workers):
        own = range(w, units, workers)
        write_events(large, f"w{w}", start(0, w, f"n{w}"), opened(1), *(unit(2 + n, u, 1.0) for n, u in enumerate(own)), stop(3000, 3000.0))
    large.mark_done({"units": units, "slots": units * 4, "samples": units * 4, "tombstones": 0})
    begun = time.monotonic()
    found = gather(root, print)
    html = page(found, tmp_path / "report.html")
    print(f"{units:,} units: {time.monotonic() - begun:.1f} s, {len(html.encode()):,} bytes")
    assert found.totals.samples == 400_000 and found.totals.device_hours == pytest.approx(workers * 3000 / HOUR)
    assert len(html.encode()) < 10e6 and len(found.galleries[0].classes) == 3


def test_a_picture_takes_few_bytes_whatever_it_shows():
    def file(pixels) -> bytes:
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        return out.getvalue()

    noise = np.random.default_rng(0).integers(0, 255, (112, 112, 3), np.uint8)
    assert small(file(noise)).startswith(b"\xff\xd8\xff") and len(small(file(noise))) < 13_000
    assert small(file(noise[:4, :4])) == file(noise[:4, :4])  # small ones stay as they are


def test_of_more_points_than_a_page_bears_the_judge_part_is_a_table(monkeypatch, tmp_path, found):
    judged = comparable([point(0.4, {"images.seed": 1.0}), point(0.7, {"images.seed": 2.0})])
    whole = page(replace(found, judged=judged), tmp_path / "r.html")
    monkeypatch.setattr("launch.reporting.page.JUDGED", 1000)
    short = page(replace(found, judged=judged), tmp_path / "r.html")
    assert (
        "take images.seed=2" in whole and "take images.seed=2" in short and "accuracy against" in whole and "accuracy against" not in short
    )


def test_a_picture_of_a_judgement_that_is_gone_costs_its_part_alone(tmp_path, found):
    leaks = point(0.4, {}).facts["leaks"] | {"examples": [{"files": ["gone.png"], "names": ["a"], "similarity": 0.99}]}
    html = page(replace(found, judged=comparable([point(0.4, {}, leaks=leaks)])), tmp_path / "r.html")
    assert "pictures are left out: /nowhere/gone.png" in html and "<h2>Jobs</h2>" in html


def test_pauses_between_jobs_take_no_room_of_the_timeline(found):
    svg = timeline(found.jobs)
    widths = [float(w) for w in re.findall(r'<rect [^>]*?width="([0-9.]+)"', svg)]
    assert len(widths) == len(found.jobs) and max(widths) > 600  # years lie between these jobs and that of the captions
    stage, job = found.jobs[0]
    many = [(stage, replace(job, begun=1e6 * n, ended=1e6 * n + 1)) for n in range(120)]
    for drawn in (svg, timeline(many)):
        assert all(210 <= float(x) <= 940 for x in re.findall(r'<rect class="[a-z]+" x="([0-9.]+)"', drawn))


def test_watching_writes_the_page_anew_until_the_run_is_done(run, tmp_path, monkeypatch):
    here, out = shutil.copytree(run, tmp_path / "runs"), tmp_path / "report.html"
    half = StageFolder.open(next(p.parent for p in here.glob("toys/images-*/stage.json") if not (p.parent / "done.json").exists()))
    pages = []

    def sleep(seconds):
        pages.append(out.read_text())
        assert len(pages) < 5, "it never ends"
        if len(pages) == 2:
            half.mark_done({"units": 6, "slots": 24, "samples": 24, "tombstones": 0})

    monkeypatch.setattr(report.time, "sleep", sleep)
    assert report.main([str(here), "--out", str(out), "--watch", "7"]) == EXIT_OK
    assert len(pages) == 2 and all('http-equiv="refresh" content="7"' in p for p in pages)
    assert 'http-equiv="refresh"' not in out.read_text() and "done; 47 samples made" in out.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--watch"], "--watch: give --out FILE.html"),
        (["--watch", "--out", "a.parquet"], "--watch: give --out FILE.html"),
        (["--watch", "nan", "--out", "a.html"], "a number of seconds above 0"),
        (["--out", "a.parquet"], "holds no judgement"),
        (["--co2", "-1"], "grams of CO2"),
    ],
)
def test_what_it_cannot_do_is_refused(run, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    assert report.main([str(run), *words]) == EXIT_BAD_INPUT
    assert told in capsys.readouterr().err


def test_it_imports_no_torch_and_ends_with_the_line_that_writes_the_page(run):
    code = f"""import sys
from launch.report import main
assert main([{str(run)!r}]) == 0
print([m for m in ("torch", "diffusers", "transformers") if m in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    *_, line, heavy = done.stdout.splitlines()
    assert heavy == "[]" and line.startswith("with pictures: ") and line.endswith(f"{run} --out report.html")


def test_where_no_stage_can_be_read_the_page_says_so(tmp_path):
    (tmp_path / "toys" / "images-0123456789ab").mkdir(parents=True)
    (tmp_path / "toys" / "images-0123456789ab" / "stage.json").write_text("{")
    told: list[str] = []
    found = gather(tmp_path, told.append)
    assert not found.stages and len(told) == 1 and "stage.json" in page(found, tmp_path / "report.html")


def test_kinds_and_seeds_of_others_are_no_reason_to_stop(found):
    chosen = stage_of(found, "balance")
    by_path = {s.path: replace(s, kind="of tomorrow") for s in found.stages}
    assert taken_out(chosen, by_path) == chosen.tombstones
    sample = SimpleNamespace(slot=0, key="k", metadata={"seed": [1]}, size=1, read=lambda: png(0))
    assert _one(chosen, sample).seed is None
