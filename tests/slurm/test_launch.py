"""cluster=slurm on a real Slurm: sweeps, the same command again, limits, refusals, two launchers at once."""

import subprocess
import sys

import pytest
from rich.console import Console

from launch.config.compose import Composer, typed
from launch.plan.graph import plan_point
from launch.slurm.site import precheck, site_of
from launch.slurm.submissions import ABANDONED, read
from synth.errors import InputError
from synth.store.events import read_events
from tests.slurm.devcluster import running
from tests.slurm.launching import QUICK, RUN, SMALL, jobs, launch, local, settle, stage, stages, units, wait_whole, whole

CHAIN = ("recipe=probe_chain", "probe.slots=24", "probe.unit_size=4")
LONG = (
    "recipe=probe_chain",
    "until=second",
    "probe.slots=96",
    "probe.unit_size=4",
)  # with a sleep of 0.5 s a batch: 6 s for two workers
# the last slot of the first stage hangs until `unstuck`, so that the stage is not whole before it is cancelled
STUCK = ("probe.behaviour={95:{hang:true,times:1,on:node1}}", "cluster.nodelist=node1")


def unstuck(folder) -> None:
    (folder.path / "logs" / "probe-95-0").touch()


def test_a_sweep_of_chains_makes_the_same_bytes_as_on_one_machine_and_runs_once(cluster, tmp_path):
    runs = tmp_path / "runs"
    said = launch(cluster, runs, "-m", "seed=0,1", *CHAIN, "cluster.n_jobs=3")
    assert said.count("gate") == 6 and "n_jobs 3" in said and "logs" in said
    assert {len(read(s.path)) for s in stages(runs)} == {1}
    again = launch(cluster, runs, "-m", "seed=0,1", *CHAIN, "cluster.n_jobs=5")
    assert "array" not in again.replace("left alone", "") or whole(runs)
    wait_whole(cluster, runs)
    settle(cluster)
    # one that ends between two looks of the second command leaves a record that was taken back
    assert {len([r for r in read(s.path) if r.state != ABANDONED]) for s in stages(runs)} == {1}
    assert "Everything was done already" in launch(cluster, runs, "-m", "seed=0,1", *CHAIN)
    local(cluster, tmp_path / "local", "-m", "seed=0,1", *CHAIN)
    assert units(runs) == units(tmp_path / "local")


def test_a_stage_that_two_points_share_is_submitted_once(cluster, tmp_path):
    runs = tmp_path / "runs"
    said = launch(cluster, runs, "-m", "probe.slots=8", "recipe=probe", "cluster.n_jobs=2,2", code=0)
    assert said.count("gate") == 1
    wait_whole(cluster, runs)
    settle(cluster)


def test_a_cancelled_task_is_repaired_by_the_gate_and_a_cancelled_stage_by_the_same_command(cluster, tmp_path):
    runs = tmp_path / "runs"
    slow = (*LONG, *STUCK, "probe.sleep=0.5", "cluster.n_jobs=2", "cluster.heal=0")
    launch(cluster, runs, *slow)
    first = stage(runs, "first")
    unstuck(stage(runs, "second"))
    cluster.wait_for("work", lambda: first.progress() >= 2)
    cluster.run("scancel", jobs(first)[0])
    unstuck(first)
    cluster.wait_for("the verdict", lambda: (first.path / "missing.json").exists())
    settle(cluster)
    assert not stage(runs, "second").progress() and not whole(runs)
    assert "launch/run.py" in (first.path / "missing.json").read_text()
    launch(cluster, runs, *[a.replace("n_jobs=2", "n_jobs=4") for a in slow])
    assert not (first.path / "missing.json").exists()
    wait_whole(cluster, runs)
    settle(cluster)
    assert len(read(first.path)) == 2


def test_a_gate_heals_what_was_cancelled_and_moves_what_waits(cluster, tmp_path):
    runs = tmp_path / "runs"
    launch(cluster, runs, *LONG, *STUCK, "probe.sleep=0.5", "cluster.n_jobs=2")
    first, second = stage(runs, "first"), stage(runs, "second")
    unstuck(second)
    cluster.wait_for("work", lambda: first.progress() >= 2)
    cluster.run("scancel", jobs(first)[0])
    unstuck(first)
    wait_whole(cluster, runs)
    settle(cluster)
    assert len(read(first.path)) == 2 and len(read(second.path)) == 1
    local(cluster, tmp_path / "local", *LONG, STUCK[0], "probe.sleep=0.5", n_jobs=6)
    assert units(runs) == units(tmp_path / "local")


def test_held_jobs_are_released_by_the_same_command(cluster, tmp_path):
    runs = tmp_path / "runs"
    args = (*LONG, *STUCK, "probe.sleep=0.5", "cluster.n_jobs=2", "cluster.heal=0", "cluster.on_missing=hold")
    launch(cluster, runs, *args)
    first, second = stage(runs, "first"), stage(runs, "second")
    unstuck(second)
    cluster.wait_for("work", lambda: first.progress() >= 2)
    cluster.run("scancel", jobs(first)[0])
    unstuck(first)
    waiting = jobs(second)[0]
    cluster.wait_for("held jobs", lambda: "held" in cluster.run("squeue", "-h", "-j", waiting, "-o", "%r", check=False).stdout.lower())
    said = launch(cluster, runs, *args)
    assert f"left alone: {waiting}" in said
    wait_whole(cluster, runs)
    settle(cluster)
    assert len(read(second.path)) == 1


def test_two_people_at_once_submit_each_stage_once(cluster, tmp_path):
    runs = tmp_path / "runs"
    command = [
        sys.executable,
        str(RUN),
        *CHAIN,
        "cluster=slurm",
        "cluster.n_jobs=2",
        "probe.sleep=0.2",
        f"runs_dir={runs}",
        *SMALL,
    ]
    both = [
        subprocess.Popen(command, env=cluster.env | QUICK, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)
    ]
    said = [p.communicate(timeout=400)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0], said
    wait_whole(cluster, runs)
    settle(cluster)
    for folder in stages(runs):
        assert len([s for s in read(folder.path) if s.state != ABANDONED and s.arrays]) == 1, said


def test_a_launcher_killed_between_intent_and_job_ids_is_taken_over(cluster, tmp_path):
    runs = tmp_path / "runs"
    shim = tmp_path / "bin"
    shim.mkdir()
    (shim / "sbatch").write_text('#!/bin/bash\ncase "$*" in *--test-only*) exit 0;; esac\n/usr/bin/sbatch "$@"\nkill -9 $PPID\n')
    (shim / "sbatch").chmod(0o755)
    launch(cluster, runs, "recipe=probe", "probe.sleep=0.3", "cluster.n_jobs=2", code=-9, PATH=f"{shim}:{cluster.env['PATH']}")
    folder = stage(runs, "probe")
    assert read(folder.path)[0].arrays == ()
    said = launch(cluster, runs, "recipe=probe", "probe.sleep=0.3", "cluster.n_jobs=2")
    wait_whole(cluster, runs)
    settle(cluster)
    assert len([a for s in read(folder.path) for a in s.arrays]) <= 2, said


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("cluster.partition=mian", "did you mean main"),
        ("cluster.stages.probe.gpus_per_job=9", "gpu:4"),
        ("cluster.stages.probe.gres=tpu:1", "gres"),
        ("cluster.stages.probe.mem=1T", "mem"),
        ("cluster.constraint=nope", "cluster.constraint=nope"),
        ("cluster.nodelist=nope", "cluster.nodelist=nope"),
        ("+cluster.extra.nonsense=1", "extra"),
        ("+cluster.extra.reservation=nope", "reservation"),
    ],
)
def test_what_the_site_does_not_have_is_an_error_that_names_the_key(cluster, tmp_path, monkeypatch, wrong, says):
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, cluster.env[name])
    small = ("cluster.cpus_per_job=1", "cluster.workers_per_job=1")
    point = plan_point(typed(Composer().compose(["recipe=probe", "cluster=slurm", *small, f"runs_dir={tmp_path}/runs", wrong])))
    with pytest.raises(InputError, match=says):
        precheck(point.stages, site_of(point.cluster), Console())


def test_a_wrong_key_is_refused_before_anything_is_written_or_queued(cluster, tmp_path):
    for wrong, says in (
        ("cluster.constraint=nope", "cluster.constraint=nope"),
        ("cluster.stages.probe.time=soon", "not a time"),
    ):
        said = launch(cluster, tmp_path / "runs", "recipe=probe", wrong, code=65)
        assert says in said and said.startswith("error: "), said
    assert not (tmp_path / "runs").exists() and not cluster.run("squeue", "-h").stdout


def test_nothing_of_an_enclosing_job_leaks_into_the_submission(cluster, tmp_path):
    runs = tmp_path / "runs"
    launch(
        cluster,
        runs,
        "recipe=probe",
        "cluster.n_jobs=1",
        SLURM_CPU_BIND="quiet,mask_cpu:0x1",
        SBATCH_CPU_BIND="mask_cpu:0x1",
        SLURM_PARTITION="nope",
        SLURM_JOB_ACCOUNT="nope",
        SLURM_JOB_ID="99",
        SLURM_MEM_PER_CPU="7",
        SLURM_ARRAY_TASK_ID="5",
    )
    wait_whole(cluster, runs)
    settle(cluster)


def test_ctrl_c_while_submitting_says_what_is_queued_and_how_it_is_taken_out(cluster, tmp_path):
    """It comes while sbatch runs. The array of the first stage gets its gate, and the second stage is not begun."""
    runs = tmp_path / "runs"
    shim = tmp_path / "bin"
    shim.mkdir()
    (shim / "sbatch").write_text(
        '#!/bin/bash\ncase "$*" in *--test-only*) exit 0;; esac\nout=$(/usr/bin/sbatch "$@")\n'
        f'[ -e {shim}/sent ] || {{ touch {shim}/sent; kill -INT $PPID; sleep 0.3; }}\necho "$out"\n'
    )
    (shim / "sbatch").chmod(0o755)
    said = launch(cluster, runs, *LONG, "probe.sleep=5", "cluster.n_jobs=2", code=75, PATH=f"{shim}:{cluster.env['PATH']}")
    array, gate = jobs(stage(runs, "first"))
    assert f"-{stage(runs, 'first').path.name.partition('-')[2]}: {array} {gate}" in said and "second: not submitted: stopped" in said, said
    line = said.partition("To cancel them:")[2].splitlines()[1].split()
    assert "launch/cancel.py" in line[1], said
    cluster.run(*line, cwd=tmp_path)
    settle(cluster)


def test_each_worker_of_a_whole_node_job_has_its_own_gpus(cluster, tmp_path):
    runs = tmp_path / "runs"
    launch(
        cluster,
        runs,
        "recipe=probe",
        "probe.sleep=2",  # so that none finds the stage whole when it comes
        "cluster.n_jobs=2",
        "cluster.stages.probe.gpus_per_job=4",
        "cluster.cpus_per_job=4",
    )
    wait_whole(cluster, runs)
    settle(cluster)
    starts = [e for e in read_events(stage(runs, "probe").path) if e["event"] == "start"]
    assert sorted((e["job_idx"], e["devices"]) for e in starts) == [(i, str(i % 4)) for i in range(8)]
    assert {e["n_jobs"] for e in starts} == {8}


def test_arrays_are_split_at_max_array_size_and_fitted_into_a_submit_limit(tmp_path):
    with running(NODES=2, DBD=0, MAX_ARRAY=10) as small:
        runs = tmp_path / "runs"
        said = launch(small, runs, "recipe=probe", "probe.slots=184", "cluster.n_jobs=23", "cluster.max_parallel=9")
        folder = stage(runs, "probe")
        assert [(a.tasks, a.offset) for a in read(folder.path)[0].arrays] == [(10, 0), (10, 10), (3, 20)], said
        wait_whole(small, runs)
        settle(small)
        limited = tmp_path / "limited"
        said = launch(small, limited, *CHAIN, "cluster.n_jobs=6", "cluster.max_submit=9")
        assert sum(a.tasks + 1 for s in stages(limited) for a in read(s.path)[0].arrays) <= 9, said
        wait_whole(small, limited)
        settle(small)


def test_without_rights_on_the_nodes_the_next_stage_ends_within_a_second_and_names_the_command(cluster, tmp_path):
    """scontrol, sbatch, squeue and scancel are refused inside jobs."""
    runs = tmp_path / "runs"
    shim = tmp_path / "bin"
    args = (*LONG, *STUCK, "probe.sleep=0.5", "cluster.n_jobs=2")
    launch(cluster, runs, *args, PATH=f"{shim}:{cluster.env['PATH']}")
    shim.mkdir()
    for name in ("sbatch", "scontrol", "scancel", "squeue"):
        (shim / name).write_text(f"#!/bin/bash\necho '{name}: Access/permission denied' >&2\nexit 1\n")
        (shim / name).chmod(0o755)
    first, second = stage(runs, "first"), stage(runs, "second")
    unstuck(second)
    cluster.wait_for("work", lambda: first.progress() >= 2)
    cluster.run("scancel", jobs(first)[0])
    unstuck(first)
    settle(cluster)
    assert "permission denied" in (first.path / "missing.json").read_text()
    assert set(cluster.exit_codes(jobs(second)[0]).values()) == {65} and second.progress() == 0
    log = next((second.path / "logs").glob("*_0.log")).read_text()
    assert "is not whole" in log and "launch/run.py" in log and "permission denied" in log
    seconds = cluster.run("scontrol", "-o", "show", "job", jobs(second)[0]).stdout
    assert all(int(word.rpartition(":")[2]) <= 2 for word in seconds.split() if word.startswith("RunTime="))
    launch(cluster, runs, *args)
    wait_whole(cluster, runs)
    settle(cluster)


def test_dry_run_prints_the_exact_script_and_writes_nothing(cluster, tmp_path):
    said = launch(cluster, tmp_path / "runs", *CHAIN, "dry_run=true")
    assert said.count("#!/bin/bash") == 6 and "#SBATCH --array=0-5" in said
    assert not (tmp_path / "runs").exists() and not cluster.run("squeue", "-h").stdout
    assert "did you mean main" in launch(cluster, tmp_path / "runs", *CHAIN, "dry_run=true", "cluster.partition=mian", code=65)
