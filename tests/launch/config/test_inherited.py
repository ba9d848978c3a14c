"""Variables of sbatch in the environment of who submits."""

from dataclasses import replace

import pytest

from launch.config.inherited import assignments, inherited, notes, payer
from synth.errors import InputError
from tests.launch.slurm.test_resources import cluster

PLAIN = cluster()
WISHES = {"SBATCH_ACCOUNT": "lab", "SBATCH_PARTITION": "gpu", "SBATCH_QOS": "long", "SBATCH_CONSTRAINT": "a100", "SLURM_CLUSTERS": "far"}


def test_variables_of_sbatch_stand_where_keys_are_null():
    found = inherited(PLAIN, WISHES)
    assert (found.account, found.partition, found.qos, found.constraint, found.clusters) == ("lab", "gpu", "long", "a100", "far")
    (said,) = notes(found, WISHES)
    assert said.startswith("from the environment: SBATCH_ACCOUNT=lab (cluster.account), ")
    assert said.endswith("SLURM_CLUSTERS=far (cluster.clusters)")
    assert assignments(found, WISHES).startswith("SBATCH_ACCOUNT=lab ") and assignments(PLAIN, WISHES) == ""
    assert payer(found.account, WISHES) == {"lab": "SBATCH_ACCOUNT"} and payer(None, WISHES) == payer("other", WISHES) == {}


def test_a_key_goes_before_its_variable_and_that_is_said():
    found = inherited(replace(PLAIN, account="mine"), {"SBATCH_ACCOUNT": "lab", "SBATCH_TIMELIMIT": "10:00", "SBATCH_GRES": "gpu:8"})
    assert found.account == "mine" and found.time == PLAIN.time and found.gres is None
    said = notes(found, {"SBATCH_ACCOUNT": "lab", "SBATCH_TIMELIMIT": "10:00", "SBATCH_GRES": "gpu:8"})
    assert said == [
        "SBATCH_ACCOUNT=lab is not used: cluster.account=mine goes before it",
        f"SBATCH_TIMELIMIT=10:00 is not used: cluster.time={PLAIN.time} goes before it; null takes it",
        "SBATCH_GRES=gpu:8 is not used: set cluster.gres",
    ]
    assert inherited(replace(PLAIN, time=None), {"SBATCH_TIMELIMIT": "10:00"}).time == "10:00"


def test_options_without_a_key_are_more_flags_and_those_of_the_config_go_before_them():
    env = {"SBATCH_RESERVATION": "maint", "SBATCH_WCKEY": "paper", "SBATCH_EXCLUSIVE": ""}
    assert inherited(PLAIN, env).extra == {"reservation": "maint", "wckey": "paper", "exclusive": True}
    assert inherited(replace(PLAIN, extra={"reservation": "mine"}), env).extra["reservation"] == "mine"


def test_sbatch_has_a_variable_of_its_own_for_clusters_and_it_goes_before_that_of_all_commands():
    assert inherited(PLAIN, {"SLURM_CLUSTERS": "far", "SBATCH_CLUSTERS": "near"}).clusters == "near"


def test_what_belongs_to_an_enclosing_job_is_no_wish():
    names = ("SLURM_JOB_ACCOUNT", "SLURM_JOB_PARTITION", "SLURM_JOB_QOS", "SLURM_CLUSTER_NAME", "SBATCH_CPU_BIND", "SLURM_HINT")
    env = dict.fromkeys(names, "x")
    assert inherited(PLAIN, env) == PLAIN and notes(PLAIN, env) == []


@pytest.mark.parametrize("clusters", ["all", "far,all", "far;rm", "-x", "far,"])
def test_names_that_are_no_clusters_are_refused(clusters):
    with pytest.raises(InputError, match="SLURM_CLUSTERS="):
        inherited(PLAIN, {"SLURM_CLUSTERS": clusters})
    with pytest.raises(InputError, match=r"cluster\.clusters="):
        inherited(replace(PLAIN, clusters=clusters), {})
