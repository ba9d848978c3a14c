"""A gate that meets a full queue waits for room without being in the way: its own job goes back into the queue, to begin again in some
minutes. It has its place there already, and what waits for it goes on waiting.

Where nothing else may be queued nothing else could wait; a gate that slept would hold a core, and end at its time limit.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping

from synth.host import slurm
from synth.host.slurm import SlurmError

FIRST, LONGEST = 300, 3600  # seconds to the next look: doubled each time, up to an hour
PAUSE = "SYNTHSET_GATE_PAUSE_S"  # in the place of FIRST, for tests


def back_into_the_queue(why: str, most: int, cluster: str, say: Callable[[str], object], env: Mapping[str, str] = os.environ) -> str:
    """Put the job of this process back into the queue of its cluster; "", or why it cannot wait there.

    most: times that it may begin anew, by Slurm's own count. The process is ended by Slurm, at once or within seconds.
    """
    job, restarts = env.get("SLURM_JOB_ID", ""), _restarts(env)
    if not job:
        return "no job of Slurm waits here"
    if restarts >= most:
        return f"its gate looked {restarts + 1} times (cluster.max_requeues={most})"
    pause = min(float(env.get(PAUSE, FIRST)) * 2 ** min(restarts, 10), LONGEST)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what Slurm sends first, to us and to the scontrol that is to say when
    try:
        slurm.call("scontrol", "requeue", job, cluster=cluster)
    except SlurmError as e:
        return f"its gate cannot wait for room ({e})"
    at = time.strftime("%H:%M:%S", time.localtime(time.time() + pause))
    say(f"no room in the queue ({why}): back into it, to look again at {at}")
    try:
        slurm.call("scontrol", "update", f"JobId={job}", f"StartTime=now+{pause:.0f}seconds", cluster=cluster)
    except SlurmError as e:
        say(f"{e}; it looks again as soon as Slurm starts it")
    return ""


def _restarts(env: Mapping[str, str]) -> int:
    text = env.get("SLURM_RESTART_COUNT", "")
    return int(text) if text.isdigit() else 0
