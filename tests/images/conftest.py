import tempfile

import pytest


@pytest.fixture
def node_cache(tmp_path, monkeypatch):
    """Where compiled code goes on this node: a folder of the test's own, which its process forgets afterwards."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.setenv("TRITON_CACHE_DIR", "")
    return tmp_path
