"""Engine `served`: the worker starts a server on its own device and talks to it as engine `openai` does."""

import os
import platform
import string
from pathlib import Path

from synth.captions.config import CaptionerConfig
from synth.captions.remote.engine import RemoteEngine, check_client, client
from synth.captions.remote.server import HOST, Server
from synth.captions.remote.settings import Endpoint
from synth.errors import InputError, StageBroken
from synth.host.environment import check_set
from synth.kinds import config_of
from synth.store.folder import StageFolder

FIELDS = ("model", "host", "port", "max_seq_len", "max_gen_len", "max_batch_size", "context", "dtype", "model_parallel")


class ServedEngine(RemoteEngine):
    """The server dies with this process, however it ends; its log is kept in logs/."""

    where, api = "captioner.model, captioner.command", "captioner.command: what it starts must speak OpenAI's protocol"

    def __init__(self, captioner: CaptionerConfig, endpoint: Endpoint, stage: Path, model: str):
        super().__init__(captioner, endpoint, stage, model)
        self.server, self._at = self._server(), ("", "")

    def _server(self) -> Server:
        log, e = self.stage / "logs" / f"server-{platform.node()}-{os.getpid()}.log", self.endpoint
        return Server(self._command, log, e.health, e.start_timeout, e.restarts, e.pass_env)

    def _command(self, port: int) -> list[str]:
        c = self.captioner
        values = {name: getattr(c, name) for name in ("max_seq_len", "max_gen_len", "dtype", "model_parallel")}
        values |= {"model": self.model, "host": HOST, "port": port, "max_batch_size": self.endpoint.concurrency}
        values["context"] = c.max_seq_len * self.endpoint.concurrency  # of servers that share one room among all requests
        return [word.format_map(values) for word in (*c.command, *self.endpoint.flags)]

    def check(self) -> None:
        self.endpoint.check()
        check_command((*self.captioner.command, *self.endpoint.flags))
        check_client()
        check_set("captioner.pass_env", self.endpoint.pass_env)
        self.server.check()

    def close(self) -> None:
        if self._caller is not None:
            self._caller.pause.stopped.set()
        self.server.close()  # first: whoever still waits for an answer then waits no more
        super().close()
        self.server, self._at = self._server(), ("", "")  # should it be started anew

    def _connect(self):
        """The client of the server that lives now; a dead one is started again first."""
        self.server.ensure()
        at = self.server.url + "/v1", self.server.key
        if at != self._at:  # a client of a dead server is left to those who still hold it
            self._client, self._at = client(*at, self.endpoint.timeout), at
        return self._client

    def _on_timeout(self) -> None:
        self.server.kill_if_deaf()

    def _gone(self, why: str) -> Exception:
        return self.server.nobodys_fault() or StageBroken(f"{self._address()}: {why}\n{self.server.tail()}")

    def _address(self) -> str:
        return f"the server {self.captioner.command[0]}"


def check_command(words: tuple[str, ...]) -> None:
    """InputError unless the words of a command can be filled in, {port} among them."""
    fields = set()
    for word in words:
        try:
            fields |= {name for _, name, _, _ in string.Formatter().parse(word) if name is not None}
        except ValueError as e:
            raise InputError(f"captioner.command: {word!r}: {e}; braces that are meant as such are doubled: {{{{ }}}}") from e
    if unknown := sorted(fields - set(FIELDS)):
        raise InputError(f"captioner.command: {{{unknown[0]}}} is not known; there are {', '.join(f'{{{f}}}' for f in FIELDS)}")
    if not words or "port" not in fields:
        raise InputError("captioner.command: must hold {port}, for example [vllm, serve, '{model}', --host, '{host}', --port, '{port}']")


def from_stage(folder: StageFolder) -> ServedEngine:
    captioner = config_of(folder).captioner
    endpoint = Endpoint.of(folder.spec.settings, str(folder.path / "inputs.json"))
    model = str(folder.input_path("model")) if "model" in folder.spec.inputs else captioner.model
    return ServedEngine(captioner, endpoint, folder.path, model)
