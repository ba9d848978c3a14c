"""Flags of sbatch and srun: which are ours, which ask for GPUs or for whole nodes, and what to type instead."""

# flags of sbatch that have a key of their own, or that the launcher sets
_OURS = (
    "clusters cluster-constraint partition account qos constraint nodelist exclude time time-min gres mem cpus-per-task requeue no-requeue "
    "array dependency output error open-mode job-name ntasks nodes signal parsable wrap"
)
OURS = frozenset(_OURS.split())
NO_JOB = frozenset(["wait", "test-only", "help", "usage", "version"])  # ask sbatch for something else than a job in the queue
SET = "is set by the launcher"
KEY_OF = {  # where it is not called as the option
    "cpus-per-task": "cpus_per_job",
    "time-min": "time_min",
    "no-requeue": "requeue",
    "cluster-constraint": "clusters",
}
COUNTED = ("gpus", "gpus-per-node")  # flags of sbatch, in `extra`, that ask for a job's GPUs in the place of gres
UNCOUNTED = ("gpus-per-task", "gpus-per-socket", "tres-per-task", "ntasks-per-gpu")
OF_SRUN = {  # flags of srun that the launcher sets, or that have a key of their own
    **dict.fromkeys(("ntasks", "nodes", "cpus-per-task", "kill-on-bad-exit", "wait", "export", "multi-prog"), SET),
    **dict.fromkeys(("output", "error", "input"), "workers write into the log of their job; what they read comes from no terminal"),
    **dict.fromkeys(("gpus", "gpus-per-node", "gres", *UNCOUNTED), "give GPUs by cluster.gpus_per_job; each worker of a job gets its own"),
    **dict.fromkeys(("help", "usage", "version", "test-only"), "asks srun for something else than to start workers"),
    **dict.fromkeys(("jobid", "no-allocate"), "workers start in the job that is theirs"),
    **{
        name: f"is of the job, and no worker's: set cluster.{name}"
        for name in ("partition", "account", "qos", "nodelist", "exclude", "time")
    },
    "reservation": "is of the job, and no worker's: set +cluster.extra.reservation",
    "container-image": "set cluster.container=IMAGE, by which the image is looked at, and mounted what a worker needs",
    "container-name": "a container that is kept is no image that was looked at: set cluster.container=IMAGE",
    "container-mounts": "set cluster.container_mounts",
}
OF_GPUS = frozenset([*COUNTED, *UNCOUNTED, "gpu-bind", "gpu-freq", "cpus-per-gpu", "mem-per-gpu"])  # for those who compute on GPUs
# What a job of the whole machine asks for: not for gates, which list files with one core. Who pays and what a site wants to know
# (comment, wckey, licenses of a file system, mail ..) is for all jobs.
_NODES = (
    "exclusive mem-per-cpu mincpus tmp contiguous switches spread-job use-min-nodes core-spec thread-spec cores-per-socket "
    "sockets-per-node threads-per-core extra-node-info hint ntasks-per-core ntasks-per-node ntasks-per-socket ntasks-per-gpu "
    "distribution cpu-freq gres-flags mem-bind network bb bbf reboot power profile acctg-freq overcommit oversubscribe "
    "resv-ports tres-per-task"
)
OF_NODES = OF_GPUS | frozenset(_NODES.split())
IN_PARTITION = ("constraint", "nodelist", "exclude")  # what is said of nodes of one partition says nothing of another's
ALSO_IN_PARTITION = frozenset(["reservation", "prefer", "batch"])  # the same among the flags of `extra`
