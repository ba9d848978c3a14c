"""A test that holds a cluster and never ends, for those that kill a test run: pytest tests/slurm/held.py."""

import os
import time
from pathlib import Path


def test_holds_a_cluster(cluster):
    Path(os.environ["HELD"]).write_text(str(cluster.path))
    time.sleep(600)
