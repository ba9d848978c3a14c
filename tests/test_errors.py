"""How command-line tools end."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from synth.errors import (
    EXIT_AGAIN,
    EXIT_BAD_INPUT,
    EXIT_BUG,
    EXIT_OK,
    REFUSALS,
    InputError,
    StoreError,
    explained,
    not_trouble,
    owned,
    tool,
)
from synth.store.files import storing


def test_a_tool_says_what_it_did(capsys):
    assert tool(lambda: "out.json: written") == EXIT_OK
    assert capsys.readouterr().out == "out.json: written\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("a.json: torn"), EXIT_BAD_INPUT),
        (StoreError("full"), EXIT_AGAIN),
        (OSError(28, "No space left"), EXIT_AGAIN),
    ],
)
def test_a_tool_that_fails_says_why_in_a_line_and_by_its_exit_code(capsys, error, code):
    def fail():
        raise error

    assert tool(fail) == code
    assert capsys.readouterr().err == f"error: {error}\n"


@pytest.mark.parametrize("error", [ZeroDivisionError("by 0"), FileNotFoundError(2, "No such file or directory"), KeyError("row")])
def test_a_bug_of_a_tool_is_shown_whole_and_is_70(capsys, error):
    def fail():
        raise error

    assert tool(fail) == EXIT_BUG
    said = capsys.readouterr().err
    assert said.startswith("Traceback") and said.endswith(f"{type(error).__name__}: {error}\n")


def test_a_package_that_is_missing_is_left_to_the_one_who_knows_the_remedy():
    def fail():
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    with pytest.raises(ModuleNotFoundError):
        tool(fail)


def test_what_is_denied_in_a_folder_of_somebody_else_names_whose_it_is_and_what_opens_it(tmp_path, monkeypatch):
    """umask 022 in a project that several share."""
    (tmp_path / "units").mkdir(mode=0o755)
    new = tmp_path / "units" / "000" / "new"
    assert owned(new, errno.EACCES) == ""  # it is ours: umask is not what is wrong

    def stat(path):
        if path == new:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return SimpleNamespace(st_uid=4242 if path.is_relative_to(tmp_path) else 0, st_mode=0o40755)

    home = tmp_path.parent
    monkeypatch.setattr("pwd.getpwuid", lambda uid: SimpleNamespace(pw_name="alice" if uid else "root", pw_dir=str(home)))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(Path, "stat", stat)
    said = owned(new, errno.EACCES)
    assert said.startswith(f": {tmp_path}/units is alice's, mode 755; who shares a folder works under `umask 002`")
    assert said.endswith(f"alice opens what is there by `chmod -R g+rwX {tmp_path}`")  # all of the run, and nothing above it
    assert owned(tmp_path.parent, errno.EPERM) == f": {tmp_path.parent} is root's, mode 755"  # a home, or a system's
    home = tmp_path / "units"
    assert owned(new, errno.EACCES) == f": {tmp_path}/units is alice's, mode 755"
    assert owned(new, errno.ENOSPC) == ""
    home = tmp_path.parent
    with pytest.raises(StoreError, match="umask 002"), storing(new):
        raise PermissionError(errno.EACCES, "Permission denied", str(new))
    assert "umask 002" in explained(PermissionError(errno.EACCES, "Permission denied", str(new)))
    with pytest.raises(StoreError, match="umask 002"):
        not_trouble(new, PermissionError(errno.EACCES, "Permission denied"), REFUSALS)
