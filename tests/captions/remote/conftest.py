"""An openai engine of short patience, and what it is asked."""

from dataclasses import replace

import pytest

from synth.captions.engines import Request
from synth.captions.remote import calls
from synth.captions.remote.engine import RemoteEngine
from synth.captions.remote.settings import Endpoint
from tests.configs import CaptionerConfig

KEY = "sk-very-secret-0123456789"
CONFIG = CaptionerConfig("openai", "m", model="some/model", api="completions", max_seq_len=64, max_gen_len=20)


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """engine(server or address, config, settings ..): one whose stage is tmp_path; closed at the end."""
    monkeypatch.setattr(calls, "FIRST_WAIT", 0.01)
    monkeypatch.setenv("TEST_KEY", KEY)
    made = []

    def build(server, config=CONFIG, **change):
        endpoint = Endpoint(server if isinstance(server, str) else server.url, "TEST_KEY", 4, timeout=5.0, retries=3)
        made.append(RemoteEngine(config, replace(endpoint, **change), tmp_path, config.model))
        return made[-1]

    yield build
    for one in made:
        one.close()


def requests(n):
    return [Request(f"heading\n\nclass {i} =>", seed=(i + 1) << 40 | i) for i in range(n)]


def expected(n):
    return [f" A picture of class {i}." for i in range(n)]
