"""kill -9 of a real worker: nothing that was answered is asked again, and no server is left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from synth.captions.remote.journal import totals
from synth.host.children import is_alive
from synth.store.folder import StageFolder
from tests.captions.remote.fake import OK, Fake, after
from tests.processes import wait_gone
from tests.stages import wait_for

REPO = Path(__file__).resolve().parents[3]


def fake(mark):
    """A server of ours that answers eight of the 24 requests, and the others once the mark is there."""
    return f"captioner.command=['{sys.executable}',-m,tests.captions.remote.fake,--port,'{{port}}',--until,'{mark}']"


def planned(tmp_path, *captioner):
    from launch.config.compose import Composer, typed
    from launch.plan.graph import plan_point

    few = ["dataset.classes=0..2", "captions.total=24", "captions.oversample=1", "captions.unit_size=24", "captions.window=24"]
    overrides = [
        *captioner,
        "captioner.model=m",
        "captioner.api=completions",
        "captioner.max_batch_size=2",
        *few,
        f"runs_dir={tmp_path}/runs",
    ]
    stage = next(s for s in plan_point(typed(Composer().compose(overrides))).stages if s.spec.kind == "captions")
    return StageFolder.create(stage.dataset_root, stage.spec)


def work(folder):
    command = [sys.executable, "-m", "synth.worker", str(folder.path), "--trust"]
    env = os.environ | {"PYTHONPATH": str(REPO), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(command, cwd=REPO, env=env, stderr=subprocess.DEVNULL)


def kill_when(folder, answers):
    worker = work(folder)
    wait_for(lambda: totals(folder.path).answers >= answers)
    pids = [int(p) for p in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()]
    pids += [int(c) for p in pids for c in Path(f"/proc/{p}/task/{p}/children").read_text().split()]
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    return pids


def test_answers_outlive_the_worker_that_got_them(tmp_path):
    mark = tmp_path / "go_on"
    with Fake([OK] * 8, default=after(mark)) as server:
        folder = planned(tmp_path, "captioner=openai", f"captioner.base_url={server.url}", "captioner.api_key_env=null")
        kill_when(folder, 5)
        mark.touch()
        journal = next((folder.path / "answers").iterdir())
        with open(journal, "ab") as f:  # as a kill in the middle of a write leaves it
            f.write(b'0123456789abcdef {"key": "half a li')
        kept = totals(folder.path).answers
        assert 5 <= kept < 24 and not folder.committed()
        assert work(folder).wait(240) == 0
        assert totals(folder.path).answers == 24
        assert 24 <= len(server.seen) <= 24 + 2  # at most what was under way when it died
    assert folder.done()["samples"] == 24


def test_a_server_ends_with_its_killed_worker_and_the_next_one_goes_on(tmp_path):
    mark = tmp_path / "go_on"
    folder = planned(tmp_path, "captioner=served", fake(mark))
    pids = kill_when(folder, 3)
    mark.touch()
    assert len(pids) == 2
    wait_gone(pids)
    assert work(folder).wait(240) == 0 and folder.done()["samples"] == 24
    assert totals(folder.path).answers == 24
    logs = sorted((folder.path / "logs").glob("server-*.log"))
    assert len(logs) == 2 and not any(
        is_alive(int(line.split()[-1])) for log in logs for line in log.read_text().splitlines() if line.startswith("fake server")
    )


def test_a_drain_lets_the_window_end_and_takes_the_server_along(tmp_path):
    """A scheduler's SIGTERM goes to every process of the job: the server must outlive it until the window is whole."""
    mark = tmp_path / "go_on"
    folder = planned(tmp_path, "captioner=served", fake(mark))
    worker = work(folder)
    wait_for(lambda: totals(folder.path).answers >= 3)
    pids = [int(p) for p in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()]
    pids += [int(c) for p in pids for c in Path(f"/proc/{p}/task/{p}/children").read_text().split()]
    for pid in (*pids, worker.pid):
        os.kill(pid, signal.SIGTERM)
    mark.touch()
    assert worker.wait(240) in (0, 75) and len(pids) == 2
    wait_gone(pids)
    assert totals(folder.path).answers == 24
