"""The openai engine, by the official client, against a real server on loopback that misbehaves."""

import time
from dataclasses import replace

import pytest

from synth import foreign
from synth.captions.engines import Request
from synth.captions.remote.journal import totals
from synth.errors import InputError, ServiceGone
from tests.captions.remote.conftest import CONFIG, KEY, expected, requests
from tests.captions.remote.fake import CLOSE, GARBAGE, OK, Fake, says, stall, status


def test_requests_go_out_together_and_come_back_in_order(engine):
    with Fake(default=stall(0.05)) as server:
        replies = engine(server).generate(requests(10))
        assert [r.text for r in replies] == expected(10) and not any(r.error for r in replies)
        assert 2 <= server.http.most <= 4
        sent = server.seen[0]["body"]
        n = int(sent.pop("prompt").split()[-2])
        assert sent == {"model": "some/model", "temperature": 0.8, "top_p": 0.9, "max_tokens": 20, "seed": n, "stop": ["\n"]}
        assert server.seen[0]["path"] == "/v1/completions" and server.seen[0]["auth"] == f"Bearer {KEY}"


def test_a_chat_sends_messages_where_there_are_some_and_the_text_else(engine):
    with Fake() as server:
        chat = engine(server, replace(CONFIG, api="chat", body={"max_tokens": None, "max_completion_tokens": 9, "top_k": 5}, stop=()))
        replies = chat.generate([Request("t", (("system", "s"), ("user", "dog")), 1), Request("cat")])
        assert [r.text for r in replies] == [" A picture of dog.\nmore", " A picture of cat.\nmore"]
        bodies = sorted((s["body"] for s in server.seen), key=lambda b: len(b["messages"]))
        assert bodies[0]["messages"] == [{"role": "user", "content": "cat"}]
        assert bodies[1]["messages"] == [{"role": "system", "content": "s"}, {"role": "user", "content": "dog"}]
        assert {"max_completion_tokens": 9, "top_k": 5}.items() <= bodies[0].items() and not {"max_tokens", "stop"} & set(bodies[0])


@pytest.mark.parametrize(
    "trouble",
    [
        status(500),
        status(503),
        status(429),
        status(408),
        GARBAGE,
        CLOSE,
        status(200, {}, {"choices": []}),
        status(200, {}, "null"),
        status(200, {}, "[" * 1_000_000),
        status(200, {}, '{"choices": [' + "9" * 5000 + "]}"),
        status(200, {}, {"choices": [{"text": {"a": 1}}]}),
        status(200, {}, {"choices": [{"text": "x"}], "usage": {"prompt_tokens": 1e13}}),
        status(200, {}, '{"choices": [{"text": "\\ud800"}]}'),
        status(200, {"Content-Encoding": "gzip"}, "x"),
        status(200, {}, "x" * (foreign.ANSWER + 1)),
        status(500, {}, "x" * (foreign.ANSWER + 1)),
        status(500, {}, "[" * 1_000_000),
    ],
    ids=lambda trouble: repr(trouble)[:60],
)
def test_what_may_pass_is_tried_again(engine, trouble):
    with Fake([trouble, trouble]) as server:
        one = engine(server)
        assert [r.text for r in one.generate(requests(2))] == expected(2)
        assert one.usage() == {"requests": 2, "reused": 0, "retries": 2, "tokens_in": 8, "tokens_out": 14}


def test_a_pause_that_the_server_asks_for_holds_for_all_requests(engine):
    with Fake([status(429, {"Retry-After": "0.6"})]) as server:
        assert [r.text for r in engine(server, concurrency=1).generate(requests(3))] == expected(3)
        first, *rest = (s["time"] for s in server.seen)
        assert len(rest) == 3 and min(rest) - first >= 0.55


def test_a_server_that_stalls_is_left_after_the_timeout_and_asked_again(engine):
    with Fake([stall(600)]) as server:
        start = time.monotonic()
        assert [r.text for r in engine(server, timeout=1.5).generate(requests(1))] == expected(1)
        assert 1.4 < time.monotonic() - start < 600


def test_a_server_that_stays_away_ends_the_worker_for_now_and_keeps_what_came(engine, tmp_path):
    with Fake([OK, OK], default=status(503, {}, f"busy {KEY}")) as server:
        with pytest.raises(ServiceGone, match=r"HTTP 503: busy \*\*\* \(tried 4 times\); the answers so far are kept") as e:
            engine(server, concurrency=1).generate(requests(5))
        assert KEY not in str(e.value)
    assert totals(tmp_path).answers == 2
    with pytest.raises(ServiceGone, match=r"nothing listens there .* \(tried 2 times\)"):
        engine(server).generate(requests(5))
    with Fake([status(429, {"Retry-After": "9999"})]) as server, pytest.raises(ServiceGone, match="asks to wait 9999 s"):
        engine(server).generate(requests(5))
    with (
        Fake([status(429, {}, {"error": {"code": "insufficient_quota", "message": "no money"}})]) as server,
        pytest.raises(ServiceGone, match="no money"),
    ):
        engine(server).generate(requests(5))
    kept = totals(tmp_path).answers  # also those that came beside an error
    with Fake() as server:
        assert [r.text for r in engine(server).generate(requests(5))] == expected(5)
        assert len(server.seen) == 5 - kept
    assert totals(tmp_path).answers == 5


def test_nothing_answered_is_asked_again_by_anybody(engine):
    with Fake() as server:
        one, two = engine(server), engine(server)
        first = one.generate(requests(4))
        assert two.generate(requests(6))[:4] == first and len(server.seen) == 6
        assert two.usage()["reused"] == 4
        assert two.generate([*requests(6), requests(1)[0]])[-1] == first[0] and len(server.seen) == 6
        assert one.generate([]) == []


def test_a_chat_is_not_asked_to_stop_at_a_line_break_and_its_answer_is_not_cut_there(engine):
    """It may begin with an empty line, or with thoughts on lines of their own."""
    thinks = says("<think>\nhm\n</think>\n\nA cat.\nMore", finish_reason="length")
    with Fake(default=thinks) as server:
        (reply,) = engine(server, replace(CONFIG, api="chat", stop=("\n", "END"))).generate(requests(1))
        assert reply.text == "<think>\nhm\n</think>\n\nA cat.\nMore" and not reply.ended
        assert server.seen[-1]["body"]["stop"] == ["END"]
        (reply,) = engine(server, replace(CONFIG, api="completions", stop=("\n",))).generate(requests(2)[1:])
        assert reply.text == "<think>" and reply.ended  # the stop text ended it, whatever the server says


def test_tokens_are_counted_and_priced(engine):
    with Fake(default=says("x", usage={"prompt_tokens": 50, "completion_tokens": 10})) as server:
        one = engine(server, price_in=2.0, price_out=10.0)
        one.generate(requests(5))
        assert one.usage() == {"requests": 5, "reused": 0, "retries": 0, "tokens_in": 250, "tokens_out": 50, "price": 0.001}


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (status(400, {}, {"error": {"message": "maximum context length is 64 tokens"}}), "prompt_too_long"),
        (says("x", usage={"prompt_tokens": 64}), "prompt_too_long"),
        (status(400, {}, {"error": {"code": "content_filter", "message": "no"}}), "content_filter"),
        (says("", finish_reason="content_filter"), "content_filter"),
        (says(None, message={"content": None, "refusal": "Not that one."}), "refusal"),
    ],
)
def test_what_concerns_one_request_is_its_reason_and_the_rest_goes_on(engine, trouble, reason):
    with Fake([OK, trouble]) as server:
        replies = engine(server, concurrency=1).generate(requests(3))
        assert [r.error for r in replies] == ["", reason, ""] and [replies[0].text, replies[2].text] == [expected(1)[0], expected(3)[2]]
        assert trouble[0] == "says" or replies[1].text.startswith(f"HTTP {trouble[1]}: ")


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (
            status(401, {}, {"error": {"message": f"Incorrect API key: {KEY}"}}),
            r"HTTP 401: Incorrect API key: \*\*\*; check .*the key in TEST_KEY",
        ),
        (
            status(404, {}, {"error": {"message": "no such model"}}),
            r"captioner.model=some/model\): HTTP 404: no such model; check captioner.model",
        ),
        (
            status(400, {}, {"error": {"message": "Unsupported: seed"}}),
            "refuses every request: HTTP 400: Unsupported: seed; see captioner.body",
        ),
    ],
)
def test_a_wrong_key_model_or_field_is_bad_input(engine, trouble, said):
    with Fake(default=trouble) as server, pytest.raises(InputError, match=said) as e:
        engine(server).generate(requests(3))
    assert KEY not in str(e.value)


def test_a_key_that_is_not_set_is_told_by_the_name_of_its_variable(engine, monkeypatch):
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(InputError, match="TEST_KEY: not set"):
        engine("http://127.0.0.1:9/v1").check()
    with Fake() as server:
        assert engine(server, api_key_env="").generate(requests(1))[0].text == expected(1)[0]
        assert KEY not in str(server.seen)


def test_loopback_is_reached_without_the_clusters_proxy(engine, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Fake() as server:
        assert engine(server).generate(requests(1))[0].text == expected(1)[0]


def test_the_worker_says_what_was_spent_and_status_adds_it_up_without_the_key(tmp_path, capsys, monkeypatch):
    """The whole way: planned, run by a worker, killed and run again, shown; the key is in no file and in no line."""
    from launch import status as shown
    from launch.config.compose import Composer, typed
    from launch.plan.graph import plan_point
    from synth.run import loop
    from synth.store.folder import StageFolder

    monkeypatch.setenv("TEST_KEY", KEY)
    with Fake(
        [status(429), status(500, {}, f"why {KEY}")],
        default=says(" An apple, a banana and a strawberry.", usage={"prompt_tokens": 50}),
    ) as server:
        overrides = [
            "captioner=openai",
            "captioner.model=m",
            f"captioner.base_url={server.url}",
            "captioner.api_key_env=TEST_KEY",
            "captioner.price_in=1000",
        ]
        overrides += [
            "dataset.classes=0..2",
            "captions.total=6",
            "captions.oversample=1",
            f"runs_dir={tmp_path}/runs",
            "captioner.max_batch_size=1",
        ]
        stage = next(s for s in plan_point(typed(Composer().compose(overrides))).stages if s.spec.kind == "captions")
        folder = StageFolder.create(stage.dataset_root, stage.spec)
        assert loop.Worker(folder, 0, 1).run() == 0
    rows = [s.json() for s in folder.samples()]
    assert len(rows) == 6 and {r["engine"] for r in rows} == {"m"}
    assert shown.main([str(folder.path)]) == 0
    out = "".join(capsys.readouterr())
    assert "6 answers, 2 tries more; 300 tokens in, 42 out, price 0.3000" in " ".join(out.split())
    everything = out.encode() + b"".join(p.read_bytes() for p in (tmp_path / "runs").rglob("*") if p.is_file())
    assert KEY.encode() not in everything and b"TEST_KEY" in everything
