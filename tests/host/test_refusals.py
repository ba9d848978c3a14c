"""Words of Slurm, as it and its plugins say them."""

import pytest

from synth.host.refusals import passing

LAST = """\
sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified
sbatch: error: invalid partition specified: nope
sbatch: error: Batch job submission failed: Invalid qos specification
sbatch: error: Batch job submission failed: Requested node configuration is not available
sbatch: error: Batch job submission failed: Node count specification invalid
sbatch: error: CPU count per node can not be satisfied
sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)
sbatch: error: Batch job submission failed: User's group not permitted to use this partition
sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)
sbatch: error: QOSMaxSubmitJobPerUserLimit
sbatch: error: Batch job submission failed: Requested reservation is invalid
sbatch: error: Batch job submission failed: Invalid generic resource (gres) specification
sbatch: error: Batch job submission failed: Job dependency problem
sbatch: error: You must specify an account with --account
sbatch: error: Batch job submission failed: Unspecified error
sbatch: unrecognized option '--nope'
sbatch: error: Unable to open file /x/y.sbatch
sbatch: error: No cluster 'nope' known by database.
scontrol: error: Invalid job id specified for job 9999
slurm_update error: Access/permission denied
scancel: error: Kill job error on job id 12: Job/step already completing or completed
squeue: fatal: Could not establish a configuration source
squeue: error: Invalid user: nobody2
sbatch: error: Invalid --mail-type specification
sbatch: error: Invalid --begin specification
sbatch: error: Invalid --exclusive specification
sbatch: error: Invalid --distribution specification
sbatch: error: Invalid --tmp specification
sbatch: error: Invalid --signal specification: x
sbatch: error: Invalid --deadline argument: x
sbatch: error: Invalid deadline time
sbatch: error: Invalid octal umask
sbatch: error: invalid --profile=x option""".splitlines()
# of the table in slurm_errno.c: what slurmctld answers to an sbatch that no time helps
STAYS = """\
No partition specified or system default partition
Requested nodes not in this partition
Invalid --nice value
Invalid partition name specified
Invalid node name specified
Invalid feature specification
Invalid preferred feature specification
Invalid Trackable RESource (TRES) specification
Invalid GRES specification (with and without type identification)
Duplicate generic resource (gres) specification
Invalid time-min specification (exceeds job's time or other limits)
Time limit specification required, but not provided
Job size specification needs to be provided
Task distribution specification invalid
Task count specification invalid
CPU count specification invalid
Invalid wckey specification
Invalid license specification
Invalid job array specification
Invalid mcs_label specified
Invalid core specification
Burst Buffer request invalid
Requested account has breached requested QOS usage threshold""".splitlines()
LAST += [f"sbatch: error: Batch job submission failed: {words}" for words in STAYS]
PASSING = """\
sbatch: error: Batch job submission failed: Slurm backup controller in standby mode
sbatch: error: Batch job submission failed: Unexpected message received
sbatch: error: Batch job submission failed: Socket timed out on send/recv operation
sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received
sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)
sbatch: error: Batch job submission failed: Resource temporarily unavailable
sbatch: error: Batch job submission failed: Protocol authentication error
sbatch: error: Batch job submission failed: Message receive failure
sbatch: error: Munge encode failed: Failed to connect to "/run/munge/munge.socket.2"
sbatch: error: Munge encode failed: Failed to access "/run/munge/munge.socket.2": No such file or directory
sbatch: error: Batch job submission failed: Invalid authentication credential
sbatch: error: Batch job submission failed: Invalid job credential
squeue: error: There is a problem talking to the database: Protocol authentication error.  Only local cluster communication is available
slurm_load_jobs error: Header lengths are longer than data received
sbatch: error: pack_msg: Invalid message version=6500, type:6500
sbatch: error: an error that a plugin made up yesterday""".splitlines()


@pytest.mark.parametrize("words", LAST)
def test_what_stays_as_it_is_ends_at_once(words):
    assert not passing(words)


@pytest.mark.parametrize("words", [*PASSING, ""])
def test_everything_else_is_tried_again(words):
    assert passing(words)
