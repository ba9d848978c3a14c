"""What sbatch and its wrappers print, and what the queue makes of it: a job that is queued is found, and submitted once.

The commands are programs of a few lines that keep their queue in files; tests/slurm has the real ones.
"""

import os
import time

import pytest

from launch.slurm import sbatch
from launch.slurm.policy import time_mends
from launch.slurm.sbatch import Queued, answer, submit
from synth.host import slurm
from synth.host.slurm import SlurmError
from tests.processes import wait_gone

# $1 is --parsable, $2 --job-name=NAME, or -M CLUSTER before them
TAKE = """
name=; cluster=; at=dev
for w in "$@"; do case $w in --job-name=*) name=${w#*=};; esac; done
[ "$1" = -M ] && cluster=$2 at=$2
id=$(( $(cat {d}/queue 2>/dev/null | wc -l) + 12 ))
echo "$at|$id|$name" >> {d}/queue
"""
SQUEUE = """
[ -e {d}/silent ] && {{ echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1; }}
at=dev; [ "$1" = -M ] && at=$2
while IFS='|' read -r cluster id name; do [ "$cluster" = "$at" ] && echo "$id PENDING 0 1000 $name"; done < {d}/queue 2>/dev/null
exit 0
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Gives sbatch a body; squeue lists what its part TAKE has queued."""

    def command(name: str, text: str) -> None:
        (tmp_path / name).write_text("#!/bin/bash\n" + text)
        (tmp_path / name).chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(slurm, "_name", "dev")
    monkeypatch.setattr(sbatch, "PAUSES", (0.01, 0.01))
    command("squeue", SQUEUE.format(d=tmp_path))
    command("scancel", f'echo "$@" >> {tmp_path}/cancelled')
    return lambda text: command("sbatch", text.replace("TAKE", TAKE).replace("{d}", str(tmp_path)))


def queue(tmp_path) -> list[str]:
    path = tmp_path / "queue"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(
    ("text", "job"),
    [
        ("12\n", Queued("12")),
        ("12;far\n", Queued("12", "far")),
        ("Submitted batch job 12\n", Queued("12")),
        ("sbatch: Submitted batch job 12 on cluster far\n", Queued("12", "far")),
        ("\x1b[1;32mSubmitted batch job 12\x1b[0m\n", Queued("12")),
        ("checking quota ... ok\n12;far\nbudget left: 800 h\n", Queued("12", "far")),
        ("Submitted batch job 12\n12;far\n", Queued("12")),
        ("800\n12\n", None),
        ("job accepted\n", None),
        ("", None),
    ],
)
def test_the_public_forms_of_an_answer_are_read(text, job):
    assert answer(text) == job


@pytest.mark.parametrize(
    "printed",
    [
        "echo $id",
        "echo $id; echo 'budget left: 800 h'",
        "echo 800; echo $id",
        "echo 'Submitted batch job' $id",
        "echo 800",
        "echo accepted",
        "",
        "echo $id; echo 'epilogue: invalid account' >&2; exit 1",
        "echo 'Socket timed out on send/recv operation' >&2; exit 1",
    ],
)
def test_whatever_a_wrapper_prints_the_array_is_found_and_queued_once(site, tmp_path, printed):
    site(f"TAKE\n{printed}\n")
    assert submit(["x.sbatch"], "images-1.0") == Queued("12", "dev", 1000.0)
    assert queue(tmp_path) == ["dev|12|images-1.0"]


def test_a_job_is_looked_for_on_the_cluster_that_took_it(site, tmp_path):
    site("TAKE\necho accepted\n")
    assert submit(["x.sbatch"], "images-1.0", "far") == Queued("12", "far", 1000.0)
    assert submit(["x.sbatch"], "images-1.gate", "far") == Queued("13", "far", 1000.0)


def test_a_site_that_gives_jobs_names_of_its_own_is_believed_what_it_answers(site, tmp_path):
    site('TAKE\nsed -i s/images-1.0/renamed/ "{d}/queue"\necho $id\n')
    assert submit(["x.sbatch"], "images-1.0") == Queued("12", "dev", 1000.0)


@pytest.mark.parametrize("words", ["Slurm backup controller in standby mode", "Unexpected message received", "an error of next year"])
def test_what_is_not_known_to_last_is_tried_again(site, tmp_path, words):
    site(f"if [ ! -e {{d}}/once ]; then touch {{d}}/once; echo 'Batch job submission failed: {words}' >&2; exit 1; fi\nTAKE\necho $id\n")
    assert submit(["x.sbatch"], "images-1.0").job == "12" and len(queue(tmp_path)) == 1


@pytest.mark.parametrize(
    "words",
    [
        "Invalid account or account/partition combination specified",
        "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
        "Requested node configuration is not available",
        "Access/permission denied",
    ],
)
def test_what_is_known_to_last_ends_at_once(site, tmp_path, words):
    site(f'echo x >> {{d}}/asked; echo "sbatch: error: Batch job submission failed: {words}" >&2; exit 1\n')
    with pytest.raises(SlurmError, match=words.partition(" ")[0]) as caught:
        submit(["x.sbatch"], "images-1.0")
    assert not caught.value.passing and not caught.value.unsure and (tmp_path / "asked").read_text() == "x\n"


def test_where_nobody_answers_it_is_said_that_nobody_knows(site, tmp_path):
    site("TAKE\ntouch {d}/silent; exit 1\n")
    with pytest.raises(SlurmError, match=r"whether the job images-1\.0 is queued is not known") as caught:
        submit(["x.sbatch"], "images-1.0", patience=0.05)
    assert caught.value.unsure and caught.value.passing and len(queue(tmp_path)) == 1


def test_an_answer_that_names_no_job_while_none_is_queued_is_no_success(site):
    site("echo thank you\n")
    with pytest.raises(SlurmError, match="'thank you', which names no job") as caught:
        submit(["x.sbatch"], "images-1.0", patience=0.05)
    assert caught.value.unsure


def test_of_two_jobs_that_a_wrapper_made_of_one_the_second_is_cancelled(site, tmp_path):
    site("TAKE\nfirst=$id\nTAKE\necho $first\n")
    assert submit(["x.sbatch"], "images-1.0").job == "12" and (tmp_path / "cancelled").read_text() == "13\n"


def test_a_ctrl_c_at_the_terminal_does_not_reach_sbatch(site, tmp_path):
    """It is sent to the whole group of the launcher, and would cut off the answer of an sbatch that has queued its job."""
    site("TAKE\nps -o pgid= -p $$ > {d}/group; echo $id\n")
    submit(["x.sbatch"], "images-1.0")
    assert int((tmp_path / "group").read_text()) != os.getpgrp()


def test_a_controller_that_stays_away_is_asked_for_a_bounded_time(site, tmp_path):
    site("echo x >> {d}/asked; echo 'Unable to contact slurm controller' >&2; exit 1\n")
    begun = time.monotonic()
    with pytest.raises(SlurmError, match="Unable to contact") as caught:
        submit(["x.sbatch"], "images-1.0", patience=3)
    assert (
        caught.value.passing and caught.value.unsure and time.monotonic() - begun < 20 and len((tmp_path / "asked").read_text().split()) > 1
    )


@pytest.mark.parametrize(
    "body",
    [
        # MaxJobCount: sbatch does not come back for minutes
        "echo 'sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying' >&2; sleep 30 & wait",
        "echo 'sbatch: error: Slurm job queue full, sleeping and retrying' >&2; sleep 30 & wait",
        "echo 'Batch job submission failed: Required partition not available (inactive or drain)' >&2; exit 1",
    ],
)
def test_a_full_controller_and_a_closed_partition_are_known_as_such_and_nothing_is_queued(site, tmp_path, monkeypatch, body):
    """So that the launcher says that there is no room, leaves no open record, and a gate goes back into the queue."""
    site(f"echo x >> {{d}}/asked; {body}\n")
    monkeypatch.setattr(slurm, "CALL", 0.5)
    with pytest.raises(SlurmError) as caught:
        submit(["x.sbatch"], "images-1.0")
    assert time_mends(str(caught.value)) and not caught.value.unsure and (tmp_path / "asked").read_text() == "x\n"


def test_a_job_that_a_full_controller_took_at_last_is_found(site, tmp_path, monkeypatch):
    site("echo 'sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying' >&2\nTAKE\nsleep 30 & wait\n")
    monkeypatch.setattr(slurm, "CALL", 0.5)
    assert submit(["x.sbatch"], "images-1.0") == Queued("12", "dev", 1000.0) and len(queue(tmp_path)) == 1


def test_what_is_said_before_no_answer_comes_makes_that_no_refusal(site, monkeypatch):
    """The words of a wrapper on its way are not sbatch's last."""
    site("echo 'budget: no such file' >&2; sleep 600 & wait\n")
    for seconds in (0.5, 5, 50):  # that a busy machine may need to start a shell
        monkeypatch.setattr(slurm, "CALL", seconds)
        with pytest.raises(SlurmError, match="no answer") as caught:
            submit(["x.sbatch"], "images-1.0", patience=0.0)
        if "budget" in str(caught.value):
            break
    assert "budget" in str(caught.value) and caught.value.passing and caught.value.unsure


def test_what_a_wrapper_started_ends_with_it_when_no_answer_comes(site, tmp_path, monkeypatch):
    """Were the real sbatch left alone, it could queue the array after it was looked for, beside the one of the next try."""
    site("(echo $BASHPID > {d}/child; sleep 30; touch {d}/late) & wait\n")
    (tmp_path / "child").touch()
    for seconds in (0.2, 2, 20):  # that a busy machine may need to start a shell
        monkeypatch.setattr(slurm, "CALL", seconds)
        with pytest.raises(SlurmError, match=rf"no answer in {seconds} s"):
            submit(["x.sbatch"], "images-1.0", patience=0.0)
        if child := (tmp_path / "child").read_text():
            break
    assert child, "no shell was started in time"
    wait_gone([int(child)])
    assert not (tmp_path / "late").exists()
