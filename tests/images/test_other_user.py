"""A picture that this user may not read: a fact about the user, and none about the picture. Where tests run as root."""

import os
import tempfile
from pathlib import Path

import pytest

from synth.errors import StoreError
from synth.images.sources.read import read_file

NOBODY = 65534


def told_as_nobody(path: Path, root: Path) -> str:
    """What reading a file as another user ends with: the name of the class of the error and its message, or what it gave."""
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            said = repr(read_file(path, path.stat().st_size, root))
        except BaseException as e:  # noqa: BLE001 (told to the parent)
            said = f"{type(e).__name__}: {e}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with open(read, "rb") as f:
        return f.read().decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_picture_of_somebody_else_is_trouble_and_no_tombstone():
    with tempfile.TemporaryDirectory() as folder:  # of pytest's own nobody else may look into any
        root = Path(folder)
        root.chmod(0o755)
        (root / "a.png").write_bytes(b"x")
        assert told_as_nobody(root / "a.png", root) == "b'x'"
        (root / "a.png").chmod(0o600)
        said = told_as_nobody(root / "a.png", root)
        assert said.startswith(f"{StoreError.__name__}: ") and "Permission denied" in said and str(root / "a.png") in said
        assert "root's, mode 600" in said
