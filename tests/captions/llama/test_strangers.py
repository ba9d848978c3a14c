"""Who else is on the node: what the ranks and torchrun listen on, asked from another user's process."""

import contextlib
import datetime
import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch.distributed as dist

from synth.captions.llama.engine import LlamaEngine
from synth.host.children import descendants
from tests.captions.llama import tiny
from tests.captions.llama.test_engine import config, requests
from tests.processes import links_of

TCP_LISTEN = "0A"
NOBODY = 65534
KNOCKS = """
import encodings.idna, json, os, socket, sys  # all of it now: the other user may not be let to where Python lies
os.setgroups([]); os.setgid({uid}); os.setuid({uid})
said = {{}}
for host, port in json.loads(sys.argv[1]):
    try:
        with socket.create_connection((host, port), 3) as s:
            s.settimeout(1)
            said[f"{{host}}:{{port}}"] = "open"
            s.sendall(os.urandom(512))
            s.recv(512)
    except OSError as e:
        said.setdefault(f"{{host}}:{{port}}", type(e).__name__)
print(json.dumps(said))
"""


def takes(port: int, seconds: float = 8.0) -> bool:
    """Whether a stranger can leave a value in a store of torch behind a port of loopback: who asks other ports waits in vain."""
    left = []

    def leave() -> None:
        with contextlib.suppress(RuntimeError):  # refused, closed, or no store
            store = dist.TCPStore("127.0.0.1", port, is_master=False, timeout=datetime.timedelta(seconds=seconds))
            store.set("left by a stranger", "x")
            left.append(port)

    asking = threading.Thread(target=leave, daemon=True)
    asking.start()
    asking.join(seconds)
    return bool(left)


def listeners(pids) -> dict[int, str]:
    """port -> address ("127.0.0.1", "0.0.0.0", ..) on which one of some processes listens, by /proc."""
    inodes = {link[8:-1] for pid in pids for link in links_of(pid) if link.startswith("socket:[")}
    found = {}
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == TCP_LISTEN and fields[9] in inodes:
                raw, port = fields[1].split(":")
                words = [bytes.fromhex(raw[i : i + 8])[::-1] for i in range(0, len(raw), 8)]
                found[int(port, 16)] = socket.inet_ntop(family, b"".join(words))
    return found


def addresses() -> list[str]:
    """This machine's addresses other than loopback."""
    names = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()
    return [a for a in names if ":" not in a]


@pytest.fixture(scope="module")
def engine(gqa2, tmp_path_factory):
    with LlamaEngine(config(gqa2, tmp_path_factory.mktemp("engine"))) as made:
        yield made


def ours(engine) -> list[int]:
    return [engine.pid, *descendants(engine.pid)]


def test_nothing_listens_where_another_machine_could_ask(engine):
    assert len(ours(engine)) >= 3
    assert set(listeners(ours(engine)).values()) <= {"127.0.0.1"}


def test_no_port_is_a_store_in_which_a_stranger_can_leave_something(engine):
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    assert takes(store.port, 240)  # a store would have taken it
    ports = list(listeners(ours(engine)))
    with ThreadPoolExecutor(len(ports) or 1) as pool:
        assert not any(pool.map(takes, ports))


def test_the_folder_in_which_the_ranks_meet_is_ours_alone_and_goes_with_the_engine(gqa2, tmp_path):
    engine = LlamaEngine(config(gqa2, tmp_path))
    engine.start()
    place = engine._scratch.path
    assert place.stat().st_mode & 0o777 == 0o700 and (place / "ranks").exists()
    engine.close()
    assert not place.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root")
def test_another_user_who_knocks_everywhere_changes_no_caption(engine):
    prompts = tiny.prompts(6)
    expected = [c.text for c in engine.generate(requests(prompts, range(6)))]
    ports = listeners(ours(engine))
    where = [[host, port] for port in ports for host in ("127.0.0.1", *addresses())]
    done = subprocess.run([sys.executable, "-c", KNOCKS.format(uid=NOBODY), json.dumps(where)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert not [place for place, answer in said.items() if answer == "open" and not place.startswith("127.0.0.1:")]
    assert [c.text for c in engine.generate(requests(prompts, range(6)))] == expected
    place = engine._scratch.path
    refused = subprocess.run(["setpriv", f"--reuid={NOBODY}", "--clear-groups", "ls", str(place)], capture_output=True, text=True)
    assert refused.returncode != 0 and "Permission denied" in refused.stderr
