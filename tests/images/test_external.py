"""External models: a real child process behind the images stage, one that behaves and many that do not."""

import re
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG, EXIT_OK, InputError
from synth.host import deaths
from synth.images.external import painter
from synth.keys import check
from synth.kinds import config_of
from synth.store.folder import StageFolder
from synth.store.identity import identity
from synth.store.spec import InputFile
from tests.configs import ImagesConfig, ModelConfig
from tests.fixtures_images import captions_json_stage, captions_stage, child, digests, work
from tests.images.test_stage import pixels, records
from tests.processes import everywhere
from tests.stages import events, wait_for

CAPTIONS = ["a red panda", 'say "cheese"\nin ünïcode <b>', "", "../../etc/passwd", "x" * 10_000, "last\u2028one"]
DOCS = (Path(__file__).parents[2] / "docs" / "external.md").read_text()
EXAMPLE = re.search(r"```python\n(.*?)```", DOCS, re.DOTALL)[1]

NAP = f"1000.{secrets.randbelow(10**9):09d}"  # seconds; a `sleep` of exactly so many is one that a test here started

# what goes wrong, put into the example just before a picture is drawn; `n` counts requests of this life of the command
FAULTS = {
    "dies at a prompt, once": "if n == 3 and not os.path.exists(MARK): open(MARK, 'w').close(); os._exit(7)",
    "dies at a prompt, always": "if request['prompt'] == 'a red panda': os._exit(7)",
    "hangs at a prompt, always": f"if request['prompt'] == 'a red panda': subprocess.Popen(['sleep', '{NAP}']); time.sleep(1000)",
    "dies always": "os._exit(9)",
    "answers no request": "say(id=99)",
    "prints": "answers.write('loading 50%\\n[1, 2]\\nnull\\n\\xff\\n'); answers.flush()",
    "floods": "answers.write('noise\\n' * 2_000); answers.flush()",
    "one endless line": "answers.write('x' * 3_000_000); answers.flush()",
    "draws another size": "request['width'] = 10",
    "writes garbage": "open(request['out'], 'wb').write(b'no picture'); say(id=request['id']); continue",
    "writes half a picture": "draw(**request).save(request['out']); os.truncate(request['out'], 60); say(id=request['id']); continue",
    "writes nothing": "say(id=request['id']); continue",
    "names a file outside": "say(id=request['id'], image='/etc/passwd'); continue",
    "names no file": "say(id=request['id'], image={'a': 1}); continue",
    "is killed at a prompt, twice": (
        "if n == 1 and not (os.path.exists(MARK) and os.path.getsize(MARK) > 1): open(MARK, 'a').write('x'); os.kill(os.getpid(), 9)"
    ),
    "is killed always": "os.kill(os.getpid(), 9)",
    "refuses a prompt": "if not request['prompt']: say(id=request['id'], error='no\\nwords'); continue",
}


def script(folder: Path, fault: str = "") -> Path:
    """The documented example, with a fault."""
    text = f"import os, subprocess, time\nMARK, n = {str(folder / 'mark')!r}, 0\n" + EXAMPLE
    text = text.replace("    request = json.loads(line)\n", f"    request = json.loads(line)\n    n += 1\n    {fault or 'pass'}\n")
    file = folder / "draw.py"
    file.write_text(text)
    return file


def stage(root: Path, file: Path, settings: dict | None = None, slots: int = len(CAPTIONS), **model) -> StageFolder:
    """Six captions, or the first of them, in units of three, batches of two."""
    table = captions_json_stage(root, [captions_stage(root, CAPTIONS[:slots])], slots)
    assert work(table) == EXIT_OK
    inputs = {"model_command_1": InputFile(str(file), identity(file))}
    command = ModelConfig("toy", "external", command=(sys.executable, "{model_command_1}"), **model)
    config = ImagesConfig(seed=3, model=command, height=16, width=24)
    run = {"timeout": 20.0, "start_timeout": 30.0, "restarts": 3} | (settings or {})
    return child(root, "images", config, {"captions": [table]}, slots, 3, 2, inputs, run=run)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """(fault, slots, settings) -> (exit code, stage). Whatever happens, no folder of exchanged files is left."""
    (tmp_path / "node").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "node"))

    def make(fault: str = "", slots: int = len(CAPTIONS), **settings):
        folder = stage(tmp_path / "runs" / "toys", script(tmp_path, FAULTS.get(fault, "")), settings, slots)
        code = work(folder)
        assert not list((tmp_path / "node").iterdir())
        return code, folder

    return make


def reasons(folder) -> dict[int, str]:
    found = {}
    for number in range(folder.spec.n_units):
        with folder.reader(number) as reader:
            found |= dict(reader.index.tombstones)
    return found


def failures(folder) -> str:
    return "\n".join(p.read_text() for p in sorted((folder.path / "failed").rglob("*")) if p.is_file())


def test_the_documented_example_draws_every_caption(made, tmp_path):
    code, folder = made()
    assert code == EXIT_OK and folder.is_done() and not reasons(folder)
    found = pixels(folder)
    assert len(found) == len(CAPTIONS) and all(p.shape == (16, 24, 3) for p in found.values())
    assert len({p.tobytes() for p in found.values()}) == len(CAPTIONS)
    record = records(folder)[1]
    assert record["caption"] == CAPTIONS[1] and record["model"] == "toy" and record["computed_width"] == 24
    assert record["model_parts"]["model_command_1"] == identity(tmp_path / "draw.py")


def test_pictures_are_the_same_for_one_and_for_three_jobs_and_say_who_promises_it(made, tmp_path):
    _, once = made()
    file = script(tmp_path)
    other = stage(tmp_path / "b" / "toys", file)
    for job in (2, 0, 1):
        assert work(other, job, 3) == EXIT_OK
    assert digests(other) == digests(once)
    from synth.kinds import stage_class

    assert not stage_class("images")(other).deterministic
    promised = stage(tmp_path / "c" / "toys", file, deterministic=True)
    assert stage_class("images")(promised).deterministic and promised.spec.fingerprint != other.spec.fingerprint


@pytest.mark.parametrize("fault", ["dies at a prompt, once", "is killed at a prompt, twice", "prints"])
def test_what_can_be_mended_leaves_no_trace_in_the_pictures(fault, made, tmp_path):
    code, folder = made(fault)
    assert code == EXIT_OK and not reasons(folder)
    plain = stage(tmp_path / "b" / "toys", script(tmp_path))
    assert work(plain) == EXIT_OK
    assert {k: p.tobytes() for k, p in pixels(folder).items()} == {k: p.tobytes() for k, p in pixels(plain).items()}
    log = "".join(p.read_text(errors="replace") for p in (folder.path / "logs").glob("external-*.log"))
    assert log.count("---") == {"dies": 2, "is": 3, "prints": 1}[fault.partition(" ")[0]]
    assert ("loading 50%" in log) == (fault == "prints")


@pytest.mark.parametrize(
    ("fault", "why"),
    [("dies at a prompt, always", "ended by itself (exit 7)"), ("hangs at a prompt, always", "no answer within 3 s")],
)
def test_a_prompt_that_is_the_end_of_it_twice_becomes_a_tombstone(fault, why, made):
    code, folder = made(fault, timeout=3.0)
    assert code == EXIT_OK and list(reasons(folder)) == [0] and why in reasons(folder)[0] and "failed on it 2 times" in reasons(folder)[0]
    assert len(pixels(folder)) == len(CAPTIONS) - 1
    wait_for(lambda: not sleepers())  # what it started is killed with it


def sleepers() -> list[int]:
    return [pid for pid, words in everywhere().items() if words == [b"sleep", NAP.encode()]]


def test_a_refused_prompt_is_a_tombstone_with_its_reason(made):
    code, folder = made("refuses a prompt")
    assert code == EXIT_OK and reasons(folder) == {2: "the command refused: no words"}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("dies always", "failed 2 times without a picture (model.restarts): it ended by itself (exit 9)"),
        ("answers no request", "an answer to no request"),
        ("floods", "1000 lines that are no protocol"),
        ("one endless line", "a line of more than 1048576 bytes"),
        ("draws another size", "it drew 10x16 pixels where 24x16 were asked for; set images.width=10"),
        ("writes garbage", "not a whole picture"),
        ("writes half a picture", "not a whole picture"),
        ("writes nothing", "names '0.png', which is no file"),
        ("names a file outside", "names '/etc/passwd', which is no file"),
        ("names no file", "which is no file"),
    ],
)
def test_what_cannot_be_mended_sets_the_unit_aside_and_says_why(fault, said, made):
    code, folder = made(fault, slots=3, restarts=int("2 times" in said))  # one unit
    assert code == EXIT_BUG and not folder.is_whole()
    assert said in failures(folder)


def test_a_command_that_is_always_killed_blames_nobody_and_the_next_one_goes_on(made, tmp_path):
    code, folder = made("is killed always", restarts=1)
    assert code == EXIT_AGAIN and not failures(folder) and not folder.committed()
    (why,) = (e["why"] for e in events(folder, "stop"))
    assert "3 times in a row" in why and "killed by SIGKILL" in why and "failed 2 times without a picture (model.restarts)" in why


@pytest.mark.parametrize("fault", ["refuses a prompt", "writes half a picture", "dies always"])
def test_what_a_command_does_while_its_disk_is_full_says_nothing_about_a_prompt(fault, made, monkeypatch):
    for module in (painter, deaths):
        monkeypatch.setattr(module, "no_room", lambda *places: f"{places[-1]}: No space left on device")
    code, folder = made(fault)
    assert code == EXIT_AGAIN and not failures(folder)
    assert "No space left on device" in next(e["why"] for e in events(folder, "stop"))


@pytest.mark.parametrize(
    ("hello", "said"), [('{"hello": "synthset-external", "version": 2}', '"version": 2'), ('{"id": 1}', "its hello was")]
)
def test_another_version_of_the_protocol_is_refused(hello, said, tmp_path, capfd):
    file = tmp_path / "draw.py"
    file.write_text(f"print('{hello}', flush=True)\ninput()")
    folder = stage(tmp_path / "runs" / "toys", file)
    assert work(folder) == EXIT_BAD_INPUT
    assert said in capfd.readouterr().err


def test_a_command_that_never_says_hello_is_killed(tmp_path):
    file = tmp_path / "draw.py"
    file.write_text("import time\ntime.sleep(1000)")
    folder = stage(tmp_path / "runs" / "toys", file, {"start_timeout": 0.3, "restarts": 0})
    assert work(folder) == EXIT_BUG and "no hello within 0.3 s" in failures(folder)


def test_a_killed_worker_takes_the_command_along(tmp_path):
    folder = stage(tmp_path / "runs" / "toys", script(tmp_path, FAULTS["hangs at a prompt, always"]))
    worker = subprocess.Popen([sys.executable, "-m", "synth.worker", str(folder.path), "--trust"], stderr=subprocess.DEVNULL)
    wait_for(sleepers)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    wait_for(lambda: not sleepers())


def test_a_command_that_is_not_there_is_said_before_anything_is_drawn(tmp_path, capfd):
    folder = stage(tmp_path / "runs" / "toys", script(tmp_path))
    config = replace(config_of(folder), model=replace(config_of(folder).model, command=("no-such-program", "{model_command_1}")))
    inputs = folder.spec.inputs
    other = child(folder.path.parent, "images", config, {"captions": [folder.upstream("captions")[0]]}, 6, 3, 2, inputs)
    assert work(other) == EXIT_BAD_INPUT
    assert "model.command: no-such-program is not found here" in capfd.readouterr().err


def test_patience_is_out_of_range():
    for settings in ({"timeout": 0}, {"start_timeout": float("inf")}, {"restarts": -1}):
        with pytest.raises(InputError, match=f"model.{next(iter(settings))}="):
            check(ModelConfig("m", **settings), "model")
