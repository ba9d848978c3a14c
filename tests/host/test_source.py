"""The code that child processes import: ours, without ever standing before the standard library."""

import site
import subprocess

from synth.host import source


def test_a_clone_goes_before_what_is_set_and_an_installed_synth_is_found_without_help(monkeypatch):
    clone, given = str(source.SOURCE), {"PYTHONPATH": "/mine::/yours"}
    assert source.python_path({}) == {"PYTHONPATH": clone}
    assert source.python_path(given) == {"PYTHONPATH": f"{clone}:/mine:/yours"}
    assert source.python_path({"PYTHONPATH": f"/mine:{clone}"}) == {"PYTHONPATH": f"{clone}:/mine"}
    monkeypatch.setattr(site, "getsitepackages", lambda: [clone])
    assert source.python_path({}) == {} and source.python_path(given) == {"PYTHONPATH": "/mine:/yours"}


def test_a_printed_command_runs_in_a_shell_where_nothing_is_activated(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("synth.host.source.shutil.which", {"python": "/usr/bin/python"}.get)
    line = f"{source.as_module('synth.worker')} --help"
    bare = {"PATH": "/usr/bin:/bin"}
    said = subprocess.run(["sh", "-c", line], env=bare, cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 0 and "STAGE_DIR" in said.stdout.upper(), said.stderr
    monkeypatch.setattr("synth.host.source.shutil.which", {"python": source.sys.executable}.get)
    monkeypatch.chdir(source.SOURCE)
    assert source.as_module("synth.worker") == "python -m synth.worker"
