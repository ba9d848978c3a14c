"""notify.command: a real shell, the variables it gets, and that nothing it does is more than a line."""

import os
import signal

import pytest

from launch.show.notice import News, news_of, send
from tests.processes import wait_gone

HOSTILE = "it's $(touch broken) `touch broken`; touch broken\n\0\x1b[31m"
NEWS = News(65, "/runs of mine", "cars,'birds'", "synthset report '/runs of mine'", "", "/runs/cars/images-1", HOSTILE)


def sent(command, timeout_s=20.0, news=NEWS, **env):
    lines = []
    send(command, timeout_s, news, lines.append, {"PATH": "/usr/bin:/bin", **env})
    (line,) = lines
    return line


def test_what_happened_stands_in_variables_and_is_read_by_no_shell(tmp_path):
    script = tmp_path / "tell me"
    script.write_text('#!/bin/sh\ncd "$(dirname "$0")"\nenv | grep -a ^SYNTHSET_ >told; printf %s "$SYNTHSET_WHY" >why\n')
    script.chmod(0o755)
    assert sent(f"'{script}'") == "notify.command was run"
    told = dict(line.split("=", 1) for line in (tmp_path / "told").read_text().split("\n") if line.startswith("SYNTHSET_"))
    assert told["SYNTHSET_OUTCOME"] == "failed" and told["SYNTHSET_EXIT_CODE"] == "65" and told["SYNTHSET_DATASET"] == "cars,'birds'"
    assert told["SYNTHSET_RUNS"] == "/runs of mine" and told["SYNTHSET_REPORT"] == "synthset report '/runs of mine'"
    assert (tmp_path / "why").read_text() == HOSTILE.replace("\0", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tell me", "told", "why"]


def test_outcomes_are_told_by_the_exit_code(tmp_path):
    assert [news_of(code, [tmp_path / "runs" / "cars"], "").outcome for code in (0, 75, 65, 70)] == ["done", "drained", "failed", "failed"]
    assert news_of(0, [tmp_path / "cars", tmp_path / "birds"], "").dataset == "cars,birds"


def test_it_does_not_get_secrets_and_what_it_says_is_told():
    said = sent('echo "[$MY_TOKEN][$PLAIN]"; echo more >&2', MY_TOKEN="abcdefgh12345678", PLAIN="words")
    assert said == "notify.command was run: [][words]\nmore"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("exit 3", "warning: notify.command ended with exit code 3"),
        ("no-such-program", "warning: notify.command ended with exit code 127: "),
        ("kill -9 $$", "warning: notify.command ended with exit code -9"),
        ("echo 'unclosed", "warning: notify.command ended with exit code 2: "),
        ("a\0b", "warning: notify.command could not be started: "),
    ],
)
def test_what_goes_wrong_is_a_line(command, said):
    assert sent(command).startswith(said)


def test_one_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    child = tmp_path / "child"
    for seconds in (0.5, 5.0, 50.0):  # that a busy machine may need to start a shell
        child.write_text("")
        said = sent(f"(sleep 600; touch {tmp_path}/late) & echo $! >{child}; echo begun; sleep 600", seconds)
        how = f"warning: notify.command was ended after {seconds:g} s (notify.timeout_s)"
        assert said in (how, f"{how}: begun")
        if said != how:
            break
    assert said == f"{how}: begun"
    wait_gone([int(child.read_text())])
    assert not (tmp_path / "late").exists()


def test_what_it_leaves_running_is_not_waited_for_and_a_flood_is_cut(tmp_path):
    child = tmp_path / "child"
    assert sent(f"sleep 600 & echo $! >{child}; exit 0", 300.0) == "notify.command was run"
    os.kill(int(child.read_text()), signal.SIGKILL)
    assert len(sent("head -c 3000000 /dev/zero | tr '\\0' x")) < 5000
