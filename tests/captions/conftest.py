import pytest

from tests.captions import tiny_hf
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
def tokenizer_model(tmp_path_factory):
    """A sentencepiece model, as the native engine reads it."""
    return train_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")
