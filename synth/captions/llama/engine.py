"""The way in: LlamaEngine starts torchrun as a child group and hands it windows of prompts. Imports no torch."""

import contextlib
import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self

from synth import numerics
from synth.captions.engines import More, Request
from synth.captions.llama.checkpoint import Checkpoint, check_checkpoint
from synth.captions.llama.config import SPENT, Completion, EngineConfig
from synth.captions.llama.tokenizer import Tokenizer
from synth.errors import EXIT_AGAIN, DeviceFailed, InputError, OutOfDeviceMemory, StageBroken, StoreError
from synth.host.children import kill_group, tail, tied
from synth.host.deaths import Watch
from synth.host.scratch import Scratch
from synth.store.files import make_folder

__all__ = ["Completion", "EngineConfig", "EngineError", "LlamaEngine"]
_GOODBYE = 5.0  # seconds the ranks get to end by themselves; they hold nothing that a kill would lose
_LAST_WORDS = 15.0  # seconds torchrun gets to write down which rank died of what
_LOG_LINES = 60


class EngineError(StageBroken):
    """The ranks died or broke; the message ends with the last lines of their log. A new engine may be started."""


class RankInputError(InputError):
    """Bad input that all ranks noticed alike: they go on."""


def _plain(requests: Sequence[Request]) -> dict:
    """Requests as JSON takes them; InputError or ValueError for those that no rank could read."""
    for i, request in enumerate(requests):
        if not 0 <= request.seed < 1 << 64:
            raise ValueError(f"seed {request.seed} is not of 64 bits (0 <= seed < 2**64)")
        if any("\ud800" <= c <= "\udfff" for c in request.text):
            raise InputError(f"prompt {i} is not Unicode text (a lone surrogate in {request.text[:80]!r}): mend its source's encoding")
    return {"prompts": [r.text for r in requests], "seeds": [int(r.seed) for r in requests]}


class LlamaEngine:
    """LLaMA under torchrun, one process a shard. `with LlamaEngine(config) as engine: engine.generate(requests)`

    The ranks die with the *thread* that calls start() (that is how Linux ties processes), so call it from one that stays.
    """

    def __init__(self, config: EngineConfig):
        self.config = config
        self.facts: dict = {}  # after start: pids and device of the ranks, seconds of loading
        self.last_window: dict = {}  # of the last window: what it cost, and its tokens and margins, by request (Window)
        self.pid: int | None = None
        self._agent: subprocess.Popen | None = None
        self._connection: socket.socket | None = None
        self._scratch: Scratch | None = None  # where the parent and the ranks meet, as long as they live
        self._received = b""
        self._log = Path(config.log) if config.log else None
        self._own_log = config.log is None
        self._broken = False
        self._spent = dict.fromkeys(SPENT, 0)

    def check(self) -> Checkpoint:
        """Look at everything that can be wrong before any work: a second at most, no weights read. InputError if bad."""
        self.config.check()
        tokenizer = Tokenizer(self.config.tokenizer)
        for text in self.config.stop:
            if len(text) == 1 and not tokenizer.ids_containing(text):
                raise InputError(f"{tokenizer.path} has no piece for the stop text {text!r}: choose another captioner.stop")
        return check_checkpoint(self.config.ckpt_dir, tokenizer.n_words, self.config.model_parallel, tokenizer.path)

    def start(self) -> None:
        """Start the ranks and wait until they hold the weights. InputError for bad input; EngineError if they die, Killed if
        somebody else did that, StoreError if the disk did."""
        if self._agent is not None:
            return
        degree = self.check().degree
        self._scratch = Scratch()
        place = self._scratch.path
        self._open_log(place)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(str(place / "socket"))
                listener.listen(1)
                self._spawn(degree, place)
                deadline = time.monotonic() + self.config.start_timeout
                self._wait(listener, deadline)
                self._connection, _ = listener.accept()
            self.facts = self._receive(deadline)
        except BaseException:
            self._kill()
            raise

    def generate(self, requests: Sequence[Request], margins: bool = False) -> list[Completion]:
        """One completion a request, in order; this model continues texts, so a request's `messages` are not read.

        Raises InputError (weights that give NaN), OutOfDeviceMemory, EngineError (the ranks died), Killed (by somebody else),
        StoreError (the disk refused).
        A prompt too long for max_seq_len is no exception: its completion has an `error`.
        """
        completions: dict[int, Completion] = {}

        def keep(ended: Sequence[tuple[int, Completion]]) -> list[Request]:
            completions.update(ended)
            return []

        self.serve(requests, keep, margins)
        return [completions[number] for number in range(len(requests))]

    def serve(self, requests: Sequence[Request], more: More, margins: bool = False) -> None:
        """Serve one window of requests that grows: more() hears what ended, by number, and says what is asked next.

        Requests are numbered as they come. Raises what generate() raises.
        """
        message = {"op": "generate", "margins": margins} | _plain(requests)
        if not requests:
            return
        self.start()
        if self._broken:
            raise EngineError("the engine was interrupted or failed before: close it and start a new one")
        self._broken = True  # until the last answer is read: an interrupt in between leaves the stream in disorder
        try:
            self._send(message)
            while "ended" in (answer := self._receive(None)):
                self._send(_plain(more([(number, Completion(**c)) for number, c in answer["ended"]])))
        except (BrokenPipeError, ConnectionError):
            raise self._died() from None
        except RankInputError:
            self._broken = False  # all ranks answered and wait for the next request
            raise
        self._broken = False
        self.last_window = answer
        for name in SPENT:
            self._spent[name] += answer[name]

    def usage(self) -> dict[str, float]:
        """What all windows took: see Window."""
        decodes = self._spent["steps"] - self._spent["prefills"]
        live = self._spent["live_row_steps"] / decodes if decodes else 0.0
        return {name: self._spent[name] for name in ("prefill_tokens", "drawn_tokens", "steps")} | {"live_rows": round(live, 1)}

    def close(self) -> None:
        """End the ranks: by request, then by SIGKILL. No process is left when it returns."""
        if self._agent is None:
            return
        if self._connection is not None and not self._broken and self._agent.poll() is None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._send({"op": "close"})
                self._agent.wait(_GOODBYE)
        self._kill()
        self._agent = self._connection = None
        self._received, self._broken = b"", False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_log(self, place: Path) -> None:
        """Without one that was named, it goes with this process: what it said of an error is in the error's text."""
        if self._own_log:
            self._log = place / "log"
        make_folder(self._log.parent)

    def _spawn(self, degree: int, place: Path) -> None:
        """The agent and its ranks, which meet by files in a private folder: torchrun's --standalone would have them meet by a port on all
        interfaces, where whoever reaches it without a password leaves pickles that they load."""
        run = ["-m", "synth.captions.llama.ranks", "--place", str(place), "--config", json.dumps(asdict(self.config))]
        if degree > 1:
            group = ["--nnodes", "1", "--nproc_per_node", str(degree), "--max-restarts", "0", "--log-dir", str(place / "logs")]
            meet = ["--rdzv-backend", "c10d", "--rdzv-conf", "store_type=file", "--rdzv-endpoint", str(place / "agent")]
            run = [*group, *meet, "--rdzv-id", "ranks", "--local-addr", "127.0.0.1", *run]
        # torchrun looks its ranks up by these; a scheduler's own would mislead it
        misleading = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        env = {k: v for k, v in (os.environ | numerics.environment(self.config.numerics)).items() if k not in misleading}
        # torchrun shares no store of its own with the ranks; what gloo and NCCL still listen on is the loopback interface
        env |= {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
        env["PYTHONSAFEPATH"] = "1"  # torchrun starts its ranks without the flag of source.SAFE
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        self._watch = Watch(self._log.parent, place.parent)
        self._agent = tied("synth.captions.llama.agent", run, self._log, env)
        self.pid = self._agent.pid

    def _send(self, message: dict) -> None:
        self._connection.sendall(json.dumps(message).encode() + b"\n")

    def _receive(self, deadline: float | None) -> dict:
        """The next message of rank 0; an error in it is raised here."""
        while b"\n" not in self._received:
            self._wait(self._connection, deadline)
            try:
                data = self._connection.recv(1 << 20)
            except ConnectionError:
                data = b""
            if not data:
                raise self._died()
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        message = json.loads(line)
        if "error" in message:
            if named := {"InputError": RankInputError, "DeviceFailed": DeviceFailed}.get(message["kind"]):
                raise named(message["error"])
            died = self._died()  # such a rank ends, and the others with it
            raise type(died)(f"{message['kind']} in a rank: {message['error']}\n{message['traceback']}\n{died}")
        return message

    def _wait(self, source: socket.socket, deadline: float | None) -> None:
        """Until `source` has something to read; EngineError if the ranks die first or the deadline passes."""
        while not select.select([source], [], [], 0.5)[0]:
            if self._agent.poll() is not None and not select.select([source], [], [], 0)[0]:
                raise self._died()
            if deadline is not None and time.monotonic() > deadline:
                raise EngineError(f"the ranks were not ready after {self.config.start_timeout:g} s (start_timeout)\n{self._tail()}")

    def _died(self) -> StageBroken | StoreError | OutOfDeviceMemory:
        """All processes ended; why, by the exit code of torchrun (synth.captions.llama.agent), else as far as the log tells."""
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._agent.wait(_LAST_WORDS)
        tail = self._tail()
        outside = self._watch.nobodys_fault(code, f"one of the ranks of {self.config.ckpt_dir}, or torchrun,", tail)
        self._kill()
        if code == EXIT_AGAIN or outside is not None:
            return outside or StoreError(f"the ranks of {self.config.ckpt_dir} ended, as this machine refused them something\n{tail}")
        if "OutOfMemoryError" in tail:  # of any rank: the others only see that it left
            return OutOfDeviceMemory(f"out of device memory: lower captioner.max_batch_size or captioner.max_seq_len\n{tail}")
        return EngineError(f"the ranks of {self.config.ckpt_dir} died (torchrun: exit {code})\n{tail}")

    def _kill(self) -> None:
        """Kill the agent's group; the kernel then kills the ranks. Wait until all are gone."""
        self._broken = True
        if self._connection is not None:
            self._connection.close()
        if self._agent is not None:
            kill_group(self._agent, self.facts.get("pids", ()))
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None

    def _tail(self) -> str:
        return tail(self._log, _LOG_LINES, self._log_start)
