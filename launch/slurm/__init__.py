"""cluster=slurm: from planned stages to arrays and gates in the queue, by files and Slurm's own commands; no pickle."""
