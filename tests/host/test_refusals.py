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
squeue: error: Invalid user: nobody2""".splitlines()
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
