import shutil
from dataclasses import replace

import pytest

from tests.captions import embedded_hf, tiny_hf
from tests.captions.llama.tiny import train_tokenizer


@pytest.fixture(scope="session")
def hf_model(tmp_path_factory):
    """A tiny causal model without a chat template."""
    return tiny_hf.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def hf_chat(tmp_path_factory):
    """The same one with a chat template."""
    return tiny_hf.save(tmp_path_factory.mktemp("models") / "tiny-chat", tiny_hf.CHAT)


@pytest.fixture(scope="session")
def embedded_model(tmp_path_factory):
    """The embedded LLaMA in transformers' layout, without a chat template."""
    return embedded_hf.save(tmp_path_factory.mktemp("models") / "tiny_llama")


@pytest.fixture(scope="session")
def embedded_chat(tmp_path_factory, embedded_model):
    """The same one with a chat template."""
    folder = shutil.copytree(embedded_model, tmp_path_factory.mktemp("models") / "tiny_llama_chat")
    return embedded_hf.set_template(folder, embedded_hf.CHAT)


@pytest.fixture(scope="session")
def tokenizer_model(tmp_path_factory):
    """A sentencepiece model, as the native engine reads it."""
    return train_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")


@pytest.fixture(scope="session")
def llamas():
    """Native engines by config, started once for all tests: starting one takes longer than asking it."""
    from synth.captions.llama.engine import LlamaEngine

    made = {}
    yield made
    for engine in made.values():
        LlamaEngine.close(engine)


@pytest.fixture
def lasting_llama(monkeypatch, llamas):
    """Stages on the native engine get one that is there already, and outlives them."""
    from synth.captions.llama import adapter
    from synth.captions.llama.engine import LlamaEngine

    class Lasting(LlamaEngine):
        def close(self): ...

    monkeypatch.setattr(adapter, "LlamaEngine", lambda config: llamas.setdefault(repr(replace(config, log=None)), Lasting(config)))
