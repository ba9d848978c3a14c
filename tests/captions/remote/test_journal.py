"""answers/: kept as soon as they come, torn lines and foreign files are no answers."""

import errno

import pytest

from synth.captions.engines import Request
from synth.captions.remote.journal import Answer, Journal, Totals, key_of, totals
from synth.errors import StoreError

ODD = 'tab\t quote" newline\n unicode ø \u2028 => <b>'


def test_an_answer_is_there_for_every_process_as_soon_as_it_was_added(tmp_path):
    one, two = Journal(tmp_path, "a"), Journal(tmp_path, "b")
    two.refresh()
    one.add("k1", Answer(ODD, "stop", 3, 4))
    assert one.get("k1") == Answer(ODD, "stop", 3, 4)
    assert two.get("k1") is None
    two.refresh()
    assert two.get("k1") == Answer(ODD, "stop", 3, 4)
    two.add("k2", Answer("b"))
    one.add("k3", Answer("c", "length", 1, 1))
    two.refresh(), one.refresh()
    assert [j.get(k).text for j in (one, two) for k in ("k1", "k2", "k3")] == [ODD, "b", "c"] * 2
    assert totals(tmp_path) == Totals(3, 4, 5)


def test_every_prefix_of_a_journal_gives_the_answers_that_are_whole_in_it(tmp_path):
    journal = Journal(tmp_path, "a")
    ends = []
    for n in range(4):
        journal.add(f"k{n}", Answer(ODD * n))
        journal.sync()
        ends.append((tmp_path / "answers" / "a.jsonl").stat().st_size)
    data = (tmp_path / "answers" / "a.jsonl").read_bytes()
    for cut in range(0, len(data) + 1, 7):
        (tmp_path / "answers" / "a.jsonl").write_bytes(data[:cut])
        again = Journal(tmp_path, "b")
        again.refresh()
        assert [n for n in range(4) if again.get(f"k{n}")] == [n for n in range(4) if ends[n] <= cut]


def test_a_line_that_was_torn_and_grew_whole_is_read_and_damage_is_not(tmp_path):
    Journal(tmp_path, "a").add("k", Answer("text"))
    file = tmp_path / "answers" / "a.jsonl"
    data = file.read_bytes()
    file.write_bytes(data[:10])
    other = Journal(tmp_path, "b")
    other.refresh()
    assert other.get("k") is None
    file.write_bytes(data.replace(b"text", b"tixt") + b"\0" * 50 + b"\n" + b'{"key": "x"}\n' + data)
    (tmp_path / "answers" / "notes.txt").write_text("no journal")
    other.refresh()
    assert other.get("k").text == "text"  # the whole line behind the damaged ones
    file.unlink()
    assert other.get("k") is None  # tidied up: asked for again


def test_a_disk_that_refuses_half_a_line_costs_that_answer_alone(tmp_path, monkeypatch):
    journal = Journal(tmp_path, "a")
    journal.add("k1", Answer("one"))
    real = journal._f

    class Full:
        def seek(self, *a):
            return real.seek(*a)

        def write(self, data):
            real.write(data[:20])
            raise OSError(errno.ENOSPC, "No space left on device")

    journal._f = Full()
    with pytest.raises(StoreError, match="No space left"):
        journal.add("k2", Answer("two"))
    journal._f = real
    journal.add("k3", Answer("three"))
    again = Journal(tmp_path, "b")
    again.refresh()
    assert [bool(again.get(k)) for k in ("k1", "k2", "k3")] == [True, False, True]
    assert journal.get("k3").text == "three"


def test_a_request_is_known_by_its_text_messages_and_seed():
    keys = {
        key_of(r)
        for r in (
            Request("a"),
            Request("b"),
            Request("a", seed=1),
            Request("a", (("user", "a"),)),
            Request("a", (("system", "a"),)),
        )
    }
    assert len(keys) == 5 and key_of(Request("a", (("user", "b"),), 3)) == key_of(Request("a", (("user", "b"),), 3))
