import pytest
import torch

from tests.captions.llama import tiny


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    tiny.one_process()


@pytest.fixture(scope="session")
def tokenizer_model(tmp_path_factory):
    return tiny.train_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")


@pytest.fixture(scope="session")
def gqa(tmp_path_factory, tokenizer_model):
    """One shard, two query heads a key head."""
    return tiny.write_checkpoint(tmp_path_factory.mktemp("gqa1"), tiny.GQA, tokenizer_model)


@pytest.fixture(scope="session")
def gqa2(tmp_path_factory, tokenizer_model):
    """The same weights in two shards."""
    return tiny.write_checkpoint(tmp_path_factory.mktemp("gqa2"), tiny.GQA, tokenizer_model, degree=2)


@pytest.fixture(scope="session")
def ffn(tmp_path_factory, tokenizer_model):
    """Plain multi-head attention, ffn_dim_multiplier."""
    return tiny.write_checkpoint(tmp_path_factory.mktemp("ffn1"), tiny.FFN, tokenizer_model)
