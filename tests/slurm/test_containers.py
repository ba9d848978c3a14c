"""Jobs whose workers run in containers: a fake Apptainer, and a SPANK plugin with the options of pyxis. Gates stay on the host."""

import re
import shlex
import subprocess
import sys

import pytest

from launch.slurm.submissions import read
from synth.store.events import read_events
from tests.launch.plan.test_container import SIF, program
from tests.slurm.devcluster import REPO
from tests.slurm.launching import jobs, launch, settle, stage, units, wait_whole

PROBE = ("recipe=probe", "probe.slots=8", "probe.unit_size=2", "probe.sleep=2", "cluster.n_jobs=2")  # neither is late for its work
# exec [options] IMAGE COMMAND...: a clean environment, but for what APPTAINERENV_ brings and for what an image would
APPTAINER = """
echo "$*" >>{log}
shift
while [ "${{1#--}}" != "$1" ]; do case $1 in --bind | --pwd) shift 2 ;; *) shift ;; esac; done
image=$1
shift 2
[ -f "$image" ] || exit 255
given=()
while read -r name; do
  case $name in APPTAINERENV_*) given+=("${{name#APPTAINERENV_}}=${{!name}}") ;; esac
done < <(compgen -e)
exec env -i PATH=/usr/bin:/bin PYTHONPATH={code} "${{given[@]}}" {python} "$@"
"""


def test_workers_run_in_the_image_and_gates_on_the_host(cluster, tmp_path):
    image, log, runs = tmp_path / "synthset.sif", tmp_path / "apptainer.log", tmp_path / "runs"
    image.write_bytes(SIF)
    fake = APPTAINER.format(log=log, code=shlex.quote(str(REPO)), python=shlex.quote(sys.executable))
    program(tmp_path / "bin", "apptainer", fake)
    path = f"{tmp_path / 'bin'}:{cluster.env['PATH']}"
    said = launch(cluster, runs, *PROBE, f"cluster.container={image}", PATH=path)
    assert "not tried" not in said, said
    wait_whole(cluster, runs)
    settle(cluster)
    folder = stage(runs, "probe")
    (submission,) = read(folder.path)
    assert submission.container["digest"].startswith("sha256:") and submission.container["inside"]["versions"]["torch"]
    told = [e for e in read_events(folder.path) if e["event"] == "image"]
    assert len(told) == 2 and {e["digest"] for e in told} == {submission.container["digest"]}
    assert {e["inside"]["digest"] for e in told} == {submission.container["inside"]["digest"]}
    assert not [e for e in read_events(folder.path) if e["event"] == "warning"]
    calls = log.read_text().splitlines()
    assert sum("synth.worker" in c for c in calls) == 2 and sum("synth.host.container" in c for c in calls) == 1  # no gate
    assert all(f"--bind {runs / 'probe'}:{runs / 'probe'} " in c for c in calls if "synth.worker" in c)


def test_an_image_that_was_replaced_while_the_job_waited_is_told_by_its_workers(cluster, tmp_path):
    image, runs = tmp_path / "synthset.sif", tmp_path / "runs"
    image.write_bytes(SIF)
    fake = APPTAINER.format(log=tmp_path / "log", code=f"{shlex.quote(str(REPO))}:{tmp_path / 'more'}", python=shlex.quote(sys.executable))
    program(tmp_path / "bin", "apptainer", fake)
    path = f"{tmp_path / 'bin'}:{cluster.env['PATH']}"
    launch(cluster, runs, *PROBE, f"cluster.container={image}", "+cluster.extra.begin=now+1hour", PATH=path)
    (tmp_path / "more" / "numpy-0.0.1.dist-info").mkdir(parents=True)
    (tmp_path / "more" / "numpy-0.0.1.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 0.0.1\n")
    for job in jobs(stage(runs, "probe")):  # the gate has the flag, too
        cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")
    wait_whole(cluster, runs)
    settle(cluster)
    warnings = [e["why"] for e in read_events(stage(runs, "probe").path) if e["event"] == "warning"]
    assert len(warnings) == 2 and re.search(r"is not that of the plan: numpy is 0\.0\.1, and was .* when this was planned", warnings[0])


@pytest.fixture
def pyxis(cluster, tmp_path):
    """The plugin in the cluster, while the test runs; the file that it writes to."""
    log, plugin = tmp_path / "pyxis.log", tmp_path / "pyxis.so"
    a, b, c = map(int, re.findall(r"\d+", cluster.run("sinfo", "-V").stdout)[:3])
    defines = [f"-DVERSION={(a << 16) + (b << 8) + c}", f'-DLOG="{log}"', f'-DCODE="{REPO}"']
    subprocess.run(["cc", "-shared", "-fPIC", *defines, "-o", plugin, REPO / "tests" / "slurm" / "pyxis.c"], check=True)
    stack = cluster.path / "etc" / "plugstack.conf"
    stack.write_text(f"required {plugin}\n")
    yield log
    stack.unlink()


def test_a_job_step_of_pyxis_gets_image_and_mounts(cluster, tmp_path, pyxis):
    image, runs = tmp_path / "synthset.sqsh", tmp_path / "runs"
    image.write_bytes(b"hsqs" + b"\0" * 96)
    launch(cluster, runs, *PROBE, f"cluster.container={image}", f"cluster.python={sys.executable}")
    wait_whole(cluster, runs)
    settle(cluster)
    folder = stage(runs, "probe")
    own = folder.path.parent
    asked = [f"container-image={image}", f"container-mounts={own}:{own}", "no-container-mount-home=", "no-container-entrypoint="]
    assert set(pyxis.read_text().splitlines()) == set(asked)
    told = [e for e in read_events(folder.path) if e["event"] == "image"]
    assert {(e["runtime"], e["digest"]) for e in told} == {("pyxis", read(folder.path)[0].container["digest"])}
    plain = tmp_path / "plain"
    launch(cluster, plain, *PROBE)
    wait_whole(cluster, plain)
    settle(cluster)
    assert units(runs) == units(plain)


def test_what_cannot_start_is_named_before_a_job_waits(cluster, tmp_path):
    image, runs = tmp_path / "a.sqsh", tmp_path / "runs"
    image.write_bytes(b"hsqs")
    assert "this site has no pyxis" in launch(cluster, runs, *PROBE, f"cluster.container={image}", code=65)
    sif = tmp_path / "a.sif"
    sif.write_bytes(SIF.replace(b"\x0002\0", b"\x0004\0"))
    program(tmp_path / "bin", "apptainer", "exit 255")
    path = f"{tmp_path / 'bin'}:{cluster.env['PATH']}"
    said = launch(cluster, runs, *PROBE, f"cluster.container={sif}", code=65, PATH=path)
    assert "an image for aarch64, and its workers would run on x86_64" in said
    assert not runs.exists() and not cluster.run("squeue", "-h").stdout.strip()
