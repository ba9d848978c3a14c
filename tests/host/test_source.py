"""The code that child processes import: ours, without ever standing before the standard library."""

import site

from synth.host import source


def test_a_clone_goes_before_what_is_set_and_an_installed_synth_is_found_without_help(monkeypatch):
    clone, given = str(source.SOURCE), {"PYTHONPATH": "/mine::/yours"}
    assert source.python_path({}) == {"PYTHONPATH": clone}
    assert source.python_path(given) == {"PYTHONPATH": f"{clone}:/mine:/yours"}
    assert source.python_path({"PYTHONPATH": f"/mine:{clone}"}) == {"PYTHONPATH": f"{clone}:/mine"}
    monkeypatch.setattr(site, "getsitepackages", lambda: [clone])
    assert source.python_path({}) == {} and source.python_path(given) == {"PYTHONPATH": "/mine:/yours"}
