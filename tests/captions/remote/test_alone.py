"""A request that fails while others are answered is looked at alone; what ails the server or the network is never told of a request."""

import itertools

import pytest

from synth.captions.remote.journal import totals
from synth.errors import InputError, ServiceGone
from tests.captions.remote.conftest import expected, requests
from tests.captions.remote.fake import CLOSE, GARBAGE, OK, Fake, stall, status, to

FULL = status(500, {}, {"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}})


@pytest.mark.parametrize(
    ("concurrency", "trouble", "reason", "said"),
    [
        (4, status(500, {}, {"error": {"message": "bad token (id 17)"}}), "refused_by_server", "HTTP 500: bad token (id 17)"),
        (1, FULL, "prompt_too_long", "HTTP 500: Context size"),
        (4, status(502), "refused_by_server", "HTTP 502"),
        (1, status(400, {}, {"error": {"message": "something about this one"}}), "refused_by_server", "HTTP 400: something"),
        (4, status(422, {}, {"detail": "no"}), "refused_by_server", "HTTP 422: no"),
        (1, status(200, {}, {"choices": []}), "refused_by_server", "no choices"),
        (4, status(200, {}, {"error": {"message": "upstream", "code": 502}}), "refused_by_server", "HTTP 502: upstream"),
        (1, GARBAGE, "refused_by_server", "web page"),
        (4, CLOSE, "refused_by_server", "no connection"),
        (1, stall(600), "refused_by_server", "no answer within"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_request_that_alone_fails_is_rejected_with_the_servers_words_and_the_rest_is_answered(
    engine,
    concurrency,
    trouble,
    reason,
    said,
):
    with Fake(default=to("class 2 ", trouble)) as server:
        replies = engine(server, concurrency=concurrency, timeout=1.5 if trouble[0] == "stall" else 5.0, retries=1).generate(requests(6))
        assert [r.error for r in replies] == ["", "", reason, "", "", ""] and said in replies[2].text
        assert [r.text for n, r in enumerate(replies) if n != 2] == [t for n, t in enumerate(expected(6)) if n != 2]


def test_the_last_one_of_a_stage_is_rejected_too_when_no_other_request_is_left(engine, tmp_path):
    with Fake(default=to("class 2 ", status(500))) as server:
        assert [r.error for r in engine(server).generate(requests(3)[2:])] == ["refused_by_server"]
        assert totals(tmp_path).answers == 3  # what the server is shown to answer by is paid for, and counted


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_server_in_trouble_makes_no_request_guilty(engine, tmp_path, concurrency):
    for trouble in (status(500), status(502), CLOSE, GARBAGE):
        with Fake([OK] * 3, default=trouble) as server, pytest.raises(ServiceGone):
            engine(server, concurrency=concurrency, retries=1).generate(requests(16))
    with Fake() as server:
        assert [r.text for r in engine(server).generate(requests(16))] == expected(16)


def test_a_request_that_fails_beside_others_alone_is_answered_and_that_is_counted(engine):
    """llama.cpp's room is shared by all that is under way."""

    tries = itertools.count()

    def crowded(prompt, _):
        return FULL if "class 2 " in prompt and next(tries) < 3 else OK

    with Fake(default=crowded) as server:
        one = engine(server)
        assert [r.text for r in one.generate(requests(12))] == expected(12)
        assert one.usage()["alone"] == 1


def test_who_has_no_money_left_or_no_valid_key_is_no_samples_matter(engine):
    unpaid = status(400, {}, {"error": {"message": "Your credit balance is too low to access the API"}})
    with Fake([OK], default=unpaid) as server, pytest.raises(ServiceGone, match="credit balance"):
        engine(server, concurrency=1).generate(requests(4))
    wrong = status(400, {}, {"error": {"message": "API key not valid. Please pass a valid API key."}})
    with Fake([OK], default=wrong) as server, pytest.raises(InputError, match=r"API key not valid.*check captioner.model.*TEST_KEY"):
        engine(server, concurrency=1).generate(requests(6))


def test_a_busy_server_makes_no_request_guilty_however_long(engine):
    for code in (429, 503, 529):
        with Fake(default=to("class 2 ", status(code))) as server, pytest.raises(ServiceGone, match=rf"HTTP {code}.*tried 2 times"):
            engine(server, retries=1).generate(requests(6))


def test_a_page_in_the_place_of_an_api_is_told_as_a_wrong_address(engine):
    with Fake(default=GARBAGE) as server, pytest.raises(InputError, match=r"web page.*check captioner\.base_url, which ends in /v1"):
        engine(server).generate(requests(3))
