"""launch/doctor.py: each row, broken once, with readings that are made up or for real. The trial: test_doctor_trial.py."""

import json
import os
import time
from dataclasses import replace

import pytest

from launch.checkup import filesystem, packages, site
from launch.checkup import planned as of_plan
from launch.checkup.filesystem import Needs, Quota, Readings
from launch.checkup.rows import OK, UNKNOWN, WARN, WRONG, as_json, broken, exit_code, ok, unknown, wrong
from launch.checkup.site import Asked, Told
from launch.config.clusters import SlurmConfig
from launch.config.compose import Composer, typed
from launch.doctor import main, plan
from launch.plan.gpu_memory import GpuMemory
from launch.plan.graph import distinct
from launch.slurm import precheck
from launch.slurm.limits import Limits, Nodes, Partition
from launch.slurm.resources import resources_of
from launch.slurm.site import Site
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK
from synth.host import slurm as hanging
from synth.host.refusals import passing
from synth.host.slurm import SlurmError


def row(rows, what):
    """The row of this name; there is one."""
    (found,) = [r for r in rows if r.what == what]
    return found


# -- rows ------------------------------------------------------------------------------------------------------------


def test_only_what_is_wrong_makes_the_exit_code_and_json_has_every_row():
    parts = {"a": [ok("x", "y"), unknown("u", "why")], "b": [broken("disk", "full", "make room")]}
    told = json.loads(as_json(parts, {"login_only": True}))
    assert told["exit_code"] == EXIT_AGAIN and told["login_only"] and [r["verdict"] for r in told["rows"]] == [OK, UNKNOWN, WRONG]
    assert told["rows"][2] == {"part": "b", "what": "disk", "verdict": "wrong", "found": "full", "fix": "make room"}
    assert exit_code([*parts["b"], wrong("key", "")]) == EXIT_BAD_INPUT and exit_code(parts["a"]) == EXIT_OK


# -- packages --------------------------------------------------------------------------------------------------------


def test_a_package_that_is_too_old_or_not_there_is_named_with_the_line_to_type(tmp_path):
    (tmp_path / "setup.cfg").write_text(
        "[options]\npython_requires = >=3.11\ninstall_requires =\n    numpy>=1.26\n    torch>=2.6,<2.14\n    gone>=1\n"
    )
    have = {"numpy": "1.20.0", "torch": "2.13.0+cpu"}

    def version(name):
        if name not in have:
            raise packages.importlib.metadata.PackageNotFoundError(name)
        return have[name]

    rows = packages.rows(tmp_path, version)
    assert [(r.what, r.verdict) for r in rows] == [
        ("Python", OK),
        ("package numpy", WRONG),
        ("package gone", WRONG),
        ("packages", OK),
    ]
    assert rows[1].found == "1.20.0 is installed; >=1.26 is needed" and rows[1].fix.endswith("-m pip install 'numpy>=1.26'")
    assert rows[3].found == "torch 2.13.0+cpu"


def test_a_python_that_is_too_old_is_wrong(tmp_path):
    (tmp_path / "setup.cfg").write_text("[options]\npython_requires = >=9\ninstall_requires =\n")
    assert row(packages.rows(tmp_path), "Python").verdict == WRONG


def test_the_packages_of_this_repository_are_in_range():
    assert {r.verdict for r in packages.rows()} == {OK}


@pytest.mark.parametrize(
    ("build", "gpus", "driver", "verdict", "words"),
    [
        (("2.13", "13.0", ""), ("0",), "550.54.15", WRONG, "update the driver to 580 or later, or a build of torch for CUDA 12.6"),
        (("2.13", "13.0", ""), ("0",), "580.1", OK, ""),
        (("2.10", "12.8", ""), ("0",), "535.1", OK, ""),
        (("2.13", "13.0", ""), ("0",), "", UNKNOWN, ""),
        (("2.13+cpu", "", ""), ("0",), "550.1", WRONG, "pip install torch --index-url"),
        (("2.13+cpu", "", ""), (), "", OK, ""),
        (None, (), "", UNKNOWN, ""),
    ],
)
def test_a_driver_that_is_too_old_for_torch_is_told_before_anything_is_loaded(build, gpus, driver, verdict, words):
    found = packages.torch_row(build, gpus, driver)
    assert found.verdict == verdict and words in found.fix


def test_the_torch_of_jobs_is_that_of_this_python_or_not_known():
    assert packages.torch_of_jobs(("2.13+cpu", "", ""), same=True).verdict == WRONG
    assert packages.torch_of_jobs(("2.13+cpu", "", ""), same=False).verdict == UNKNOWN
    assert (
        packages.torch_of_jobs(("2.13", "13.0", ""), same=True).verdict == OK and packages.torch_of_jobs(None, same=True).verdict == UNKNOWN
    )


def test_the_build_of_torch_is_read_without_importing_it(tmp_path):
    (tmp_path / "version.py").write_text("__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n")
    assert packages.torch_build(tmp_path) == ("2.13.0+cu130", "13.0", "") and packages.torch_build(tmp_path / "nowhere") is None


# -- the plan --------------------------------------------------------------------------------------------------------


def test_a_torn_model_and_a_wrong_captioner_are_told_together(world):
    (world.path / "sd" / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"torn")
    found = plan([*world.overrides, "captioner.ckpt_dir=/nowhere"])
    rows = of_plan.rows(found, distinct(found.points))
    assert "/nowhere is not there" in row(rows, "captions").found and row(rows, "images").verdict == UNKNOWN
    torn = row(rows, "model")
    assert torn.verdict == WRONG and "diffusion_pytorch_model.safetensors" in torn.found and torn.fix
    assert exit_code(rows) == EXIT_BAD_INPUT


def test_a_mistake_on_the_command_line_is_a_row_and_the_machine_is_looked_at_all_the_same(world, capsys):
    assert main([*world.overrides, "images.stepz=3", "--login-only", "--json"]) == EXIT_BAD_INPUT
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert "images.steps" in next(r for r in rows if r["what"] == "config")["found"] and rows[0]["what"] == "Python"


def test_a_place_of_an_export_that_is_taken_is_told(world):
    (world.path / "mine").mkdir()
    (world.path / "mine" / "thesis.txt").write_text("of years")
    found = plan([*world.overrides, "export=[image_folder]", f"export.image_folder.out={world.path}/mine"])
    assert row(of_plan.rows(found, distinct(found.points)), "exports").verdict == WRONG


def test_files_are_told_with_sizes_and_licences(world):
    (world.path / "sd" / "README.md").write_text("---\nlicense: other\nlicense_name: openrail++\n---\n# A model\n")
    found = plan([*world.overrides])
    told = row(of_plan.rows(found, distinct(found.points)), "model")
    assert told.verdict == OK and "files; headers and shards are whole; licence openrail++" in told.found


def test_a_key_that_is_not_set_is_named_and_one_that_is_set_is_not_shown(world, monkeypatch):
    keys = ("captioner=openai", "captioner.model=m", "captioner.base_url=http://localhost:1/v1", "captioner.api_key_env=OF_MY_SERVER")
    overrides = [o for o in world.overrides if not o.startswith("captioner.")]
    monkeypatch.delenv("OF_MY_SERVER", raising=False)
    found = plan([*overrides, *keys])
    missing = row(of_plan.rows(found, distinct(found.points)), "captions")
    assert missing.verdict == WRONG and "OF_MY_SERVER: not set" in missing.found
    monkeypatch.setenv("OF_MY_SERVER", "sk-abcdefgh1234")
    found = plan([*overrides, *keys])
    rows = of_plan.rows(found, distinct(found.points))
    assert row(rows, "variable OF_MY_SERVER").verdict == OK and "sk-abcdefgh1234" not in repr(rows)
    assert of_plan.secrets(distinct(found.points), {})[0].verdict == WRONG


# -- the file system -------------------------------------------------------------------------------------------------

GOOD = Readings(filesystem.Path("/data"), "", "nfs4", True, True, 0.004, 10**12, 10**6)
SMALL = Needs(10**9, 1000)


def disk(needs=SMALL, elsewhere=False, **readings):
    return filesystem.rows(replace(GOOD, **readings), needs, filesystem.Path("/data"), elsewhere)


@pytest.mark.parametrize(
    ("readings", "needs", "what", "verdict", "words"),
    [
        ({"refusal": "Read-only file system"}, SMALL, "runs_dir", WRONG, "choose another folder: runs_dir=/path"),
        ({"renames": False}, SMALL, "runs_dir", WRONG, ""),
        ({"links": False}, SMALL, "hard links", WARN, "a runs_dir that has them"),
        ({"fsync_s": 0.7}, SMALL, "fsync", WARN, "larger units"),
        ({"free_bytes": 5 * 10**8}, SMALL, "free space", WRONG, "make room"),
        ({"free_bytes": 0}, Needs(None, 10), "free space", WRONG, "make room"),
        ({}, Needs(None, 10, "images"), "free space", UNKNOWN, ""),
        ({"free_files": 900}, SMALL, "free inodes", WRONG, "export=[webdataset]"),
        ({"free_files": None}, SMALL, "free inodes", OK, ""),
        ({"free_bytes": None, "free_files": None}, SMALL, "free inodes", UNKNOWN, ""),  # statvfs was refused
    ],
)
def test_a_disk_that_cannot_take_the_plan_is_told_with_its_figures(readings, needs, what, verdict, words):
    found = row(disk(needs, **readings), what)
    assert found.verdict == verdict and words in found.fix
    assert exit_code(disk(needs, **readings)) == (EXIT_AGAIN if verdict == WRONG else EXIT_OK)


def test_a_good_disk_is_ok_and_memory_of_this_machine_is_none_for_nodes():
    assert {r.verdict for r in disk()} == {OK}
    assert row(disk(kind="tmpfs", elsewhere=True), "runs_dir").verdict == WRONG and row(disk(kind="tmpfs"), "runs_dir").verdict == OK


def test_a_folder_is_probed_for_real_and_left_as_it_was(tmp_path):
    found = filesystem.probe(tmp_path / "runs" / "not there yet")
    assert (
        (found.folder, found.refusal, found.links, found.renames) == (tmp_path, "", True, True)
        and found.fsync_s > 0
        and found.free_bytes > 0
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_refuses_is_told_in_its_own_words(tmp_path, monkeypatch):
    def refuse(self, *args, **more):
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(filesystem.Path, "mkdir", refuse)
    assert filesystem.probe(tmp_path).refusal == "Read-only file system"


def test_quotas_of_both_programs_are_read_and_held_against_the_plan():
    text = "Disk quotas for user u (uid 1000): \n Filesystem blocks quota limit grace files quota limit grace\n /dev/a 900 0 1000 5 0 0\n"
    assert filesystem.parse_quotas(text) == [Quota("/dev/a", 900, 1000, 5, 0)]
    assert filesystem.parse_quotas("/lustre 1500* 1000 2000 6d 99 0 100 -") == [Quota("/lustre", 1500, 2000, 99, 100)]
    full = filesystem.quota_rows([Quota("/dev/a", 900, 1000, 5, 0)], SMALL)
    assert [r.verdict for r in full] == [WRONG] and exit_code(full) == EXIT_AGAIN
    assert filesystem.quota_rows([Quota("/lustre", 0, 0, 99, 100)], SMALL)[0].verdict == WRONG, "files"
    assert [r.verdict for r in filesystem.quota_rows([Quota("/dev/a", 1, 10**9, 5, 0)], SMALL)] == [OK]
    assert filesystem.quota_rows(None, SMALL)[0].verdict == UNKNOWN and filesystem.quota_rows([], SMALL)[0].verdict == OK
    assert filesystem.quotas(filesystem.Path("/data"), "nfs4", "u", lambda words: None) is None


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("Disk quotas for user u (uid 1000): none\n", []),
        ("", None),  # rquotad does not answer: words on stderr alone
        ("/lustre [1500] 1000 2000 - [99] 0 100 -\n", None),  # figures that lfs itself does not trust
        ("/lustre\n  1500 1000 2000 - 99 0 100 -\n", None),
    ],
)
def test_a_quota_that_nobody_told_is_not_none(said, found):
    assert filesystem.quotas(filesystem.Path("/data"), "lustre", "u", lambda words: said) == found


def test_inodes_are_those_of_the_plan(world):
    stages = world.point("captions.total=8", "images.unit_size=2").stages
    images, exported = (next(s.spec for s in stages if s.name == n) for n in ("images", "image_folder"))
    assert of_plan.files_of(images) == 4 + of_plan.A_STAGE and of_plan.files_of(exported) >= 8 + of_plan.A_STAGE


# -- Slurm -----------------------------------------------------------------------------------------------------------

NODE = Nodes(("gpu:a100:4",), 64, 512000, frozenset({"ib"}))
LIMITS = Limits(
    max_submit=100,
    partitions={
        "gpu": Partition("gpu", 86400, True, (NODE,), "", "REQUEUE"),
        "cpu": Partition("cpu", None, False, (Nodes((), 64, 512000),)),
    },
    accounts=("lab",),
)
CONFIG = {"SLURM_VERSION": "23.02.7", "ClusterName": "big", "AccountingStorageType": "accounting_storage/slurmdbd"}
CARD = GpuMemory(40.0, "Slurm")
TOLD = Told(CONFIG, LIMITS, {"qos long": "MaxWall=01:00:00", "account lab": ""}, frozenset({*site.COMMANDS, *site.COUNTED}))


def with_gpu(**facts) -> Told:
    """The site with another partition of GPUs."""
    return replace(TOLD, limits=replace(LIMITS, partitions={"gpu": replace(LIMITS.partitions["gpu"], **facts)}))


def slurm(*overrides) -> SlurmConfig:
    return typed(Composer().compose(["cluster=slurm", *overrides])).cluster


def asked(cluster, memory):
    return [
        Asked(("images",), resources_of(cluster, "images", {}), memory),
        Asked(("gate",), resources_of(cluster, "gate", {})),
    ]


def judged(*overrides, told=TOLD, memory=CARD):
    cluster = slurm(*overrides)
    return site.judged(asked(cluster, memory), told, cluster)


def test_a_site_that_has_all_is_ok():
    rows = judged("cluster.partition=gpu", "cluster.account=lab", "cluster.n_jobs=16")
    assert {r.verdict for r in rows} == {OK}, rows
    assert row(rows, "GPUs (images)").found == "gpu:a100:4 in gpu; a job asks for 1; planned for 40 GB each (Slurm)"


@pytest.mark.parametrize(
    ("overrides", "what", "verdict", "words"),
    [
        (["cluster.partition=cpu"], "GPUs (images)", WRONG, "those with GPUs: gpu"),
        (["cluster.partition=gpus"], "partition (images)", WRONG, "did you mean gpu?"),
        (["cluster.partition=gpu", "cluster.gpus_per_job=9"], "partition (images)", WRONG, "cluster.gpus_per_job"),
        (["cluster.account=laboratory"], "account", WRONG, "yours are lab"),
        (["cluster.requeue=false"], "requeue (images)", WARN, "cluster.requeue=true"),
        (["cluster.time='2-00:00:00'"], "time (images)", WARN, "lower cluster.time"),
        (["cluster.n_jobs=200"], "jobs in the queue", WARN, "cluster.n_jobs=99"),
    ],
)
def test_what_a_site_does_not_give_is_told_by_the_key(overrides, what, verdict, words):
    found = row(judged(*overrides), what)
    assert found.verdict == verdict and words in found.fix, found


@pytest.mark.parametrize(
    ("told", "what", "verdict"),
    [
        (replace(TOLD, config={}), "Slurm", WRONG),
        (replace(TOLD, commands=frozenset({"sbatch"})), "Slurm", WRONG),
        (replace(TOLD, config=CONFIG | {"AccountingStorageType": "accounting_storage/none"}), "accounting", WARN),
        (replace(TOLD, limits=replace(LIMITS, max_submit=1)), "jobs in the queue", WRONG),
        (replace(TOLD, limits=replace(LIMITS, max_submit=None)), "jobs in the queue", UNKNOWN),
        (replace(TOLD, limits=Limits()), "partition (images)", UNKNOWN),
        (with_gpu(nodes=(replace(NODE, up=False),)), "partition (images)", WRONG),
        (with_gpu(preempts="CANCEL"), "requeue (images)", WARN),
    ],
)  # fmt: skip
def test_what_a_site_says_of_itself_is_judged(told, what, verdict):
    assert row(judged(told=told), what).verdict == verdict


def test_of_a_controller_that_does_not_answer_nothing_more_is_said(world, monkeypatch):
    monkeypatch.setattr(site, "site_of", lambda cluster: Site(cluster, LIMITS, resources_of(cluster, "gate", {}), "the command"))
    monkeypatch.setattr(site, "told_of", lambda *args: replace(TOLD, config={}))
    monkeypatch.setattr(site.shutil, "which", lambda name: name)
    (only,) = site.rows(world.point("export=[]").stages[:1], slurm())
    assert only.verdict == WRONG and only.code == EXIT_AGAIN and "does not answer" in only.found


def test_an_account_and_a_qos_that_nothing_was_compared_with_are_unknown():
    rows = judged(
        "cluster.qos=lnog",
        "cluster.account=lba",
        told=replace(TOLD, limits=replace(LIMITS, accounts=()), commands=frozenset({*site.COMMANDS})),
    )
    assert [(row(rows, w).verdict, row(rows, w).found[:3]) for w in ("account", "QOS")] == [(UNKNOWN, "lba"), (UNKNOWN, "lno")]


def test_limits_of_a_qos_and_a_guessed_memory_are_told():
    rows = judged("cluster.qos=long", memory=GpuMemory(24.0, "assumed: neither cluster.gpu_mem_gb nor Slurm says"))
    assert row(rows, "QOS").found == "long (MaxWall=01:00:00)"
    assert row(rows, "GPUs (images)").verdict == WARN and "cluster.gpu_mem_gb" in row(rows, "GPUs (images)").fix


@pytest.mark.parametrize(
    ("words", "verdict", "told"),
    [
        ("sbatch: error: QOSMaxWallDurationPerJobLimit", WRONG, "QOSMaxWallDurationPerJobLimit: more than this site allows (time)"),
        ("Unable to contact slurm controller", UNKNOWN, "cannot be tested now"),
        ("", OK, "takes the script"),
    ],
)
def test_what_sbatch_says_of_each_script_is_a_row(world, monkeypatch, words, verdict, told):
    def call(*args, **more):
        if words:
            raise SlurmError(words, passing(words))
        return ""

    monkeypatch.setattr(precheck, "call", call)
    monkeypatch.setattr(precheck, "figures", lambda name, entity: "")
    cluster = slurm("cluster.partition=gpu", "cluster.qos=long")
    stages = [s for s in world.point("export=[]").stages if s.name == "images"]
    rows = site.tested(stages, Site(cluster, LIMITS, resources_of(cluster, "gate", {}), "the command"))
    assert [(r.what, r.verdict) for r in rows] == [("sbatch (images)", verdict), ("sbatch (gate)", verdict)] and told in rows[0].found


def test_without_slurm_here_that_is_all_that_is_said(monkeypatch):
    monkeypatch.setattr(site.shutil, "which", lambda name: None)
    (only,) = site.rows([], slurm())
    assert only.verdict == WRONG and only.code == EXIT_AGAIN and "cluster=local" in only.fix


def test_a_time_in_the_place_of_a_number_of_jobs_is_no_number_to_count_with(tmp_path):
    found = plan(["recipe=probe", f"runs_dir={tmp_path}/runs", "cluster=slurm", "cluster.n_jobs=auto:8h"])
    (point,) = found.points
    assert point.cluster.n_jobs is None and not found.failures
    assert row([site._room(Limits(max_submit=9), point.cluster)], "jobs in the queue").verdict == OK


def test_a_slurm_that_hangs_is_told_by_name_in_the_time_of_one_question(tmp_path, monkeypatch):
    slow = tmp_path / "bin"
    slow.mkdir()
    for name in (*site.COMMANDS, *site.COUNTED):
        (slow / name).write_text("#!/bin/sh\nsleep 60\n")
        (slow / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow}:{os.environ['PATH']}")
    monkeypatch.setattr(hanging, "_config", {})
    monkeypatch.setattr(hanging, "_again", 0.0)
    begun = time.monotonic()
    with hanging.hurry(0.5, 0.8) as asking:
        rows = site.rows([], slurm())
    assert time.monotonic() - begun < 15, "one after the other they would take minutes"
    (first,) = site.silent(asking)
    assert first.code == EXIT_AGAIN and all(name in first.found for name in (*site.COMMANDS, *site.COUNTED))
    assert [r.what for r in rows] == ["Slurm"] and "does not answer" in rows[0].found


def test_one_command_that_hangs_leaves_the_answers_of_the_others(tmp_path, monkeypatch):
    for name, does in {
        "scontrol": "echo 'ClusterName = c'; echo 'SLURM_VERSION = 23.02'",
        "sacctmgr": "sleep 600",
        "sinfo": "echo main",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for seconds in (3.0, 30.0):  # that a busy machine may need to start three shells
        monkeypatch.setattr(hanging, "_config", {})
        monkeypatch.setattr(hanging, "_again", 0.0)
        with hanging.hurry(seconds, 10 * seconds) as asking:
            told = hanging.site_config().get("ClusterName"), hanging.ask("sinfo"), hanging.ask("sacctmgr", "show", "qos")
        if [*asking.silent] == ["sacctmgr"]:
            break
    assert told == ("c", "main\n", "") and [*asking.silent] == ["sacctmgr"]
