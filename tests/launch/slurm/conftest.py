from tests.launch.slurm.played import ended, folder, queue  # noqa: F401 (fixtures)
