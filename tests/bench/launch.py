"""What the login-node side costs: python tests/bench/launch.py [--units 100000] [--workers 1000]. Prints a table, asserts nothing."""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO))

from launch.show.stages import report_on  # noqa: E402
from synth.keys import dump  # noqa: E402
from synth.numerics import EXACT  # noqa: E402
from synth.run.config import ProbeConfig  # noqa: E402
from synth.store import leases  # noqa: E402
from synth.store.folder import StageFolder  # noqa: E402
from synth.store.leases import Owner  # noqa: E402
from synth.store.spec import StageSpec  # noqa: E402


def big_stage(root: Path, units: int, workers: int) -> StageFolder:
    """A stage as it looks when 95 % of it is done: empty unit files, a lease a worker, and the events that they would have written."""
    folder = StageFolder.create(root, StageSpec("probe", "probe", dump(ProbeConfig()), units * 100, 100, 10, EXACT))
    done = units * 95 // 100
    for unit in range(done):
        path = folder.unit_path(unit)
        if unit % 1000 == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for n in range(workers):
        owner = Owner(f"node{n}-100-{n:06x}", f"node{n}", "elsewhere", 100, "1", f"dev/11_{n}")
        leases.create(folder.lease_path(done + n), done + n, 0, owner).close()
        lines = [
            {"event": "start", "time": 1.0, "job_idx": n},
            {"event": "open", "time": 2.0, "seconds": 1.0, "device": "NVIDIA H200"},
        ]
        per = done // workers
        lines += [
            {
                "event": "unit",
                "time": 3.0 + 30 * i,
                "unit": n + i * workers,
                "seconds": 30.1,
                "samples": 99,
                "tombstones": 1,
                "bytes": 1,
                "outcome": "ours",
            }
            for i in range(per)
        ]
        lines.append({"event": "pace", "time": 9e5, "units": per, "samples": 99 * per, "busy_s": 29.0 * per, "idle_s": 1.0 * per})
        (folder.path / "events" / f"{owner.worker}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def timed(what, repeat: int = 3) -> str:
    """Best of a few: seconds by the clock, and of processor time, which a busy machine does not change."""
    best = []
    for _ in range(repeat):
        begun, used = time.perf_counter(), os.times()
        what()
        now = os.times()
        best.append((time.perf_counter() - begun, sum(now[:4]) - sum(used[:4])))
    return f"{min(wall for wall, _ in best):8.2f} s{min(cpu for _, cpu in best):10.2f} s"


def submission(jobs: int) -> list[str]:
    """Lines about planning and submitting four stages to a real Slurm whose jobs do not start; none where there is no Slurm."""
    from tests.slurm.devcluster import NoCluster, start

    try:
        cluster, stop = start(NODES=1, DBD=0, MAX_ARRAY=jobs + 1)
    except NoCluster as e:
        return [f"no Slurm here: {e}"]
    root = Path(tempfile.mkdtemp(prefix="synthset-bench-"))
    overrides = [
        "-m",
        "seed=0,1",
        "recipe=probe_chain",
        "until=second",
        f"probe.slots={jobs}",
        "probe.unit_size=1",
        "cluster=slurm",
    ]
    overrides += [f"cluster.n_jobs={jobs}", "cluster.cpus_per_job=1", "+cluster.extra.begin=now+1hour", f"runs_dir={root}/runs"]
    try:
        dry, wet = ([sys.executable, str(REPO / "launch" / "run.py"), *overrides, *more] for more in (["dry_run=true"], []))
        lines = []
        for name, command in (
            ("planning 4 stages, with the test of their scripts", dry),
            (f"submitting 4 stages of {jobs:,} jobs", wet),
            ("the same again", wet),
        ):
            begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=cluster.env, cwd=root)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            lines.append(f"{name:<50}{time.perf_counter() - begun:8.2f} s{used:10.2f} s")
        made = [p for p in root.rglob("*") if p.is_file()]
        queued = len(cluster.run("squeue", "-h", "-r").stdout.splitlines())
        lines.append(f"{queued:,} jobs in the queue, {len(made)} files; the launcher took {after.ru_maxrss // 1024} MiB")
        return lines
    finally:
        stop()
        shutil.rmtree(root)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--units", type=int, default=100_000)
    p.add_argument("--workers", type=int, default=1000)
    p.add_argument("--jobs", type=int, default=1000)
    args = p.parse_args()
    for line in submission(args.jobs):
        print(line)
    root = Path(tempfile.mkdtemp(prefix="synthset-bench-"))
    try:
        begun = time.perf_counter()
        folder = big_stage(root, args.units, args.workers)
        made = time.perf_counter() - begun
        report = report_on(folder.path)
        assert report.committed == args.units * 95 // 100 and report.live == args.workers, report
        status = [sys.executable, str(REPO / "launch" / "status.py"), str(folder.path), "--no-slurm", "--json"]
        print(
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
            f"{args.units:,} units, {args.workers:,} workers"
        )
        print(f"{'':<44}{'clock':>10}{'processor':>12}")
        print(f"{'making the stage':<44}{made:8.2f} s")
        print(f"{'status.py as a command':<44}{timed(lambda: subprocess.run(status, check=True, stdout=subprocess.DEVNULL))}")
        print(f"{'report_on in a running --watch':<44}{timed(lambda: report_on(folder.path))}")
        print(f"{'committed(), one listing a thousand units':<44}{timed(folder.committed)}")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
