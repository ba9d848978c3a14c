"""How command-line tools end."""

import pytest

from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG, EXIT_OK, InputError, StoreError, tool


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
