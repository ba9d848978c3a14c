"""How the program names itself and its other commands, for every way in which it can be called."""

import pytest

from launch.config import program

LAUNCH = str(program.LAUNCH)


@pytest.fixture
def called(monkeypatch, tmp_path):
    """As if this process had been started by these words; installed: the programs that a shell finds by their names."""

    def start(*line: str, installed: tuple[str, ...] = ()):
        monkeypatch.setattr("sys.orig_argv", list(line))
        monkeypatch.setattr(program.shutil, "which", {word.rpartition("/")[2]: word for word in installed}.get)
        monkeypatch.chdir(program.LAUNCH.parent)

    return start


@pytest.mark.parametrize(
    ("line", "this", "verify", "alone"),
    [
        (["python", "launch/run.py", "seed=1"], "python launch/run.py seed=1", "python launch/verify.py", "python launch"),
        (
            ["python3", "-X", "dev", "launch/run.py"],
            "python3 -X dev launch/run.py",
            "python3 -X dev launch/verify.py",
            "python3 -X dev launch",
        ),
        (["python", f"{LAUNCH}/run.py"], f"python {LAUNCH}/run.py", f"python {LAUNCH}/verify.py", f"python {LAUNCH}"),
        (
            ["python", "-m", "launch.run", "a='b c'"],
            "python -m launch.run 'a='\"'\"'b c'\"'\"''",
            "python -m launch.verify",
            "python -m launch",
        ),
        (["python", "-um", "launch", "run", "x=1"], "python -um launch run x=1", "python -um launch verify", "python -um launch"),
        (["python", "launch", "run"], "python launch run", "python launch verify", "python launch"),
        (["/v/bin/python", "/v/bin/synthset", "run", "x=1"], "/v/bin/synthset run x=1", "/v/bin/synthset verify", "/v/bin/synthset"),
        (
            [".venv/bin/python", "launch/run.py"],
            ".venv/bin/python launch/run.py",
            ".venv/bin/python launch/verify.py",
            ".venv/bin/python launch",
        ),
    ],
)
def test_a_command_is_named_as_it_was_typed(called, line, this, verify, alone):
    called(*line)
    assert (program.this_command(), program.as_typed("verify"), program.as_typed()) == (this, verify, alone)


def test_what_a_shell_finds_by_its_name_is_named_without_its_folder(called):
    called("/v/bin/python", "/v/bin/synthset", "run", "x=1", installed=("/v/bin/synthset",))
    assert (program.this_command(), program.as_typed("cancel")) == ("synthset run x=1", "synthset cancel")
    called("/v/bin/python", "launch/run.py", installed=("/v/bin/python",))
    assert program.this_command() == "python launch/run.py"
    called("/v/bin/python", "launch/run.py", installed=("/other/bin/python",))
    assert program.this_command() == "/v/bin/python launch/run.py"


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (["python", "launch/run.py", "a=b c"], "/v/bin/python3 launch/run.py 'a=b c'"),
        (["python", "-um", "launch", "run", "x=1"], "/v/bin/python3 -um launch run x=1"),
        (["/v/bin/python3", "/v/bin/synthset", "run", "x=1"], "/v/bin/synthset run x=1"),
        (["python", "-m", "pytest"], "/v/bin/python3 anything"),
    ],
)
def test_a_command_that_is_kept_for_later_needs_nothing_that_is_activated(called, monkeypatch, line, kept):
    called(*line, installed=("/v/bin/python3", "/v/bin/synthset"))
    monkeypatch.setattr("sys.executable", "/v/bin/python3")
    monkeypatch.setattr("sys.argv", ["anything"])
    assert program.lasting_command() == kept


@pytest.mark.parametrize("found", [True, False])
def test_called_by_another_program_it_names_what_works_anyway(called, monkeypatch, found):
    called("python", "-m", "pytest", "launch/run.py")
    monkeypatch.setattr("sys.argv", ["anything", "x=1"])
    monkeypatch.setattr("sys.executable", "/v/bin/python")
    monkeypatch.setattr("synth.host.source.shutil.which", {"python": "/v/bin/python" if found else "/usr/bin/python"}.get)
    python = "python" if found else "/v/bin/python"
    assert (program.this_command(), program.as_typed("run")) == (f"{python} anything x=1", f"{python} -m launch run")


def test_help_texts_name_commands_as_they_are_called_here(called):
    called("python", "launch/run.py")
    assert program.help_text("use synthset export or synthset nothing") == "use python launch/export.py or synthset nothing"


def test_folders_of_a_command_line_are_neither_settings_nor_values_of_flags():
    words = ["-m", "--config-dir", "conf", "runs/a", "seed=1", "~model.path", "--cfg", "job", "runs/b"]
    assert program.folders_of(words) == ["runs/a", "runs/b"]


def test_cards_and_reports_tell_a_command_without_whom_its_user_tells():
    line = "python launch/run.py seed=1 'notify.command=curl https://hooks.example/T0' +notify.timeout_s=9 dataset.name='a b'"
    assert program.public(line) == "python launch/run.py seed=1 'dataset.name=a b'"
    for other in ("python launch/run.py 'x=```'", "it's no command of ours: notify.command"):
        assert program.public(other) == other
