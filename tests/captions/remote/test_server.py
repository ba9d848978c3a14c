"""Servers of our own: they are there when they are needed, and gone when their worker is, however it ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synth.captions.remote import server as module
from synth.captions.remote.server import Server
from synth.errors import InputError, Killed, OutOfDeviceMemory, StageBroken
from synth.host.children import descendants, is_alive
from tests.processes import wait_gone
from tests.stages import wait_for

REPO = Path(__file__).resolve().parents[3]


def command(*more):
    return lambda port: [sys.executable, "-m", "tests.captions.remote.fake", "--port", port, *more]


@pytest.fixture
def serve(tmp_path):
    made = []

    def build(words, start_timeout=240.0, restarts=2):
        log = tmp_path / "logs" / ("server.log" if not made else f"server{len(made)}.log")
        made.append(Server(words, log, "/health", start_timeout, restarts))
        return made[-1]

    yield build
    for one in made:
        one.close()


def family(server):
    """The guardian, the server, and the child that it started in a session of its own."""
    found = wait_for(lambda: len(pids := [server._guardian.pid, *descendants(server._guardian.pid)]) >= 3 and pids)
    assert len(found) == 3 and all(map(is_alive, found))
    return found


def test_close_leaves_no_process_and_the_log_stays(serve, tmp_path):
    server = serve(command("--child"))
    server.ensure()
    pids = family(server)
    server.ensure()
    assert server.starts == 1 and server._healthy(5) == 200
    for pid in pids[:2]:  # a scheduler signals every process of a job; the worker alone decides when to stop
        for sent in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP):
            os.kill(pid, sent)
    time.sleep(0.1)
    assert server._healthy(5) == 200
    server.close()
    wait_gone(pids)
    assert "fake server" in (tmp_path / "logs" / "server.log").read_text()
    with pytest.raises(StageBroken, match="closed"):
        server.ensure()


@pytest.mark.parametrize("victim", ["worker", "guardian"])
def test_a_kill_of_the_worker_or_the_guardian_takes_the_server_and_its_children_along(tmp_path, victim):
    """SIGKILL: nobody gets to clean up. The worker's own process group is not what saves us: only it is killed."""
    code = f"""
import sys, json, time
from pathlib import Path
from synth.host.children import descendants
from synth.captions.remote.server import Server
words = lambda port: [sys.executable, "-m", "tests.captions.remote.fake", "--port", port, "--child"]
server = Server(words, Path({str(tmp_path)!r}) / "log", "/health", 240.0, 0)
server.ensure()
while len(pids := [server._guardian.pid, *descendants(server._guardian.pid)]) < 3: time.sleep(0.02)
print(json.dumps(pids), flush=True)
time.sleep(600)
"""
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=REPO, stdout=subprocess.PIPE, text=True, start_new_session=True)
    pids = json.loads(worker.stdout.readline())
    try:
        assert all(map(is_alive, pids))
        os.kill(worker.pid if victim == "worker" else pids[0], signal.SIGKILL)
        # the guardian's own death leaves what the server started in other sessions to the server
        wait_gone(pids if victim == "worker" else pids[:2])
    finally:
        worker.kill()
        for pid in pids:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        worker.wait()


def test_a_server_that_dies_is_started_again_on_another_port_a_bounded_number_of_times(serve):
    server = serve(command(), restarts=2)
    ports = []
    for _ in range(3):
        server.ensure()
        ports.append(server.port)
        os.kill(descendants(server._guardian.pid)[0], signal.SIGKILL)
        server._guardian.wait(240)
    with pytest.raises(Killed, match=r"(?s)killed by SIGKILL\n.*captioner.restarts is used up\nlast lines of .*server.log.*fake server"):
        server.ensure()
    assert server.starts == 3 and len(set(ports)) == 3


def test_a_server_that_never_gets_ready_is_told_with_its_log(serve, tmp_path):
    with pytest.raises(StageBroken, match=r"(?s)ended before it was ready \(exit 3\).*cannot read the model"):
        serve(command("--exit", "3")).ensure()
    with pytest.raises(OutOfDeviceMemory, match=r"lower captioner\.max_batch_size"):
        serve(command("--exit", "9")).ensure()
    slow = serve(lambda port: ["sleep", "600"], start_timeout=0.3)
    with pytest.raises(StageBroken, match=r"not ready after 0\.3 s"):
        slow.ensure()
    assert slow._guardian.poll() is not None
    with pytest.raises(InputError, match="no-such-program is not found here"):
        serve(lambda port: ["no-such-program"]).check()
    with pytest.raises(StageBroken, match="exit 127"):
        serve(lambda port: [str(tmp_path)]).ensure()


def test_a_deaf_server_is_killed_and_a_live_one_is_not(serve, tmp_path, monkeypatch):
    server = serve(command())
    server.ensure()
    server.kill_if_deaf()
    assert server._guardian.poll() is None
    monkeypatch.setattr(server, "_healthy", lambda timeout: None)
    server.kill_if_deaf()
    assert server._guardian.poll() is not None


def test_another_programs_port_is_not_taken_for_ours(serve, monkeypatch):
    """Between choosing a port and listening on it a server loads for minutes; somebody else may be there by then."""
    from tests.captions.remote.fake import Fake

    with Fake() as other:
        taken, free = other.http.server_port, module._free_port()
        ports = iter([taken, free])
        monkeypatch.setattr(module, "_free_port", lambda: next(ports))
        server = serve(command())
        server.ensure()
        assert server.port == free and server.starts == 2
    with socket.socket() as s:
        s.bind((module.HOST, 0))
        s.listen()
        assert module._listening(s.getsockname()[1])
