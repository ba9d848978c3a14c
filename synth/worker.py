"""The one entry point of all computing: python -m synth.worker STAGE_DIR --job-idx I --n-jobs N

Any number of these, started by anyone at any time with any job_idx and n_jobs, complete a stage together.
Exit codes: 0 nothing left for me; 75 drained, the disk refused, or the device is bad: run it again; 65 bad input, or a batch that
cannot fit; 70 a unit failed three times.
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG, InputError, explained, refused
from synth.host import scratch
from synth.host.children import die_with_parent
from synth.host.contained import drain_without_input
from synth.host.leaving import leave
from synth.numerics import environment
from synth.redaction import redacted
from synth.run.trust import check
from synth.store.folder import StageFolder
from synth.terminal import message, printable_lines


def job_of(job_idx: int | None, n_jobs: int | None, env: Mapping[str, str]) -> tuple[int, int]:
    """(job_idx, n_jobs) from the command line, else JOB_IDX / N_JOBS, else JOB_OFFSET + SLURM_ARRAY_TASK_ID, else 0 of 1.

    n_jobs only says which units are tried first, so a partial array or a wrong number is slower, never wrong.
    """
    try:
        if job_idx is None and "JOB_IDX" in env:
            job_idx = int(env["JOB_IDX"])
        if job_idx is None and "SLURM_ARRAY_TASK_ID" in env:
            job_idx = int(env.get("JOB_OFFSET", 0)) + int(env["SLURM_ARRAY_TASK_ID"])
        if n_jobs is None:
            n_jobs = int(env.get("N_JOBS", env.get("SLURM_ARRAY_TASK_COUNT", 1)))
    except ValueError as e:
        raise InputError(f"JOB_IDX, N_JOBS, JOB_OFFSET and SLURM_ARRAY_TASK_ID must be whole numbers: {e}") from e
    job_idx = job_idx or 0
    if job_idx < 0 or n_jobs < 1:
        raise InputError(f"job_idx {job_idx} of {n_jobs} jobs: job_idx counts from 0, n_jobs from 1")
    return job_idx, max(n_jobs, job_idx + 1)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m synth.worker", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("stage_dir", type=Path, help="runs/<dataset>/<stage>-<fingerprint>")
    p.add_argument("--job-idx", type=int, help="which job this is, from 0 (else env JOB_IDX, else SLURM_ARRAY_TASK_ID)")
    p.add_argument("--n-jobs", type=int, help="how many jobs there are (else env N_JOBS)")
    p.add_argument("--linger", action="store_true", help="wait until what dead workers hold can be taken over, as jobs 0 and 1 do")
    p.add_argument(
        "--trust",
        action="store_true",
        help="run the command, send the key, write the place that a stage from elsewhere names",
    )
    p.add_argument("--planned", metavar="DIGEST", help="given by launchers: of the command that they planned (see synth.run.trust)")
    p.add_argument("--die-with-input", action="store_true", help="drain when standard input ends: of a worker in a container")
    p.add_argument("--die-with-parent", action="store_true", help="drain when the process that started this one ends")
    return p


def main(argv: list[str] | None = None) -> int:
    """Work on a stage until nothing is left for this job; the exit code."""
    args = parser().parse_args(argv)
    if args.die_with_parent and not die_with_parent(signal.SIGTERM):
        return EXIT_AGAIN
    if args.die_with_input:
        drain_without_input()
    try:
        job_idx, n_jobs = job_of(args.job_idx, args.n_jobs, os.environ)
        folder = StageFolder.open(args.stage_dir)
        if not args.trust:
            check(folder.path, folder.spec, args.planned)
        os.environ.update(environment(folder.spec.numerics))  # before numpy or torch is imported
        from synth.run.loop import Worker

        worker = Worker(folder, job_idx, n_jobs, args.linger)
    except InputError as e:
        print(message(f"error: {redacted(e)}"), file=sys.stderr)
        return EXIT_BAD_INPUT
    except Exception as e:  # noqa: BLE001 (python's own exit code for it, 1, says nothing)
        if refused(e):
            print(message(f"error: {redacted(explained(e))}"), file=sys.stderr)
            return EXIT_AGAIN
        print(printable_lines(redacted(traceback.format_exc())), file=sys.stderr, end="")
        return EXIT_BUG
    scratch.sweep(scratch.place())  # of those that were killed here
    return worker.run()


if __name__ == "__main__":
    leave(main())
