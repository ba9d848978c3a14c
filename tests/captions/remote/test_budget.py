"""Limits of requests and money: of a stage, all its workers and runs together."""

import threading

import pytest

from synth.captions.remote import budget
from synth.captions.remote.budget import LimitReached
from synth.captions.remote.journal import totals
from synth.errors import InputError
from tests.captions.remote.conftest import expected, requests
from tests.captions.remote.fake import Fake, says, stall

PAID = says("x", usage={"prompt_tokens": 50, "completion_tokens": 10})  # 0.0002 by the prices of PRICES
PRICES = {"price_in": 2.0, "price_out": 10.0}


def test_a_limit_of_requests_is_kept_to_the_very_number_and_a_higher_one_goes_on(engine, tmp_path):
    with Fake() as server:
        with pytest.raises(
            LimitReached, match=r"max_requests=5 is reached: this stage has 5 answers \(.* tokens in, 35 out\), and all are kept"
        ):
            engine(server, max_requests=5).generate(requests(12))
        assert len(server.seen) == totals(tmp_path).answers == 5
        with pytest.raises(InputError, match=r"run the same command with a higher captioner.max_requests, or null"):
            engine(server, max_requests=5).generate(requests(12))
        assert len(server.seen) == 5
        assert [r.text for r in engine(server, max_requests=12).generate(requests(12))] == expected(12)
        assert len(server.seen) == 12


def test_what_is_answered_already_needs_no_room(engine):
    with Fake() as server:
        engine(server).generate(requests(4))
        assert [r.text for r in engine(server, max_requests=1).generate(requests(4))] == expected(4)


def test_a_limit_of_money_is_not_passed(engine, tmp_path):
    with Fake(default=PAID) as server:
        with pytest.raises(LimitReached, match=r"captioner\.max_cost=0\.001 is reached: .* price 0\.00\d+\), and all are kept"):
            engine(server, max_cost=0.001, concurrency=1, **PRICES).generate(requests(12))
        assert len(server.seen) == 5 and totals(tmp_path).cost(2.0, 10.0) == pytest.approx(0.001)


def test_workers_of_one_stage_share_its_limit(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "LOOK_EVERY", 0.0)
    with Fake(default=stall(0.01)) as server:
        workers = [engine(server, max_requests=20, concurrency=2) for _ in range(3)]
        ended = []

        def work(n):
            try:
                workers[n].generate(requests(60)[20 * n : 20 * n + 20])
            except LimitReached as e:
                ended.append(e)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ended) == 3 and 20 <= totals(tmp_path).answers <= 20 + 2 * 2  # what two others had under way


def test_a_server_that_does_not_count_tokens_cannot_be_limited_by_money(engine, tmp_path):
    free = says("x", usage={"prompt_tokens": 0, "completion_tokens": 0})
    with Fake(default=free) as server, pytest.raises(InputError, match=r"captioner\.max_cost: .*captioner\.max_requests"):
        engine(server, max_cost=1.0, concurrency=1, **PRICES).generate(requests(3))
    assert totals(tmp_path).answers < 3


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["captioner.max_cost=2"], r"captioner\.max_cost=2: without prices nothing costs anything; set captioner\.price_in"),
        (["captioner.max_cost=0", "captioner.price_in=1"], r"captioner\.max_cost=0: no answer costs less; null is no limit"),
        (["captioner.max_requests=0"], r"captioner\.max_requests=0"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_when_the_run_is_planned(overrides, said, tmp_path, monkeypatch):
    from launch.config.compose import Composer, typed
    from launch.plan.graph import plan_point

    monkeypatch.setenv("OPENAI_API_KEY", "local-server-key")
    with pytest.raises(InputError, match=said):
        plan_point(typed(Composer().compose(["captioner=openai", "captioner.model=m", f"runs_dir={tmp_path}", *overrides])))


def test_a_stage_ends_at_its_limit_says_what_was_spent_and_goes_on_with_the_same_captions(tmp_path, capsys):
    """The whole way, planned and run by a worker and shown; the limit is in no fingerprint."""
    from launch import status as shown
    from launch.config.compose import Composer, typed
    from launch.plan.graph import plan_point
    from synth.run import loop
    from synth.store.folder import StageFolder

    def work(limit):
        words = ["captioner=openai", "captioner.model=m", f"captioner.base_url={server.url}", "captioner.api_key_env=null"]
        words += ["dataset.classes=0..2", "captions.total=12", "captions.oversample=1", "captions.window=4", "captions.unit_size=4"]
        words += [f"runs_dir={tmp_path}/runs", "captioner.price_in=1000", f"captioner.max_requests={limit}"]
        stage = next(s for s in plan_point(typed(Composer().compose(words))).stages if s.spec.kind == "captions")
        folder = StageFolder.create(stage.dataset_root, stage.spec)
        return folder, loop.Worker(folder, 0, 1).run()

    fruit = says("<think>hm</think> An apple, a banana and a strawberry.", usage={"prompt_tokens": 50, "completion_tokens": 10})
    with Fake(default=fruit) as server:
        folder, code = work(6)
        assert code == 65 and len(server.seen) == 6
        said = "captioner.max_requests=6 is reached: this stage has 6 answers (300 tokens in, 60 out, price 0.3000)"
        assert said in capsys.readouterr().err
        made = {n: folder.unit_path(n).read_bytes() for n in folder.committed()}
        assert made
        again, code = work("null")
        assert code == 0 and again.path == folder.path and len(server.seen) == 12
        assert {n: folder.unit_path(n).read_bytes() for n in made} == made
    assert shown.main([str(folder.path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "captions: 12 answers; 600 tokens in, 120 out, price 0.6000" in out and "captions: cut from answers: thoughts 12" in out
