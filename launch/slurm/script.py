"""The text of the two batch scripts of a stage: its array and its gate. Pure: frozen parameters in, text out.

The header is made by submitit's own text builder, which knows sbatch's parameters; the body is ours, because submitit's would
load a pickle that no other job id can find: ours runs a plain command and can be given to sbatch again by hand, whole or in
part. Values go through shell quoting everywhere; sbatch reads quotes in its header as a shell does, except for backslashes.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from submitit.slurm.slurm import _make_sbatch_string

from synth.host.allocation import ASKED

# Fits every script: quoted values are meant to stay as they are, and what `setup` brings cannot be followed.
SHELLCHECK = "# shellcheck disable=SC1090,SC1091,SC2016,SC2034,SC2043,SC2154"

WORKS = "numpy"  # a Python that has it runs workers, too, of which a gate may need one; a bare one still tells why
WHY = r's/^ "why": "\(.*\)",\{0,1\}$/\1/; t show; d; : show; s/\\n/\n  /g; s/^/  /p'  # of a missing.json, for sed

# What a job lacks where a site gives it nothing of the environment (--export=NONE). Bash knows the home of its user without HOME.
WITHOUT_ENVIRONMENT = "export HOME=${HOME-~} USER=${USER-$(id -un)} PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}"

# $1: the archive, $2: its sha256. What is unpacked is what was found to be that, not what lies there now. `lock` is as in
# synth.host.scratch: whoever comes next removes the folder of a job that was killed.
UNFREEZE = r"""
unfreeze() {
  host=${HOSTNAME%%.*}
  frozen=$(mktemp -d "${TMPDIR:-/tmp}/synthset-${host:0:20}-XXXXXXXX") || exit 75
  trap 'rm -rf "$frozen"' EXIT
  if command -v flock >/dev/null; then
    exec 9>"$frozen/lock.new" && flock 9 && mv "$frozen/lock.new" "$frozen/lock"
  fi
  cp "$1" "$frozen/code.tar.gz"
  if [ "$(sha256sum <"$frozen/code.tar.gz")" != "$2  -" ]; then
    echo "error: $1 is not there, or not what was submitted: run the command of this run again, which writes its own" >&2
    exit 65
  fi
  tar -xzf "$frozen/code.tar.gz" -C "$frozen" && rm "$frozen/code.tar.gz" || exit 75
  export PYTHONPATH="$frozen${PYTHONPATH:+:$PYTHONPATH}"
}
""".strip()

# $1: GPUs of this worker. What Slurm gave to each task alone (--gpus-per-task, --gpu-bind) is taken as it is.
TAKE_GPUS = r"""
export SYNTHSET_JOB_GPUS=$CUDA_VISIBLE_DEVICES
IFS=, read -ra all <<<"$CUDA_VISIBLE_DEVICES"
mine=("${all[@]:SLURM_PROCID * $1:$1}")
if [ "${#all[@]}" = "$1" ] && [ "$((SYNTHSET_ON_NODE))" -ge "$((SLURM_NTASKS * $1))" ]; then mine=("${all[@]}"); fi
CUDA_VISIBLE_DEVICES=$(IFS=,; echo "${mine[*]}")
export CUDA_VISIBLE_DEVICES
stage=$2 first=$3 n_jobs=$4
shift 4
exec "$@" "$stage" --job-idx $((first + SLURM_PROCID)) --n-jobs "$n_jobs"
""".strip()


@dataclass(frozen=True)
class Header:
    """What sbatch is asked for. `flags`: long options without dashes; True is a flag alone."""

    name: str
    output: str  # file name pattern; a % of a path is written %%
    flags: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ArrayScript:
    """One array task = one Slurm job of a stage, with `workers` workers of `gpus` GPUs each."""

    header: Header
    stage: str
    upstream: tuple[str, ...]
    command: str  # what a person runs to repair, for messages
    worker: tuple[str, ...]  # the worker's command without its arguments: (python, -u, -m, synth.worker)
    n_jobs: int  # workers in all, unless told on the script's command line
    srun: tuple[str, ...] = ()  # more words for srun
    workers: int = 1
    gpus: int = 0  # a worker
    cpus: int = 1  # a worker
    max_requeues: int = 0  # 0: a drained job is left to the gate
    env: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    commands: str = ""  # the folder of Slurm's commands, where a job's PATH may lack it
    frozen: tuple[str, str] | None = None  # the archive of the code that it runs from, and its sha256


@dataclass(frozen=True)
class GateScript:
    """It runs with the plainest Python that can, and without what jobs load, since it has to tell why that fails."""

    header: Header
    stage: str
    pythons: tuple[str, ...]  # in the order in which they are tried
    gate: tuple[str, ...]  # (-m, launch.slurm.gate)
    path: Mapping[str, str] = field(default_factory=dict)  # PYTHONPATH
    env: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    commands: str = ""
    frozen: tuple[str, str] | None = None


def array_text(s: ArrayScript) -> str:
    """The script of a stage's array: sbatch [--array=..] SCRIPT [OFFSET [N_JOBS]]."""
    body = [
        f"stage={_quote(s.stage)}",
        "offset=${1:-0} n_jobs=${2:-" + str(s.n_jobs) + "}",
        "task=${SLURM_ARRAY_TASK_ID:-0}",
        'echo "$(date +%H:%M:%S) job ${SLURM_JOB_ID:-} task $task restart ${SLURM_RESTART_COUNT:-0} on $(hostname): $stage"',
        *_verdict(s),
        'if [ -e "$stage/done.json" ]; then echo "done already"; exit 0; fi',
        "",
        *_without_environment(s.commands),
        *_environment(s.env, s.modules, s.setup),
        *_frozen(s.frozen),
        *(['export CUDA_VISIBLE_DEVICES="" HIP_VISIBLE_DEVICES=-1  # no GPU was asked for'] if not s.gpus else []),
        *_gpus_by_number(s),
        "# A signal to this shell waits for the end of srun, or the worker could not drain.",
        "trap : TERM INT USR1 USR2",
        "# Since Slurm 22.05 srun does not inherit --cpus-per-task. A worker that ends early must not end the others. What is",
        "# exported above reaches workers where a site's SLURM_EXPORT_ENV=NONE would keep it from them, too.",
        _srun(s),
        "code=$?",
        'echo "$(date +%H:%M:%S) exit code $code"',
        *_requeue(s.max_requeues),
        'exit "$code"',
    ]
    return _text(s.header, body)


def gate_text(s: GateScript) -> str:
    """The script of a stage's gate: sbatch --dependency=afterany:JOBS SCRIPT NUMBER DIGEST DIGEST DIGEST."""
    pythons, words = _join(s.pythons), f'{_join(s.gate)} {_quote(s.stage)} "$@"'
    body = [
        *_without_environment(s.commands),
        *_environment(s.path, (), ()),
        *_frozen(s.frozen),
        "gate() {",
        "  needs=$1",
        "  shift",
        f"  for python in {pythons}; do",
        f'    if "$python" -P -c "import launch.slurm.gate, $needs" >/dev/null 2>&1; then exec "$python" {words}; fi',
        "  done",
        "}",
        f'if command -v sbatch >/dev/null; then gate {WORKS} "$@"; fi',
        "# No Python runs, or Slurm's commands are not found, without what the jobs of this run load:",
        *_environment(s.env, (), ()),
        *([f"set +u; module load {_join(s.modules)}; set -u"] if s.modules else []),
        *(["set +u", *s.setup, "set -u"] if s.setup else []),
        f'gate {WORKS} "$@"',
        'gate sys "$@"',
        f"for python in {pythons}; do \"$python\" -P -c 'import launch.slurm.gate'; done",
        'echo "error: no Python on $(hostname) can run the gate; set cluster.stages.gate.python to one that can" >&2',
        "exit 65",
    ]
    return _text(s.header, body)


def _text(header: Header, body: list[str]) -> str:
    flags = {k: v for k, v in header.flags.items() if v is not None and v is not False}
    given = {k: v if v is True else _escape(v) for k, v in flags.items()}
    return _make_sbatch_string(
        command="\n".join(body),
        folder="",
        job_name=_escape(header.name),
        time=None,  # type: ignore[arg-type] # None: no such line
        nodes=1,
        wckey=None,  # type: ignore[arg-type]
        stderr_to_stdout=True,
        setup=[SHELLCHECK, "set -u"],
        additional_parameters={"output": _escape(header.output)} | given,
        use_srun=False,
    )


def _escape(value: object) -> str:
    r"""sbatch takes a backslash as an escape inside single quotes, too; a shell does not.

    >>> _escape("a\\b")
    'a\\\\b'
    """
    return str(value).replace("\\", "\\\\")


def _without_environment(commands: str) -> list[str]:
    found = f"command -v srun >/dev/null || PATH=$PATH:{_quote(commands)}"
    return [WITHOUT_ENVIRONMENT, *([found] if commands else [])]


def _frozen(archive: tuple[str, str] | None) -> list[str]:
    return [UNFREEZE, f"unfreeze {_join(archive)}"] if archive else []


def _environment(env: Mapping[str, str], modules: tuple[str, ...], setup: tuple[str, ...]) -> list[str]:
    lines = [f"export {k}={_quote(v)}" for k, v in sorted(env.items())]
    if modules:
        lines.append(f"set +u; module load {_join(modules)} || exit 65; set -u")
    if setup:
        lines += ["set +u", *setup, "set -u"]
    return lines


def _verdict(s: ArrayScript) -> list[str]:
    """Before anything is loaded: a stage that reads another one does not begin until that is whole."""
    if not s.upstream:
        return []
    return [
        f"for up in {_join(s.upstream)}; do",
        '  ls "$up" >/dev/null 2>&1  # a network file system may remember that the file was not there',
        '  if [ ! -e "$up/done.json" ]; then',
        '    echo "error: $up is not whole, so nothing is computed here." >&2',
        f'    sed -n {_quote(WHY)} "$up/missing.json" >&2 2>/dev/null ||',
        '      echo "  Its gate could not run, or could not tell why: see $up/logs/gate-*.log" >&2',
        '    echo "  To go on, run:" >&2',
        f"    printf '  %s\\n' {_quote(s.command)} >&2",
        "    exit 65",
        "  fi",
        "done",
    ]


def _gpus_by_number(s: ArrayScript) -> list[str]:
    if not s.gpus:
        return []
    numbers = ",".join(str(i) for i in range(s.gpus * s.workers))
    return [
        f"export CUDA_VISIBLE_DEVICES=${{CUDA_VISIBLE_DEVICES-{numbers}}} {ASKED}={s.gpus}",
        "export CUDA_DEVICE_ORDER=${CUDA_DEVICE_ORDER-PCI_BUS_ID}  # as Slurm counts; CUDA by itself puts the fastest first",
    ]


def _srun(s: ArrayScript) -> str:
    words = f"srun --ntasks={s.workers} --cpus-per-task={s.cpus} --kill-on-bad-exit=0 --wait=0 --export=ALL"
    srun = " ".join([words, *map(_quote, s.srun)])
    if s.workers == 1:
        return f'{srun} {_join(s.worker)} "$stage" --job-idx $((offset + task)) --n-jobs "$n_jobs"'
    first = f"$((offset + task * {s.workers}))"
    srun = f"SYNTHSET_ON_NODE=${{SLURM_GPUS_ON_NODE:-0}} {srun}"
    return f'{srun} bash -c {_quote(TAKE_GPUS)} worker {s.gpus} "$stage" "{first}" "$n_jobs" {_join(s.worker)}'


def _requeue(most: int) -> list[str]:
    if not most:
        return []
    return [
        "# Drained before the end of its time: once more. A job that is cancelled, preempted or ended by its limit is",
        "# not RUNNING any more: Slurm itself or the gate goes on with it. Where scontrol is not allowed the gate does.",
        "# A node that workers left twice because of a bad device is left to the gate, which leaves it out.",
        "host=$(hostname)",
        'left=$(grep -ls \'"event": "device"\' "$stage/events/${host%%.*}-"*.jsonl | wc -l)',
        f'if [ "$code" = 75 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {most} ] && [ "$left" -lt 2 ] && [ ! -e "$stage/done.json" ]; then',
        "  job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$task}",
        "  job=${job:-$SLURM_JOB_ID}",
        '  if [ "$(squeue -h -j "$job" -o %T 2>/dev/null)" = RUNNING ] && scontrol requeue "$job"; then sleep 120; fi',
        "fi",
    ]


def _quote(value: object) -> str:
    return shlex.quote(str(value))


def _join(words: tuple[str, ...]) -> str:
    return " ".join(_quote(w) for w in words)
