"""Where the stages of these tests lie: in memory, so that thousands of fsyncs cost nothing, or where SYNTHSET_TEST_DIR says
(a network file system, to try that one)."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path():
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 1 << 30 else None
    path = Path(tempfile.mkdtemp(prefix="synthset-test-", dir=os.environ.get("SYNTHSET_TEST_DIR", memory)))
    yield path
    shutil.rmtree(path, ignore_errors=True)
