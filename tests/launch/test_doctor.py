"""launch/doctor.py: each row, broken once with readings that are made up or for real; what the trial measures, and who reads it."""

import io
import json
import os
from dataclasses import replace

import pytest
from rich.console import Console

from launch.checkup import filesystem, jobs, packages, site, trial
from launch.checkup import planned as of_plan
from launch.checkup.filesystem import Needs, Quota, Readings
from launch.checkup.rows import OK, UNKNOWN, WARN, WRONG, as_json, broken, exit_code, ok, unknown, wrong
from launch.checkup.site import Asked, Told
from launch.checkup.trial import Ended
from launch.config.clusters import SlurmConfig
from launch.config.compose import Composer, typed
from launch.doctor import main, plan
from launch.plan.gpu_memory import GpuMemory
from launch.plan.graph import distinct, plan_point
from launch.run import main as run
from launch.show import calibration
from launch.slurm import precheck
from launch.slurm.limits import Limits, Nodes, Partition
from launch.slurm.resources import resources_of
from launch.slurm.sbatch import Queued
from launch.slurm.submit import Site
from synth import worker
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK
from synth.host.refusals import passing
from synth.host.slurm import Seen, SlurmError
from synth.store.folder import StageFolder

IMAGES = ("prompts=class_name", "captioner=none", "dataset.classes=0..1", "captions.per_class=1", "export=[]")


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


# -- the trial -------------------------------------------------------------------------------------------------------


def in_this_process(stage, name):
    """The true worker, without a process of its own: torch is here already."""
    StageFolder.create(stage.dataset_root, stage.spec)
    return Ended(worker.main([str(stage.folder), "--job-idx", "0", "--n-jobs", "1", *stage.trusted]))


def stages_of(runs, *overrides):
    config = typed(Composer().compose([f"runs_dir={runs}", *IMAGES, *overrides]))
    return plan_point(config).stages


def test_a_trial_is_measured_by_true_workers_and_known_to_the_dry_run(tmp_path, capsys):
    runs, plan_ = tmp_path / "runs", (*IMAGES, "dataset.classes=0..5", "images.batch_size=2", "images.unit_size=4", "images.steps=2")
    stages = stages_of(runs, *plan_[len(IMAGES) :])
    with trial.throwaway(runs) as place:
        chain = trial.chain_of(stages, place)
        assert [(t.stage.name, t.first.spec.slots, t.second is not None) for t in chain.tried] == [
            ("captions", 6, False),
            ("captions_json", 1, False),
            ("images", 4, True),
        ]
        rows = trial.run(chain, runs, in_this_process)
    assert [(r.what, r.verdict) for r in rows] == [("device of images", OK), ("batch of images", OK), ("bytes of images", OK)], rows
    assert "2 samples in" in rows[1].found and "(the second batch)" in rows[1].found and "of host memory" in rows[1].found
    assert [p.name for p in (runs / calibration.FOLDER).iterdir()] == [f"images-{trial.work_of_spec(stages[2].spec)[:12]}.json"]
    assert run([f"runs_dir={runs}", *plan_, "images.seed=7", "dry_run=true"]) == EXIT_OK
    said = " ".join(capsys.readouterr().out.split())
    assert "by 1 unit of the doctor's calibration; a worker held" in said and "not known of captions" in said


def test_what_reads_pictures_is_cut_to_those_that_are_made(tmp_path):
    chain = trial.chain_of(stages_of(tmp_path, "dataset.classes=0..19", "images.batch_size=4", "filter=[clip_score]"), tmp_path / "t")
    slots = {t.stage.name: t.first.spec.slots for t in chain.tried}
    assert slots == {"captions": 20, "captions_json": 1, "images": 8, "features": 8} and not chain.skipped
    assert (
        chain.tried[3].first.spec.config["texts"] == 0 and chain.tried[3].second.spec.fingerprint == chain.tried[3].first.spec.fingerprint
    )


def test_what_cannot_be_cut_is_not_tried_and_says_why(world):
    chain = trial.chain_of(world.point("prompts=hirpg", "captioner.max_seq_len=512").stages, world.path / "t")
    why = {s.name: s.why for s in chain.skipped}
    assert "belong together" in why["metaprompts"] and "which is not tried" in why["images"] and not chain.tried


def test_the_first_batch_is_not_measured_and_a_stage_of_one_batch_says_so(tmp_path):
    stages = stages_of(tmp_path, "images.batch_size=16")
    cut = trial.chain_of(stages, tmp_path / "t").tried[2]
    assert (cut.first.spec.slots, cut.first.spec.batch, cut.first.spec.unit_size) == (2, 2, 2)
    folder = StageFolder.create(cut.first.dataset_root, cut.first.spec)
    lines = [
        {"event": "start", "time": 0, "host": "n1"},
        {"event": "open", "device": "NVIDIA H100", "cuda": "12.6", "bf16": False, "time": 1},
    ]
    lines += [
        {"event": "unit", "unit": n, "outcome": "ours", "samples": 2, "tombstones": 0, "seconds": s, "bytes": 8, "time": n}
        for n, s in ((0, 60.0), (1, 2.0))
    ]
    lines += [{"event": "stop", "seconds": 70.0, "busy_s": 60.0, "time": 9, "device_peak": 8 * 10**9}]
    (folder.path / "events" / "w.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pace = trial.measured(folder.path)
    assert (pace.slot_s, pace.units, pace.device_peak) == (1.0, 1, 8 * 10**9)
    rows = trial.told(cut, Ended(0, node={"host": "n7", "links": "no"}), Ended(75, "gone"))
    assert "on n7" in rows[0].found and "no bfloat16" in rows[0].found and rows[0].verdict == WARN, "no hard links there"
    assert "the only batch" in rows[1].found and "8.0 GB of GPU memory" in rows[1].found
    assert rows[2].verdict == UNKNOWN and "gone" in rows[2].found


@pytest.mark.parametrize(
    ("ended", "verdict", "code"),
    [
        (Ended(65, "torch was built for CPUs"), WRONG, 65),
        (Ended(75, "the GPU does not answer"), WRONG, 75),
        (Ended(70, "a bug"), WRONG, 65),
        (Ended(trial.NOT_TOLD, "job 7 waited 10 min"), UNKNOWN, 0),
    ],
)
def test_a_stage_that_fails_is_a_row_and_what_reads_it_is_not_begun(tmp_path, ended, verdict, code):
    chain = trial.chain_of(stages_of(tmp_path), tmp_path / "t")
    begun = []

    def make(stage, name):
        begun.append(stage.name)
        return ended

    rows = trial.run(chain, tmp_path, make)
    assert begun == ["captions"] and [r.verdict for r in rows] == [verdict, UNKNOWN] and exit_code(rows) == code


def test_units_that_differ_are_wrong_where_their_bytes_are_promised(tmp_path, monkeypatch):
    tried = trial.chain_of(stages_of(tmp_path), tmp_path / "t").tried[2]
    made = iter([["a", "b"], ["a", "c"]] * 2)
    monkeypatch.setattr(trial, "digests", lambda stage: next(made))
    assert trial._same(tried, Ended(0)).verdict == WRONG
    fast = replace(tried, first=replace(tried.first, spec=replace(tried.first.spec, numerics={"deterministic": False})))
    assert trial._same(fast, Ended(0)).verdict == OK


def test_what_a_killed_doctor_left_is_removed_and_what_one_at_work_holds_is_not(tmp_path):
    with trial.throwaway(tmp_path) as first:
        dead = first.with_name(first.name.replace(f"-{os.getpid()}-", "-999999999-"))
        dead.mkdir()
        with trial.throwaway(tmp_path) as second:
            assert first.is_dir() and second.is_dir() and not dead.exists()
    assert not (tmp_path / calibration.FOLDER).exists()


@pytest.mark.parametrize(
    "text", ['{"pace": 1}', "{", "[]", '{"work": "w", "pace": {"slot_s": -1}}', '{"work": "w", "pace": {"slot_s": 1e999}}']
)
def test_a_torn_calibration_is_none(tmp_path, text):
    path = calibration.place(tmp_path, "images", "w")
    path.parent.mkdir()
    path.write_text(text)
    assert calibration.kept(tmp_path, "images", "w") is None


# -- jobs ------------------------------------------------------------------------------------------------------------


def test_a_job_of_the_trial_asks_for_minutes_and_one_worker():
    asks = resources_of(slurm("cluster.time='2-0'", "cluster.gpus_per_job=4", "cluster.n_jobs=9"), "images", {})
    small = jobs.small(asks)
    flags = small.flags()
    assert flags["time"] == str(jobs.MINUTES) and flags["gres"] == "gpu:4" and flags["ntasks"] == 1 and flags["no-requeue"]
    assert jobs.small(resources_of(slurm("cluster.time='5:00'"), "images", {})).time == "5:00"


@pytest.mark.parametrize(
    ("states", "code", "words"),
    [
        (["PENDING"] * 9, trial.NOT_TOLD, "job 7 waited 0 min in the queue (QOSMaxWallDurationPerJobLimit), and was cancelled"),
        (["PENDING", "RUNNING", "FAILED"], EXIT_AGAIN, "job 7 ended (FAILED) before a worker began: no such module"),
    ],
)
def test_a_job_that_waits_too_long_is_cancelled_and_one_that_never_began_tells_its_log(tmp_path, monkeypatch, states, code, words):
    stage = trial.chain_of(stages_of(tmp_path), tmp_path / "t").tried[2].first
    folder, left, called = StageFolder.create(stage.dataset_root, stage.spec), iter(states), []
    (folder.path / "logs").mkdir(exist_ok=True)
    (folder.path / "logs" / "7_0.log").write_text("no such module\n")
    monkeypatch.setattr(jobs, "LOOK", (0.001, 0.001))
    monkeypatch.setattr(jobs.slurm, "seen", lambda ids, cluster="": [Seen("7_0", next(left), 0, 0.0, "n")])
    monkeypatch.setattr(jobs.slurm, "ask", lambda *words, **more: "QOSMaxWallDurationPerJobLimit\n")
    monkeypatch.setattr(jobs.slurm, "command", lambda *words, **more: called.append(words))
    ended = jobs._ended(folder, Queued("7"), 0.003 if code == trial.NOT_TOLD else 60, lambda text: None)
    assert ended.code == code and words in ended.why
    assert called == ([("scancel", "7")] if code == trial.NOT_TOLD else [])


def test_ctrl_c_cancels_the_job_and_leaves_no_folder(tmp_path, monkeypatch):
    called, stages = [], stages_of(tmp_path / "runs")

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "site_of", lambda cluster: Site(cluster, LIMITS, resources_of(cluster, "gate", {}), "the command"))
    monkeypatch.setattr(jobs, "_submitted", lambda *args: Queued("7"))
    monkeypatch.setattr(jobs, "_ended", stop)
    monkeypatch.setattr(jobs.slurm, "command", lambda *words, **more: called.append(words))

    def try_it():
        with trial.throwaway(tmp_path / "runs") as place:
            images = trial.chain_of(stages, place).tried[2].first
            jobs.on_nodes([images], slurm(), Console(file=io.StringIO()), 1.0)(images, "images")

    with pytest.raises(KeyboardInterrupt):
        try_it()
    assert called == [("scancel", "7")] and not (tmp_path / "runs" / calibration.FOLDER).exists()
