"""cluster=slurm: from planned stages to arrays and gates in the queue. Only files and Slurm's own commands; no pickle, no daemon."""
