"""The hf engine on real tiny models of transformers."""

import pytest
import torch

from synth import numerics
from synth.captions.engines import TOO_LONG, Request
from synth.captions.hf.engine import HfEngine
from synth.captions.hf.generate import Decoder, Row
from synth.errors import InputError
from synth.numerics import EXACT, FAST
from tests.captions import tiny_hf
from tests.captions.llama import tiny
from tests.configs import CaptionerConfig


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def engine(path, **change):
    values = {"engine": "hf", "max_seq_len": 128, "max_gen_len": 24, "max_batch_size": 4, "stop": ("\n",)} | change
    made = HfEngine(CaptionerConfig(**values), path, EXACT)
    made.check()
    return made


def requests(n):
    return [Request(text.removesuffix(" =>"), seed=1000 + i) for i, text in enumerate(tiny.prompts(n))]


def test_a_caption_depends_on_its_own_prompt_and_seed_alone(hf_model):
    asked = requests(12)
    together = [r.text for r in engine(hf_model).generate(asked)]
    single = engine(hf_model, max_batch_size=1)
    alone = [single.generate([r])[0].text for r in asked]
    backwards = [r.text for r in engine(hf_model, max_batch_size=7).generate(asked[::-1])][::-1]
    assert together == alone == backwards
    assert len(set(together)) > 6 and not any("\n" in text for text in together)
    other = [r.text for r in engine(hf_model).generate([Request(r.text, seed=r.seed + 1) for r in asked])]
    assert sum(a != b for a, b in zip(together, other, strict=True)) > 6


def test_a_model_of_text_never_lets_cudnn_plan_attention(hf_model):
    """It would plan a kernel for each new length, and every step has one."""
    torch.backends.cuda.enable_cudnn_sdp(True)
    made = engine(hf_model)
    made.numerics = FAST
    made.start()
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    numerics.apply(EXACT)


def test_its_tokens_are_those_of_the_native_engine_with_the_same_weights(tmp_path, tokenizer_model):
    """Two implementations of attention, padding and caches, one stream of random numbers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from synth.captions.llama.checkpoint import load_shard
    from tests.captions.llama.as_transformers import to_transformers

    tiny.one_process()
    folder = tiny.write_checkpoint(tmp_path / "gqa", tiny.GQA, tokenizer_model)
    native = tiny.generator(folder, margins=True)
    texts = tiny.prompts(12)
    window = native.window(texts, range(12))
    p = native.model.params
    config = LlamaConfig(
        vocab_size=p.vocab_size, hidden_size=p.dim, intermediate_size=p.ffn_dim, num_hidden_layers=p.n_layers,
        num_attention_heads=p.n_heads, num_key_value_heads=p.n_kv_heads, rms_norm_eps=p.norm_eps, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict(to_transformers(load_shard(folder / "consolidated.00.pth"), p), strict=True)
    ends = [native.tokenizer.eos, *native.tokenizer.ids_containing("\n")]
    ids = native.tokenizer.encode(texts)
    drawn = Decoder(model, ends, 0.8, 0.9, lambda tokens, stop: False).batch([Row(i, seed, 24) for seed, i in enumerate(ids)])
    for ours, theirs, margins in zip(drawn, window.tokens, window.margins, strict=True):
        if ours != theirs:  # only where a draw fell next to an edge
            first = next(k for k, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
            assert margins[first] < 1e-4


def test_temperature_zero_is_what_transformers_itself_generates_greedily(hf_model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = tiny.prompts(5)
    ours = engine(hf_model, temperature=0.0, stop=()).generate([Request(t) for t in texts])
    model, words = AutoModelForCausalLM.from_pretrained(hf_model), AutoTokenizer.from_pretrained(hf_model)
    for text, reply in zip(texts, ours, strict=True):
        inputs = words(text, return_tensors="pt")
        n = min(24, 128 - inputs["input_ids"].shape[1])
        out = model.generate(**inputs, max_new_tokens=n, do_sample=False, pad_token_id=0)
        assert reply.text == words.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_messages_go_through_the_chat_template_and_a_plain_model_continues_the_text(hf_model, hf_chat):
    messages = (("system", "short"), ("user", "plut stern"))
    text = "<system>short</s><user>plut stern</s><assistant>"
    chat, plain = engine(hf_chat), engine(hf_model)
    asked = chat.generate([Request("grarn", messages, 5), Request("grarn", (), 5)])
    said = plain.generate([Request(text, (), 5), Request("grarn", messages, 5)])
    assert asked[0] == said[0]  # the template's text, as tokens
    assert asked[1] == said[1]  # no messages, or no template: the text


def test_white_space_ends_a_text_that_is_continued_and_no_answer_of_a_chat(hf_chat):
    """Line breaks above all: a chat's answer may begin with an empty line, or with thoughts on lines of their own."""
    chat, plain = [Request("", (("user", "plut stern"),), seed) for seed in range(8)], [Request("plut", (), seed) for seed in range(8)]
    whole = [r.text for r in engine(hf_chat, stop=()).generate(chat)]
    assert [r.text for r in engine(hf_chat, stop=(" ",)).generate(chat)] == whole and any(" " in text for text in whole)
    assert not any(" " in r.text for r in engine(hf_chat, stop=(" ",)).generate(plain))


def test_a_template_without_system_messages_gets_them_with_the_first_user_message(tmp_path, hf_chat):
    chat = engine(tiny_hf.save(tmp_path / "m", tiny_hf.NO_SYSTEM))
    asked = chat.generate([Request("", (("system", "short"), ("user", "plut")), 5)])
    assert asked == engine(hf_chat).generate([Request("", (("user", "short\n\nplut"),), 5)])


def test_a_prompt_without_room_is_one_samples_matter(hf_model):
    replies = engine(hf_model).generate([Request("long " * 300, seed=1), Request("plut", seed=1)])
    assert [r.error for r in replies] == [TOO_LONG, ""] and replies[1].text
    assert engine(hf_model).generate([Request("", seed=1)])[0].error == ""
    assert engine(hf_model).generate([]) == []


def test_a_stop_text_of_several_tokens_ends_a_caption_before_it(hf_model):
    asked = requests(8)
    whole = [r.text for r in engine(hf_model, stop=()).generate(asked)]
    stop = next(text[4:9] for text in whole if len(text) > 12)
    cut = [r.text for r in engine(hf_model, stop=(stop,)).generate(asked)]
    assert cut == [text.split(stop)[0] for text in whole] and cut != whole


def test_weights_that_give_nan_are_bad_input(tmp_path):
    broken = engine(tiny_hf.save(tmp_path / "nan", nan=True))
    with pytest.raises(InputError, match=r"(?s)nan: the model's logits are not finite.*token 0"):
        broken.generate(requests(3))


def test_text_that_is_no_unicode_is_bad_input(hf_model):
    with pytest.raises(InputError, match="prompt 1 is not Unicode"):
        engine(hf_model).generate([Request("a"), Request("b\udcff")])
