"""notify.command on a real Slurm: the last gate of a run tells its user, once."""

from tests.slurm.launching import launch, settle, wait_whole, whole

CHAIN = ("recipe=probe_chain", "probe.slots=8", "probe.unit_size=4", "cluster.n_jobs=2")


def test_the_last_gate_tells_how_a_sweep_ended_and_the_one_that_gives_up_tells_why(cluster, tmp_path):
    script, told = tmp_path / "tell.sh", tmp_path / "told"
    script.write_text(f'#!/bin/sh\necho "$SYNTHSET_OUTCOME $SYNTHSET_EXIT_CODE $SYNTHSET_DATASET $SLURM_JOB_ID" >>{told}\nexit 9\n')
    script.chmod(0o755)
    notify = f"notify.command={script}"
    runs = tmp_path / "runs"
    launch(cluster, runs, "-m", "seed=0,1", *CHAIN, notify)
    wait_whole(cluster, runs)
    cluster.wait_for("the news", told.exists)
    settle(cluster)
    (line,) = told.read_text().splitlines()
    assert line.startswith("done 0 probe_chain ") and line.rpartition(" ")[2].isdigit(), "told by a job"
    broken = tmp_path / "broken"
    launch(cluster, broken, *CHAIN, notify, "probe.behaviour={3:{raise:bug}}", "cluster.heal=0")
    cluster.wait_for("the news", lambda: len(told.read_text().splitlines()) == 2)
    settle(cluster)
    assert told.read_text().splitlines()[1].startswith("failed 65 probe_chain ") and not whole(broken)


def test_a_try_is_one_job_a_stage_and_ends_with_the_command_that_shows_it(cluster, tmp_path):
    said = launch(cluster, tmp_path / "runs", "try=3", "recipe=probe_chain", "probe.unit_size=1", "cluster.n_jobs=4")
    assert said.count("n_jobs 1;") == 3 and "try=3: first 3 of 64, second 3 of 64, third 3 of 64" in said
    assert f"report.py {tmp_path / 'runs' / 'try' / 'probe_chain'}" in said
    wait_whole(cluster, tmp_path / "runs" / "try")
    settle(cluster)
