"""Commands of Slurm, played by scripts."""

import time

import pytest

from synth.host.slurm import SlurmError, ask, at, call, command, federation, hides_jobs, home, job_states, seen
from synth.host.squeue import Seen


@pytest.mark.parametrize(
    ("said", "hides"), [("none", False), ("jobs", True), ("accounts,jobs,usage", True), ("Events, Jobs", True), ("usage", False)]
)
def test_whether_a_site_hides_jobs_is_read_off_its_config(monkeypatch, said, hides):
    monkeypatch.setattr("synth.host.slurm._config", {"PrivateData": said})
    assert hides_jobs() is hides


def test_a_missing_command_is_no_error(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert command("squeue", "-h") is None
    assert ask("squeue", "-h") == "" and job_states("11") is None
    with pytest.raises(SlurmError, match="squeue: not found on this machine"):
        call("squeue", "-h")


def script(folder, monkeypatch, text):
    """A squeue of our own."""
    (folder / "squeue").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_commands_run_without_input_and_without_the_variables_of_an_enclosing_job(tmp_path, monkeypatch):
    script(tmp_path, monkeypatch, 'cat; echo "$SLURM_CONF $SQUEUE_FORMAT $SLURM_JOB_ID $SLURM_TIME_FORMAT"')
    for name in ("SLURM_CONF", "SQUEUE_FORMAT", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, name)
    assert ask("squeue") == "SLURM_CONF   %s\n"


def test_a_command_that_does_not_answer_in_time_is_like_a_controller_that_is_away(tmp_path, monkeypatch):
    script(tmp_path, monkeypatch, "sleep 60")
    assert command("squeue", timeout=0.1) == (124, "", "Socket timed out: no answer in 0.1 s") and job_states("11", timeout=0.1) is None
    monkeypatch.setattr("synth.host.slurm.CALL", 0.1)
    with pytest.raises(SlurmError, match="Socket timed out"):
        call("squeue", patience=0.0)


def test_a_controller_that_is_away_is_waited_for_and_a_refusal_is_not(tmp_path, monkeypatch):
    away = "echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1"
    script(tmp_path, monkeypatch, f"[ -e {tmp_path}/back ] && echo here && exit; touch {tmp_path}/back; {away}")
    assert call("squeue") == "here\n"
    script(tmp_path, monkeypatch, f"echo x >> {tmp_path}/asked; echo Invalid user id >&2; exit 1")
    with pytest.raises(SlurmError, match="squeue: Invalid user id"):
        call("squeue")
    assert (tmp_path / "asked").read_text() == "x\n"


def test_a_controller_that_is_silent_is_not_asked_for_its_config_again_and_never_longer_than_a_caller_waits(tmp_path, monkeypatch):
    """A look at a screen asks it for every job of every stage."""
    script(tmp_path, monkeypatch, "exit 1")
    told = f"[ -e {tmp_path}/back ] && echo ClusterName=dev || sleep 60"
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho x >> {tmp_path}/asked; {told}\n")
    (tmp_path / "scontrol").chmod(0o755)
    for seconds in (0.2, 2, 10):  # that a busy machine may need to start a shell
        for name, unknown in (("_config", {}), ("_name", ""), ("_again", 0.0)):
            monkeypatch.setattr(f"synth.host.slurm.{name}", unknown)
        (tmp_path / "asked").write_text("")
        began = time.monotonic()
        assert home("", seconds) == "" and time.monotonic() - began < seconds + 5
        if (tmp_path / "asked").read_text() == "x\n":
            break
    assert command("squeue", cluster="far") == (1, "", "") and not hides_jobs()
    assert (tmp_path / "asked").read_text() == "x\n"
    (tmp_path / "back").touch()
    script(tmp_path, monkeypatch, "exit 0")
    assert call("squeue") == "" and home("") == "dev"  # once it has answered it is asked


# scontrol show federation of 22.05, on far
FEDERATION = """Federation: both
Self:       far:127.0.0.1:30040 ID:2 FedState:ACTIVE Features:
Sibling:    dev:127.0.0.1:30000 ID:1 FedState:ACTIVE Features: PersistConnSend/Recv:Yes/Yes Synced:Yes"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A site of fake tools, which nobody has asked yet: site(scontrol, squeue)."""

    def tools(scontrol, squeue="exit 0"):
        script(tmp_path, monkeypatch, squeue)
        (tmp_path / "scontrol").write_text(f"#!/bin/sh\n[ $2 = config ] && echo ClusterName=far && exit\n{scontrol}\n")
        (tmp_path / "scontrol").chmod(0o755)
        for name, unknown in (("_config", {}), ("_name", ""), ("_again", 0.0), ("_federation", None)):
            monkeypatch.setattr(f"synth.host.slurm.{name}", unknown)

    return tools


@pytest.mark.parametrize(
    ("scontrol", "siblings", "bound"),
    [
        (f"cat <<E\n{FEDERATION}\nE", ("far", "dev"), ("-M", "far")),
        ("exit 0", (), ()),  # a cluster alone
        ("echo Unable to contact slurm controller >&2; exit 1", None, None),
        ("echo Access/permission denied >&2; exit 1", (), ()),
    ],
)
def test_sbatch_is_bound_to_its_own_cluster_where_that_has_siblings(site, scontrol, siblings, bound):
    site(scontrol)
    assert federation() == siblings
    if bound is None:
        with pytest.raises(SlurmError, match="show federation: no answer") as e:
            at("", "sbatch")
        assert e.value.passing
    else:
        assert at("", "sbatch") == at("far", "sbatch") == bound
    assert at("dev", "sbatch") == at("dev", "squeue") == ("-M", "dev")
    assert at("far", "squeue") == at("", "sacct") == ("--local",) and at("", "scancel") == at("far", "scontrol") == ()


def test_what_a_sibling_has_begun_is_asked_there_and_copies_are_no_jobs(site):
    """The copies that were not begun have the number of no job in 22.05."""
    there = "67108897 RUNNING 1 1795236000 gate"
    here = "67108897 REVOKED 0 1795236000 gate\n67108898 PENDING 0 1795236001 gate\n4294967294 REVOKED 0 1795236002 gate"
    site(f"cat <<E\n{FEDERATION}\nE", f'case "$*" in *"-M dev"*) echo "{there}" ;; *) echo "{here}" ;; esac')
    assert seen(["67108897", "67108898"])[-1] == Seen("67108897", "RUNNING", 1, 1795236000.0, "gate")
    assert [task.job for task in seen(names=["gate"])] == ["67108898"]
    site(f"cat <<E\n{FEDERATION}\nE", f'case "$*" in *"-M dev"*) exit 1 ;; *) echo "{here}" ;; esac')
    assert seen(["67108897"]) is None  # it may run
