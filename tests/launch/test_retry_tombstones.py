"""clean --tombstones=retry: what something outside left empty is made as if it had never failed, and what hangs on it follows."""

import hashlib

import pytest

from launch import clean, status, verify
from launch.config.compose import Composer, typed
from launch.plan.graph import plan_point
from launch.show.stages import report_on
from launch.slurm.gate import gained
from launch.slurm.submissions import Submission
from synth import open_stage
from synth.captions import engines
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK
from synth.images.sources.base import GONE
from synth.run import probe as probes
from synth.run import reopened
from synth.run.loop import Worker
from synth.store import leases
from synth.store.events import EventLog
from synth.store.folder import StageFolder
from synth.store.framing import frame
from synth.store.leases import Owner
from synth.store.parts import PartWriter
from synth.store.reopening import Marks
from synth.store.samples import Sample, Tombstone
from tests.captions.remote.fake import Fake, says
from tests.launch.test_clean import aged
from tests.stages import alone, digests, events, probe

SERVER, CHECKER = "refused_by_server (HTTP 400: no)", "refused by the safety checker"


def retry(*argv):
    return clean.main([*(str(a) for a in argv), "--tombstones=retry"])


@pytest.fixture
def fail(monkeypatch):
    """slot -> the reason why it is left empty for now."""
    reasons: dict[int, str] = {}
    encode = probes.Probe.encode

    def failing(self, state, item):
        reason = reasons.get(item[0])
        return Tombstone(item[0], reason) if reason else encode(self, state, item)

    monkeypatch.setattr(probes.Probe, "encode", failing)
    return reasons


def made(folder):
    assert Worker(folder, 0, 1).run() == 0
    return folder


def test_slots_are_filled_as_if_they_had_never_failed_and_nothing_changes_without_yes(tmp_path, fail, capsys):
    folder = probe(tmp_path / "runs" / "p")
    fail |= {5: SERVER, 17: SERVER, 30: CHECKER}
    made(folder)
    before = {p: p.read_bytes() for p in folder.path.rglob("*") if p.is_file()}
    assert retry(tmp_path / "runs") == EXIT_OK
    said = capsys.readouterr().out
    assert "2 of 40 slots, in 2 of 10 units: 2 x refused_by_server" in said and f"1 x {CHECKER}: their own" in said and "add --yes" in said
    assert {p: p.read_bytes() for p in folder.path.rglob("*") if p.is_file()} == before
    assert retry(tmp_path / "runs", "--yes") == EXIT_OK
    assert folder.missing() == [1, 4] and not folder.is_done()
    del fail[5], fail[17], fail[30]  # 30 is of a unit that stays where it is
    made(folder)
    assert [e["empty"] for e in events(folder, "reopened")] == [1, 1]
    never = alone(tmp_path, folder)
    assert [d == n for d, n in zip(digests(folder), never, strict=True)] == [u != 7 for u in range(10)]
    assert folder.done()["tombstones"] == 1 and not list(folder.path.glob("parts/*/*.before*"))
    assert retry(tmp_path / "runs") == EXIT_OK and "no slot to be filled" in capsys.readouterr().out


def test_samples_that_are_there_keep_their_bytes_whatever_the_next_worker_computes(tmp_path, fail, monkeypatch):
    folder = probe(tmp_path / "runs" / "p")
    fail |= {5: SERVER, 6: CHECKER}
    made(folder)
    was = {s.slot: s.read("bin") for s in folder.samples()}
    assert retry(tmp_path / "runs", "--yes") == EXIT_OK
    fail.clear()
    computed = []
    compute = probes.Probe.compute
    monkeypatch.setattr(probes.Probe, "compute", lambda self, state, slots: computed.append(slots) or compute(self, state, slots))
    monkeypatch.setattr(probes.seeds, "derive", lambda seed, kind, slot, n: 1000 + slot)  # a device that gives other numbers
    made(folder)
    now = {s.slot: s.read("bin") for s in folder.samples()}
    assert open_stage(folder.path).tombstones == {6: CHECKER}
    assert {slot: data for slot, data in now.items() if slot != 5} == was and 5 in now
    assert computed == [range(4, 6)]  # the batch that holds it, whole, and no other


def test_a_unit_that_somebody_works_on_is_left_alone_and_told(tmp_path, fail, capsys):
    folder = probe(tmp_path / "runs" / "p")
    fail[5] = SERVER
    made(folder)
    (folder.path / "done.json").unlink()
    lease = leases.create(folder.lease_path(folder.spec.n_units), folder.spec.n_units, 0, Owner.me())  # somebody finishes it
    assert retry(tmp_path / "runs", "--yes") == EXIT_OK
    said = capsys.readouterr().out
    assert "kept   probe-" in said and "in use" in said and folder.missing() == []
    lease.remove()


def test_an_interrupted_one_goes_on(tmp_path, fail, monkeypatch, capsys):
    folder = probe(tmp_path / "runs" / "p")
    fail |= {5: SERVER, 17: SERVER}
    made(folder)
    beside, killed = StageFolder.put_beside, []

    def once(self, unit, name):
        if killed:
            raise KeyboardInterrupt
        killed.append(unit)
        beside(self, unit, name)

    monkeypatch.setattr(StageFolder, "put_beside", once)
    with pytest.raises(KeyboardInterrupt):
        retry(tmp_path / "runs", "--yes")
    monkeypatch.setattr(StageFolder, "put_beside", beside)
    assert folder.missing() == [1]
    aged(tmp_path / "runs")
    assert retry(tmp_path / "runs", "--yes") == EXIT_OK and folder.missing() == [1, 4]
    fail.clear()
    assert digests(made(folder)) == alone(tmp_path, folder)


def planned(tmp_path, url):
    words = ["dataset=pictures", "dataset.classes=0..2", "captioner=openai", "captioner.model=m", f"captioner.base_url={url}", "seed=1"]
    words += ["captioner.api_key_env=null", "captions.total=6", "captions.oversample=1.5", "captions.window=3", "captions.unit_size=3"]
    words += [f"runs_dir={tmp_path}/runs", "images.unit_size=2", "images.steps=1", "export=[image_folder]"]
    return plan_point(typed(Composer().compose(words))).stages


def worked(stages):
    for stage in stages:
        assert Worker(StageFolder.create(stage.dataset_root, stage.spec), 0, 1).run() == 0
    return {s.spec.kind: StageFolder.open(s.folder) for s in stages}


def test_what_is_made_of_a_stage_follows_it_and_nothing_is_out_of_step(tmp_path, capsys):
    """Captions of a server that refused some: table, pictures and export are those of a run in which it never did."""
    down = []

    def answer(prompt, _):
        words = hashlib.sha256(prompt.encode()).hexdigest()[:9].translate(str.maketrans("0123456789", "ghijklmnop"))
        asked = prompt.strip().splitlines()[-1]
        return says("nothing of the kind") if down and down[0] in asked else says(f"An apple, a banana and a strawberry beside {words}.")

    with Fake(default=answer) as server:
        never = worked(planned(tmp_path / "never", server.url))
    down.append("banana")
    with Fake(default=answer) as server:
        stages = planned(tmp_path, server.url)
        folders = worked(stages)
        empty = dict(open_stage(folders["captions"].path).tombstones)
        assert empty
        first = {s.slot: s.read("json") for s in folders["captions"].samples()}
        assert retry(tmp_path / "runs", "--yes") == EXIT_OK
        said = capsys.readouterr().out
        assert "the server is asked anew" in said and "is moved aside and written again" in said
        seen = len(server.seen)
        down.clear()
        again = worked(stages)
        assert len(server.seen) == seen + len(empty)
    assert {s.slot: s.read("json") for s in again["captions"].samples() if s.slot in first} == first
    assert not open_stage(again["captions"].path).tombstones
    assert verify.main([str(tmp_path / "runs"), "--deep"]) == EXIT_OK
    for kind in ("captions_json", "images"):
        assert digests(again[kind]) == digests(never[kind])
    assert len(list(again["image_folder"].out_dir.parent.glob("image_folder-*.before-*"))) == 1


def test_what_counts_as_from_outside_is_what_the_families_write(tmp_path):
    assert reopened.SERVERS == engines.NOT_DETERMINISTIC
    here = probe(tmp_path / "p").spec
    outside = [engines.REFUSED_BY_SERVER, *GONE.values(), "has no picture: is not there any more (a.png)"]
    assert all(reopened.from_outside(here, reason) for reason in outside)
    own = [CHECKER, "clip_score: its class score is below 0.2 (0.1834)", engines.TOO_LONG, "no_class", "the command refused: no"]
    assert not any(reopened.from_outside(here, reason) for reason in own)


# -- what is made of it, in every state that it may be in ----------------------------------------------------------------


def captioned(tmp_path, url, *more):
    """A server's captions, their table, and pictures of it in units of two batches."""
    words = ["dataset=pictures", "dataset.classes=0..2", "captioner=openai", "captioner.model=m", f"captioner.base_url={url}", "seed=1"]
    words += ["captioner.api_key_env=null", "captions.total=6", "captions.oversample=1.5", "captions.window=3", "captions.unit_size=3"]
    words += [f"runs_dir={tmp_path}/runs", "images.unit_size=4", "images.batch_size=2", "images.steps=1", "export=[image_folder]", *more]
    return plan_point(typed(Composer().compose(words))).stages


def answers(down):
    def answer(prompt, _):
        words = hashlib.sha256(prompt.encode()).hexdigest()[:9].translate(str.maketrans("0123456789", "ghijklmnop"))
        asked = prompt.strip().splitlines()[-1]
        return says("nothing of the kind") if down and down[0] in asked else says(f"An apple, a banana and a strawberry beside {words}.")

    return answer


def test_batches_of_a_unit_that_was_left_half_made_are_not_mixed_with_those_of_other_rows(tmp_path):
    with Fake(default=answers([])) as server:
        never = worked(captioned(tmp_path / "never", server.url))
    down = ["banana"]
    with Fake(default=answers(down)) as server:
        stages = captioned(tmp_path, server.url)
        folders = worked(stages)
        images = folders["images"]
        unit = next(u for u in range(images.spec.n_units) if digests(images)[u] != digests(never["images"])[u])
        half_made(images, unit)
        aged(tmp_path / "runs")
        assert retry(tmp_path / "runs", "--yes") == EXIT_OK
        down.clear()
        again = worked(stages)
    assert not events(again["images"], "adopted")
    assert digests(again["images"]) == digests(never["images"])


def half_made(folder, unit):
    """As a worker leaves it that was killed in its last batch: the first one in a part, the lease without a holder."""
    with folder.reader(unit) as reader:
        first = folder.spec.batches(folder.unit(unit))[0]
        results = [
            Sample(s, reader.entries[s].key, reader.files(reader.entries[s]))
            if s in reader.entries
            else Tombstone(s, reader.index.tombstones[s])
            for s in first
        ]
        part = PartWriter(folder.part_path(unit, "gone", 0), folder.framing, 2)
        part.append(frame(folder.framing, results))
        part.keep()
    folder.unit_path(unit).unlink()
    (folder.path / "done.json").unlink()
    leases.create(folder.lease_path(unit), unit, 0, Owner.me()).release()


def test_a_worker_does_not_compare_with_a_stage_that_is_yet_to_be_made_again(tmp_path):
    down = ["banana"]
    with Fake(default=answers(down)) as server:
        stages = captioned(tmp_path, server.url, "export=[]")
        folders = worked(stages)
        assert retry(tmp_path / "runs", "--yes") == EXIT_OK
        images = folders["images"]
        StageFolder.create(stages[1].dataset_root, stages[1].spec)  # the table, planned anew and not made
        assert Worker(images, 0, 1).run() == EXIT_BAD_INPUT
        assert images.reopening.in_doubt() and "made again in part" in report_on(images.path).unsettled
        assert any("is made again in part" in e["why"] for e in events(images, "stop"))


def test_a_worker_that_began_a_moment_before_the_units_moved_stops_it(tmp_path, fail, monkeypatch, capsys):
    folder = probe(tmp_path / "runs" / "p")
    fail[5] = SERVER
    made(folder)
    begin = Marks.begin

    def beside_a_worker(self):
        EventLog(folder.path, "w").write("start")
        begin(self)

    monkeypatch.setattr(Marks, "begin", beside_a_worker)
    assert retry(tmp_path / "runs", "--yes") == EXIT_AGAIN
    assert "a worker began there just now" in capsys.readouterr().out
    assert folder.missing() == [] and folder.reopening.settled()


def test_nobody_works_on_what_an_interrupted_one_left_until_it_is_ended(tmp_path, fail, monkeypatch, capsys):
    folder = probe(tmp_path / "runs" / "p")
    fail[5] = SERVER
    made(folder)
    end = Marks.end

    def killed(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Marks, "end", killed)
    with pytest.raises(KeyboardInterrupt):
        retry(tmp_path / "runs", "--yes")
    assert folder.missing() == [1] and not folder.is_whole()
    fail.clear()
    assert Worker(folder, 0, 1).run() == EXIT_BAD_INPUT and any("--tombstones=retry" in e["why"] for e in events(folder, "stop"))
    assert verify.main([str(folder.path)]) != EXIT_OK and "slots of it are being opened" in capsys.readouterr().out
    assert status.main([str(folder.path)]) == EXIT_OK and "slots of it are being opened" in capsys.readouterr().out.replace("\n", " ")
    monkeypatch.setattr(Marks, "end", end)
    aged(tmp_path / "runs")
    assert retry(tmp_path / "runs", "--yes") == EXIT_OK and "nothing to do but its end" in capsys.readouterr().out
    assert digests(made(folder)) == alone(tmp_path, folder)


def test_two_at_once_do_no_harm(tmp_path, fail, monkeypatch):
    folder = probe(tmp_path / "runs" / "p")
    fail |= {5: SERVER, 17: SERVER}
    made(folder)
    beside = StageFolder.put_beside
    monkeypatch.setattr(StageFolder, "put_beside", lambda self, unit, name: [beside(self, unit, name) for _ in "ab"])
    assert retry(tmp_path / "runs", "--yes") == EXIT_OK and folder.missing() == [1, 4]
    fail.clear()
    assert digests(made(folder)) == alone(tmp_path, folder)


def test_a_gate_counts_as_gained_only_what_came_after_the_units_were_compared(tmp_path):
    folder = made(probe(tmp_path / "runs" / "p"))
    folder.reopening.doubt("captions-0")
    sent = Submission(1, units=folder.kept())
    assert not gained(folder, sent)  # all are there, and nobody looked
    for unit in range(8):
        folder.put_beside(unit, "stale")
    folder.reopening.in_step()
    assert gained(folder, sent)  # fewer than when it was submitted, and yet somebody got on
