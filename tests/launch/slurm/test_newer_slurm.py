"""What Slurm 23.11 to 25.05 print and take, by their documented forms: Debian has 22.05, on which tests/slurm runs."""

import pytest

from launch.slurm.endings import Ended, parse_accounts, parse_records
from launch.slurm.limits import parse_partitions
from synth.errors import InputError
from synth.host.allocation import advice, short_of_gpus
from synth.host.deadline import end_from_env
from synth.host.gone import is_over
from synth.host.squeue import is_live, parse_listing, parse_sacct, parse_states
from tests.launch.slurm.test_resources import TWO, made

# scontrol -o show job of 24.11: Licenses, segments, the line that submitted, TRES by node and task; an array's last task and its rest
RECORDS = """
JobId=1207 ArrayJobId=1204 ArrayTaskId=3 JobName=images-0123456789ab-0a1b2c3d UserId=me(1000) GroupId=me(1000) MCS_label=N/A Priority=1 \
Nice=0 Account=lab QOS=normal JobState=OUT_OF_MEMORY Reason=OutOfMemory Dependency=(null) Requeue=1 Restarts=1 BatchFlag=1 Reboot=0 \
ExitCode=0:125 RunTime=00:01:02 TimeLimit=04:00:00 TimeMin=N/A SubmitTime=2025-05-02T10:00:00 StartTime=2025-05-02T10:01:00 \
Partition=gpu AllocNode:Sid=login1:77 ReqNodeList=(null) ExcNodeList=(null) NodeList=gpu-07 BatchHost=gpu-07 NumNodes=1 NumCPUs=4 \
NumTasks=1 CPUs/Task=4 ReqB:S:C:T=0:0:*:* ReqTRES=cpu=4,mem=8G,node=1,billing=4,gres/gpu=1 AllocTRES=cpu=4,mem=8G,node=1,gres/gpu:a100=1 \
Socks/Node=* NtasksPerN:B:S:C=0:0:*:* CoreSpec=* MinCPUsNode=4 MinMemoryNode=8G MinTmpDiskNode=0 Features=(null) DelayBoot=00:00:00 \
OverSubscribe=OK Contiguous=0 Licenses=(null) LicensesAlloc=(null) Network=(null) SegmentSize=1 Command=/tmp/x/script.sbatch 0 8 \
SubmitLine=sbatch --parsable JobState=RUNNING MinMemoryNode=1G WorkDir=/work OOMKillStep=0 TresPerNode=gres/gpu:1 TresPerTask=cpu=4
JobId=1204 ArrayJobId=1204 ArrayTaskId=4-7%2 JobName=images JobState=PENDING Reason=Priority ExitCode=0:0 NodeList= MinMemoryCPU=2000M
""".strip()


def test_records_of_jobs():
    last, rest = parse_records(RECORDS)
    assert last == Ended("1204_3", "OUT_OF_MEMORY", -125, "gpu-07", "8G", starved=True)
    assert rest.state == "PENDING" and rest.mem == "2000M/cpu"


@pytest.mark.parametrize(
    ("code", "derived", "starved"),
    [("0:125", "0:0", True), ("1:0", "0:125", True), ("0:0", "0:125", True), ("125:0", "0:0", False), ("65:0", "65:0", False)],
)
def test_a_kill_for_memory_is_known_by_slurms_own_signal_of_a_job_or_of_its_steps(code, derived, starved):
    """Of a worker, in a step of its own, the job is FAILED with srun's exit code; it is OUT_OF_MEMORY where its script was killed."""
    record = f"JobId=11 JobState=FAILED Reason=NonZeroExitCode ExitCode={code} DerivedExitCode={derived} NodeList=n1 MinMemoryNode=150M"
    assert parse_records(record)[0].starved == starved
    assert parse_accounts(f"11|FAILED|{code}|{derived}|n1|150M")[0].starved == starved


def test_lines_of_accounting():
    lines = "1204_3|OUT_OF_ME+|0:125|0:0|gpu-07|8G\n1204_4|NODE_FAIL|0:0|0:0|gpu-08|8G\n1204_5|CANCELLED by 7|0:15|0:0|None assigned|8G\n"
    assert [(e.job, e.state, e.node) for e in parse_accounts(lines)] == [
        ("1204_3", "OUT_OF_MEMORY", "gpu-07"),
        ("1204_4", "NODE_FAIL", "gpu-08"),
        ("1204_5", "CANCELLED", ""),
    ]


@pytest.mark.parametrize("cut", ["OUT_OF_ME", "OUT_OF_ME+", "OUT_OF_MEMORY", "COMPLETED", "COMPLETE+", "CANCELLED+", "CANCELLED by 7"])
def test_a_state_that_a_column_cuts_is_no_live_job_in_any_reading(cut):
    """status and cancel would show it, and wait for it, for ever."""
    assert not is_live(parse_sacct(f"11_3|{cut}")["11_3"])
    first = cut.split()[0]
    assert not is_live(parse_states(f"11_3 {first} 0")["11_3"][0])
    assert not is_live(parse_listing(f"11_3|{first}|None||token|1795236000|name")[0].state)


@pytest.mark.parametrize("state", ["RESV_DEL_HOLD", "EXPEDITING", "LAUNCH_FAILED", "RECONFIG_FAIL"])
def test_states_of_later_versions_on_the_way_back_into_the_queue_hold_no_lease_and_are_live(state):
    assert is_live(state) and is_over((state, 0), 0)


@pytest.mark.parametrize("state", ["POWER_UP_NODE", "STAGE_OUT", "SIGNALING", "STOPPED", "RESIZING", "UPDATE_DB"])
def test_other_states_of_later_versions_may_compute(state):
    assert is_live(state) and not is_over((state, 0), 0)


def test_the_end_of_a_job_comes_from_its_environment():
    assert end_from_env({"SLURM_JOB_START_TIME": "1746180000", "SLURM_JOB_END_TIME": "1746194400"}, 0.0) == 1746194400


def test_partitions_and_gres_of_slices():
    text = "PartitionName=mig AllowGroups=ALL Default=NO QoS=N/A ExclusiveTopo=NO MaxTime=1-00:00:00 State=UP SuspendTime=NONE"
    found = parse_partitions(text, "mig|gpu:a100_3g.20gb:2(S:0-1),gpu:1g.10gb:7(S:0),shard:8")["mig"]
    assert found.max_time == 86400 and found.gres == ("gpu:1g.10gb:7", "gpu:a100_3g.20gb:2", "shard:8")
    assert made("images", "cluster.gres=gpu:a100_3g.20gb:1").gpus == 1


@pytest.mark.parametrize("flag", ["gpus-per-task=1", "gpus_per_socket=1", "ntasks-per-gpu=1", "tres-per-task='\"gres/gpu:1\"'"])
def test_flags_that_give_gpus_by_the_task_name_the_key_instead(flag):
    with pytest.raises(InputError, match=r"cluster\.gpus_per_job"):
        made("images", f"+cluster.extra.{flag}")


def test_flags_of_srun_reach_workers_those_of_pyxis_too_and_no_gate():
    flags = ["+cluster.srun_extra.cpu-bind=none", "+cluster.srun_extra.container_writable=true", "+cluster.srun_extra.label=false"]
    assert made("images", *flags).srun == ("--cpu-bind=none", "--container-writable") and made("gate", *flags).srun == ()
    own = made("images", "+cluster.srun_extra.mpi=none", "+cluster.stages.images.srun_extra.mpi=pmix")
    assert own.srun == ("--mpi=pmix",)


@pytest.mark.parametrize(
    ("flag", "instead"),
    [
        ("ntasks=2", "set by the launcher"),
        ("container-image=a.sqsh", r"cluster\.container=IMAGE"),
        ("gpus_per_task=1", r"cluster\.gpus_per_job"),
        ("output=x", "log of their job"),
        ("help=true", "something else than to start workers"),
        ("jobid=7", "in the job that is theirs"),
        ("time=1", r"set cluster\.time"),
        ("N=1", "not a long option"),
    ],
)
def test_flags_of_srun_that_would_undo_the_script_are_refused(flag, instead):
    with pytest.raises(InputError, match=rf"cluster\.srun_extra\.{flag.partition('=')[0]}: .*{instead}"):
        made("images", f"+cluster.srun_extra.{flag}")


def test_a_worker_that_is_bound_to_fewer_cores_is_told_by_what():
    bound = {"SLURM_CPUS_PER_TASK": "8", "SLURM_CPU_BIND": "quiet,mask_cpu:0x1"}
    assert "SLURM_CPU_BIND=quiet,mask_cpu:0x1" in advice(1, bound) and "+cluster.srun_extra.cpu-bind=none" in advice(1, bound)
    assert "cpu-bind" not in advice(1, {"SLURM_CPUS_PER_TASK": "8"}) and advice(8, bound) == ""


@pytest.mark.parametrize(
    ("visible", "asked", "less"),
    [
        ("MIG-1111,MIG-2222", "2", "given 1 (CUDA_VISIBLE_DEVICES=MIG-1111,MIG-2222; of 2 MIG slices CUDA shows a process one)"),
        ("MIG-GPU-aaaa/1/0,MIG-GPU-aaaa/2/0", "2", "given 1 "),
        ("MIG-1111", "1", ""),
        ("GPU-aaaa,GPU-bbbb", "2", ""),
        ("GPU-aaaa", "2", "given 1 (CUDA_VISIBLE_DEVICES=GPU-aaaa)"),
    ],
)
def test_slices_and_uuids_are_counted_as_cuda_shows_them(visible, asked, less):
    said = short_of_gpus({"SYNTHSET_GPUS": asked, "CUDA_VISIBLE_DEVICES": visible, "SLURMD_NODENAME": "n7"})
    assert less in said if less else not said


def test_two_gpus_a_worker_are_still_counted():
    assert made("captions", "cluster.gpus_per_job=4", config=TWO).workers == 2
