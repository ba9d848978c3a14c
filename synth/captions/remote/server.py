"""A server of our own: started on this worker's device, awaited on loopback, started again when it dies, never left behind."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from synth.errors import InputError, OutOfDeviceMemory, StageBroken
from synth.host.children import descendants, end, guarded, tail
from synth.host.deaths import Watch
from synth.redaction import keep

HOST = "127.0.0.1"
FOLLOWS = 5.0  # seconds that a guardian may live on after its server
OWN_TRIES = 3  # starts for which a port may turn out to be taken
# Where servers look for the key that they ask of who asks them: vLLM, llama.cpp, and scripts of the user's own. Words of a command
# would not do, because everybody on the machine can read those.
KEY_VARIABLES = ("VLLM_API_KEY", "LLAMA_API_KEY", "SYNTHSET_SERVER_KEY")


class Server:
    """`url` is where it answers, `key` what it asks for. ensure() may be called by several threads; the guardian dies with this process."""

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        log: Path,
        health: str,
        start_timeout: float,
        restarts: int,
        keep: Collection[str] = (),
    ):
        """command(port): the words to run. health: the path that answers 200 when it is ready. restarts: starts after the first.
        keep: names of the secrets in our environment that it gets."""
        self._keep = keep
        self.key = ""
        self._command, self.log, self._health, self._start_timeout = command, Path(log), health, start_timeout
        self._left = restarts
        self._guardian: subprocess.Popen | None = None
        self._lock = threading.Lock()
        self._closed = False
        self.port = self.starts = 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def check(self) -> None:
        """InputError where the command is not on this machine."""
        word = self._command(0)[0]
        if shutil.which(word) is None:
            raise InputError(
                f"captioner.command: {word} is not found here; install it, activate its environment (cluster.setup), or give its full path"
            )

    def ensure(self) -> None:
        """Return once the server lives and is ready: start it, or start it again. StageBroken when it may not be started any more,
        Killed when that is as somebody else ended it, StoreError when the disk is full."""
        with self._lock:
            if self._closed:
                raise StageBroken("the server was closed")
            if self._guardian is not None and self._guardian.poll() is None:
                if not self._refuses():
                    return
                self._follow()
            if self._guardian is not None:
                if self._left <= 0:
                    raise self._dead("the server died, and captioner.restarts is used up", self._guardian.poll())
                self._left -= 1
            self._start()

    def _refuses(self) -> bool:
        """Whether nobody listens at the port of a server that was ready once: it has died, and its guardian is about to notice."""
        try:
            socket.create_connection((HOST, self.port), timeout=1.0).close()
        except ConnectionRefusedError:
            return True
        except OSError:  # too busy to take us: a matter of timeouts
            return False
        return False

    def _follow(self) -> None:
        """Wait until the guardian of a dead server has ended too; one that does not is ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guardian.wait(FOLLOWS)
        end(self._guardian)

    def kill_if_deaf(self) -> None:
        """Kill a server that does not answer its health check either; the next ensure() starts it anew."""
        with self._lock:
            if self._guardian is not None and self._guardian.poll() is None and self._healthy(10.0) is None:
                end(self._guardian)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            end(self._guardian)

    def nobodys_fault(self) -> Exception | None:
        """Killed or StoreError, if that is how the server ended."""
        return self._watch.nobodys_fault(self._guardian.poll(), "the server", self.tail()) if self._guardian is not None else None

    def tail(self) -> str:
        """The last lines of its log, for messages."""
        return tail(self.log)

    def _start(self) -> None:
        for tries in range(OWN_TRIES):
            self.port = _free_port()
            self._spawn()
            if self._await():
                return
            end(self._guardian)
            if tries == OWN_TRIES - 1:
                raise self._dead("other programs took its port again and again")

    def _spawn(self) -> None:
        """A key for each life: whoever listened at the port of an earlier one may have been told that one's."""
        self.key = keep(secrets.token_urlsafe(32))  # no log or event may hold it either
        self._watch = Watch(self.log.parent)
        words, more = [str(w) for w in self._command(self.port)], dict.fromkeys(KEY_VARIABLES, self.key)
        self._guardian = guarded(words, self.log, keep=self._keep, more=more)
        self.starts += 1

    def _await(self) -> bool:
        """Until it is ready: True; False if somebody else answers at its port."""
        deadline, pause = time.monotonic() + self._start_timeout, 0.05
        while time.monotonic() < deadline:
            if self._guardian.poll() is not None:
                if _listening(self.port):  # it ended because the port was taken meanwhile
                    return False
                code = self._guardian.returncode
                raise self._dead(f"the server ended before it was ready (exit {code})", code)
            if self._healthy(5.0) == 200:
                return self._is_ours()
            time.sleep(pause)
            pause = min(1.0, pause * 1.3)
        end(self._guardian)
        raise self._dead(f"the server was not ready after {self._start_timeout:g} s (captioner.start_timeout)")

    def _healthy(self, timeout: float) -> int | None:
        """The status of its health check; None if it does not answer."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a cluster's proxy has no way to loopback
        try:
            request = urllib.request.Request(self.url + self._health, headers={"Authorization": f"Bearer {self.key}"})
            with opener.open(request, timeout=timeout) as answer:
                return answer.status
        except urllib.error.HTTPError as e:
            return e.code
        except (OSError, ValueError):  # refused, reset, no HTTP
            return None

    def _is_ours(self) -> bool:
        """Whether a process of ours listens at the port. Where /proc does not tell, it is believed."""
        inodes = _listening(self.port)
        ours = set()
        for pid in descendants(self._guardian.pid):
            with contextlib.suppress(OSError):
                for fd in Path(f"/proc/{pid}/fd").iterdir():
                    with contextlib.suppress(OSError):
                        ours.add(os.readlink(fd))
        return not inodes or any(f"socket:[{inode}]" in ours for inode in inodes)

    def _dead(self, why: str, code: int | None = None) -> Exception:
        """The error to raise; code: with which it ended by itself."""
        tail = self.tail()
        if outside := self._watch.nobodys_fault(code, "the server", f"{why}\n{tail}"):
            return outside
        if "OutOfMemoryError" in tail or "CUDA out of memory" in tail:
            return OutOfDeviceMemory(f"out of device memory: lower captioner.max_batch_size or captioner.max_seq_len\n{tail}")
        return StageBroken(f"{why}\n{tail}")


def _free_port() -> int:
    with socket.socket() as s:
        s.bind((HOST, 0))
        return s.getsockname()[1]


def _listening(port: int) -> set[str]:
    """Inodes of the sockets of this machine that listen at a port."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(fields[9])
    return inodes
