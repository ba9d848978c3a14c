"""The served engine: transformers' own server on a tiny model, and servers that die in the middle."""

import json
import os
import shutil
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from synth.captions.engines import TOO_LONG, Request
from synth.captions.remote import calls
from synth.captions.remote.served import ServedEngine, check_command
from synth.captions.remote.settings import Endpoint
from synth.errors import InputError, StageBroken
from synth.host.children import descendants
from tests.captions.llama import tiny
from tests.configs import CaptionerConfig
from tests.processes import wait_gone

FAKE = (sys.executable, "-m", "tests.captions.remote.fake", "--port", "{port}")
SERVE = (
    sys.executable,
    "-m",
    "transformers.cli.transformers",
    "serve",
    "{model}",
    "--host",
    "{host}",
    "--port",
    "{port}",
    "--device",
    "cpu",
)


def engine(tmp_path, command, model="m", **change):
    config = CaptionerConfig("served", "m", api="completions", max_seq_len=128, max_gen_len=12, command=command)
    settings = {"concurrency": 4, "timeout": 30.0, "retries": 3, "start_timeout": 120.0, "restarts": 2} | change
    return ServedEngine(config, Endpoint(**settings), tmp_path, str(model))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(calls, "FIRST_WAIT", 0.01)


def requests(n):
    return [Request(f"heading\n\nclass {i} =>", seed=i) for i in range(n)]


def test_transformers_serve_writes_captions_and_ends_with_the_engine(tmp_path, hf_chat):
    served = engine(tmp_path, SERVE, hf_chat)
    served.check()
    try:
        asked = [Request(t, seed=i) for i, t in enumerate(tiny.prompts(6))]
        replies = served.generate([*asked, Request("long " * 200)])
        assert replies[-1].error == TOO_LONG  # this server has no limit of its own: its count of tokens tells
        assert len({r.text for r in replies[:-1]}) > 1 and not any("\n" in r.text or r.error for r in replies[:-1])
        spent = served.usage()
        assert spent["requests"] == 7 and spent["tokens_in"] > 200 and 7 <= spent["tokens_out"] <= 7 * 12
        assert served.generate(asked) == replies[:-1] and served.usage()["reused"] == 6
        pids = descendants(served.server._guardian.pid)
        log = served.server.log
    finally:
        served.close()
    wait_gone(pids)
    assert pids and log.parent.name == "logs" and log.stat().st_size


def test_a_server_that_dies_in_the_middle_is_started_again_and_no_answer_is_lost(tmp_path, quick):
    served = engine(tmp_path, (*FAKE, "--die-after", "5", "--die-once", str(tmp_path / "died")))
    try:
        assert [r.text for r in served.generate(requests(12))] == [f" A picture of class {i}." for i in range(12)]
        assert served.server.starts == 2 and served.usage()["requests"] <= 12 + 3  # whether it answers again is asked thrice
    finally:
        served.close()


@pytest.mark.parametrize("linger", ["0", "0.3"], ids=["at-once", "slowly"])
def test_a_prompt_that_kills_the_server_is_rejected_and_the_others_are_answered(tmp_path, monkeypatch, linger):
    """Slowly: whoever asks a server that is about to end is not blamed for it."""
    monkeypatch.setattr(calls, "FIRST_WAIT", 0.2)
    served = engine(tmp_path, (*FAKE, "--die-at", "class 2 ", "--linger", linger))
    try:
        replies = served.generate(requests(8))
        assert [r.error for r in replies] == ["", "", "refused_by_server", *[""] * 5] and "no connection" in replies[2].text
        assert [r.text for n, r in enumerate(replies) if n != 2] == [f" A picture of class {i}." for i in range(8) if i != 2]
        assert served.server.starts == 3  # restarts=2 are enough
    finally:
        served.close()


def test_each_request_in_flight_has_its_room_in_a_server_that_shares_one(tmp_path):
    """llama.cpp, for example: docs/captioners.md."""
    served = engine(tmp_path, ("llama-server", "--port", "{port}", "-c", "{context}", "-np", "{max_batch_size}"))
    assert served._command(7) == ["llama-server", "--port", "7", "-c", str(4 * 128), "-np", "4"]


def test_a_server_that_falls_silent_is_killed_and_started_again(tmp_path, quick, monkeypatch):
    served = engine(tmp_path, (*FAKE, "--deaf-after", "2", "--die-once", str(tmp_path / "deaf")), timeout=1.5, concurrency=2, restarts=6)
    real = served.server._healthy
    monkeypatch.setattr(served.server, "_healthy", lambda timeout: real(min(timeout, 1.0)))
    try:
        assert [r.text for r in served.generate(requests(6))] == [f" A picture of class {i}." for i in range(6)]
        assert served.server.starts >= 2
    finally:
        served.close()


def test_a_server_that_dies_again_and_again_breaks_the_stage_which_may_be_opened_anew(tmp_path, quick):
    served = engine(tmp_path, (*FAKE, "--die-after", "2"), restarts=1, concurrency=1)
    try:
        with pytest.raises(StageBroken, match="restarts is used up"):
            served.generate(requests(6))
        served.close()
        assert [r.text for r in served.generate(requests(3))] == [f" A picture of class {i}." for i in range(3)]  # two kept, one new
    finally:
        served.close()


def test_a_command_needs_a_port_and_known_braces(tmp_path):
    check_command(("x", "--port={port}", "{{json}}"))
    for words, said in [
        (("x",), r"must hold \{port\}"),
        (("x", "{prot}"), r"\{prot\} is not known; there are \{model\}"),
        (("x", "{port"), "braces that are meant as such"),
        ((), "must hold"),
    ]:
        with pytest.raises(InputError, match=said):
            check_command(words)
    with pytest.raises(InputError, match="nothing-here is not found"):
        engine(tmp_path, ("nothing-here", "{port}")).check()
    assert shutil.which(SERVE[0])


def asked(url, key=""):
    """The status of a request of somebody on this machine."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url + "/v1/completions", json.dumps({"model": "m", "prompt": "x"}).encode(), headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as e:
        return e.code


def test_a_neighbour_on_the_machine_cannot_use_the_server_and_the_key_is_nowhere_to_be_read(tmp_path, quick):
    served = engine(tmp_path, FAKE)
    try:
        assert [r.text for r in served.generate(requests(3))] == [f" A picture of class {i}." for i in range(3)]
        server, key = served.server, served.server.key
        assert len(key) >= 43 and asked(server.url) == asked(server.url, "guess") == 401 and asked(server.url, key) == 200
        pids = [server._guardian.pid, *descendants(server._guardian.pid)]
        assert not any(key in Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)
        os.kill(pids[1], signal.SIGKILL)
        server._guardian.wait(240)
        assert [r.text for r in served.generate(requests(5))] == [f" A picture of class {i}." for i in range(5)]
        assert server.starts == 2 and server.key != key and asked(server.url, key) == 401
        keys = key, server.key
    finally:
        served.close()
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert written and not any(k.encode() in p.read_bytes() for p in written for k in keys)
    assert not any(k in str(vars(served.endpoint)) + str(served.usage()) for k in keys)
