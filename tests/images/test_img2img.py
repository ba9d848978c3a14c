"""The img2img stage through the planner and the real worker, on diffusers' own classes with random weights."""

import io
import json
import shutil
import signal
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from launch.config.compose import Composer, typed
from launch.plan import img2img
from launch.plan.graph import plan_point
from synth.errors import EXIT_AGAIN, EXIT_OK, InputError
from synth.images.img2img import Img2Img, steps_run, strength_for
from synth.kinds import config_of
from synth.seeds import derive
from synth.store.folder import StageFolder
from synth.store.trees import can_decode
from tests.faults.farm import Child
from tests.fixtures_images import digests, images_stage, small_device, work
from tests.images.pictures import image_folder, picture, sample, write_tar
from tests.images.test_decode import UNREADABLE
from tests.verify.flips import refused, refused_and_resumed

SETTINGS = [
    "recipe=noise_denoise", "dataset.name=pictures", "export=[]", "images.height=16", "images.width=16", "images.steps=4",
    "images.guidance_scale=2", "images.batch_size=4", "images.unit_size=6",
]  # fmt: skip


def planned(runs, model, *overrides) -> StageFolder:
    """The planned last stage of a run of recipe=noise_denoise."""
    img2img._listed.cache_clear()  # a process lists a source once; the tests change theirs
    point = plan_point(typed(Composer().compose([*SETTINGS, f"runs_dir={runs}", f"model.path={model}", *overrides])))
    stages = [StageFolder.create(s.dataset_root, s.spec) for s in point.stages]
    return stages[0] if len(stages) == 1 else stages


def done(runs, model, *overrides) -> StageFolder:
    folder = planned(runs, model, *overrides)
    assert work(folder) == EXIT_OK and folder.is_done()
    return folder


def pixels(folder) -> dict[int, np.ndarray]:
    return {s.slot: np.asarray(Image.open(io.BytesIO(s.read("png")))).astype(int) for s in folder.samples()}


def tombstones(folder) -> dict[int, str]:
    found = {}
    for number in range(folder.spec.n_units):
        with folder.reader(number) as reader:
            found |= reader.index.tombstones
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return image_folder(tmp_path_factory.mktemp("source") / "pictures", {"cat": 4, "golden_retriever": 3, "dog": 3})


@pytest.fixture(scope="module")
def once(source, tiny_sd, tmp_path_factory):
    """Ten inputs, two pictures of each."""
    return done(tmp_path_factory.mktemp("once"), tiny_sd, f"img2img.source={source}", "img2img.per_image=2")


def test_inputs_of_a_unit_are_decoded_while_its_texts_are_encoded(source, tiny_sd, tmp_path, monkeypatch):
    """And of no more than the first batches, each picture once."""
    stage = Img2Img(
        planned(tmp_path, tiny_sd, f"img2img.source={source}", "img2img.per_image=2", "images.batch_size=2", "images.unit_size=12")
    )
    stage.check()
    stage.open()
    begun = []
    encode, decode = stage.painter.encode, stage._decode
    monkeypatch.setattr(stage, "_decode", lambda picture: (begun.append(picture.number), decode(picture))[1])
    monkeypatch.setattr(stage.painter, "encode", lambda texts: (begun.append("texts"), encode(texts))[1])
    unit = stage.folder.unit(0)
    state = stage.begin(unit)
    assert sorted(state.inputs) == [0, 1] and "texts" in begun
    stage.compute(state, range(unit.start, unit.start + 2))
    assert sorted(state.inputs) == [0, 1, 2]
    stage.compute(state, range(unit.start + 2, unit.start + 4))
    assert sorted(state.inputs) == [1, 2, 3]
    stage.close()
    assert sorted(n for n in begun if n != "texts") == [0, 1, 2, 3]


# -- determinism -----------------------------------------------------------------------------------------------------


def test_units_have_the_same_bytes_for_any_number_of_jobs_after_a_kill_and_wherever_the_source_lies(once, source, tiny_sd, tmp_path):
    shutil.copytree(source, tmp_path / "moved")
    other = planned(tmp_path, tiny_sd, f"img2img.source={tmp_path}/moved", "img2img.per_image=2")
    assert other.spec.fingerprint == once.spec.fingerprint and other.spec.n_units == 4
    assert Child(other, 1, 3, env={}, fault="after_batch:kill@1").wait(240) == -signal.SIGKILL
    workers = [Child(other, i, 3, env={}) for i in (2, 0)]
    assert [w.wait(240) for w in workers] == [EXIT_OK] * 2
    assert other.is_done() and digests(other) == digests(once)


def test_a_subset_gives_the_same_pictures(once, source, tiny_sd, tmp_path):
    (tmp_path / "names.txt").write_text("cat/1.png\nretriever_is_not_a_stem\n")
    with pytest.raises(InputError, match="'retriever_is_not_a_stem' is the name of no input"):
        planned(tmp_path, tiny_sd, f"img2img.source={source}", f"img2img.subset_file={tmp_path}/names.txt")
    (tmp_path / "names.txt").write_text("cat/1.png\r\n\n2\n")  # a path, and a stem that three pictures have
    folder = done(tmp_path, tiny_sd, f"img2img.source={source}", f"img2img.subset_file={tmp_path}/names.txt", "images.batch_size=1")
    all_of, some = {s.json()["source"]: s.slot for s in once.samples() if s.json()["replica"] == 0}, pixels(folder)
    found = {s.json()["source"]: s.slot for s in folder.samples()}
    assert sorted(found) == ["cat/1.png", "cat/2.png", "dog/2.png", "golden_retriever/2.png"]
    assert max(abs(some[slot] - pixels(once)[all_of[key]]).max() for key, slot in found.items()) <= 1
    assert {s.json()["label"] for s in folder.samples()} == {0, 1, 2}


def test_a_random_subset_is_drawn_by_seed(source, tiny_sd, tmp_path):
    def drawn(*overrides):
        folder = planned(tmp_path, tiny_sd, f"img2img.source={source}", "img2img.random_count=4", *overrides)
        return [t.picture.key for t in stage(folder).gather(folder.unit(0))[0].values()]

    def stage(folder):
        from synth.images.img2img import Img2Img

        return Img2Img(folder)

    first = drawn()
    assert len(first) == 4 == len(set(first)) and first == sorted(first) and drawn() == first
    assert any(drawn(f"seed={s}") != first for s in range(1, 5))
    with pytest.raises(InputError, match=r"img2img\.random_count=11: there are 10 inputs"):
        planned(tmp_path, tiny_sd, f"img2img.source={source}", "img2img.random_count=11")


def test_what_is_added_to_the_source_later_changes_no_stage(tiny_sd, tmp_path):
    root = image_folder(tmp_path / "s", ("cat",), each=2)
    folder = planned(tmp_path / "runs", tiny_sd, f"img2img.source={root}")
    (root / "cat" / "00.png").write_bytes(picture(50))
    assert work(folder) == EXIT_OK
    assert [s.json()["source"] for s in folder.samples()] == ["cat/0.png", "cat/1.png"]
    assert planned(tmp_path / "runs", tiny_sd, f"img2img.source={root}").path != folder.path


def test_pictures_that_nothing_here_decodes_are_noted_and_change_no_stage(tiny_sd, tmp_path, without_decoders):
    root = image_folder(tmp_path / "s", ("cat",), each=2)
    before = planned(tmp_path / "runs", tiny_sd, f"img2img.source={root}").spec
    for name in ("1.heic", "2.HEIC", "notes.txt"):
        (root / "cat" / name).write_bytes(b"x")
    after = planned(tmp_path / "other", tiny_sd, f"img2img.source={root}").spec
    assert after.fingerprint == before.fingerprint and "notes" not in before.settings
    (note,) = after.settings["notes"]
    assert note.startswith(f"img2img.source: {root}: 2 .heic files are not read: this Pillow has no decoder (install pillow-heif")
    for n in range(2):
        (root / "cat" / f"{n}.png").unlink()
    with pytest.raises(InputError, match=r"holds no picture \(2 \.heic files are not read"):
        planned(tmp_path / "runs", tiny_sd, f"img2img.source={root}")


def test_a_source_gives_its_name_to_the_folder_of_its_runs_and_not_to_its_stages(tiny_sd, tmp_path):
    def stage(name, runs, *overrides):
        words = ["recipe=noise_denoise", "export=[]", f"model.path={tiny_sd}", f"img2img.source={tmp_path / name}", f"runs_dir={runs}"]
        return plan_point(typed(Composer().compose([*words, *overrides]))).stages[0]

    for name in ("cats", "other", "runs/toys/exports/image_folder-0123"):
        image_folder(tmp_path / name, ("cat",), each=2)
    found = [stage(name, tmp_path / "runs") for name in ("cats", "other", "runs/toys/exports/image_folder-0123")]
    assert [s.folder.parent.name for s in found] == ["cats", "other", "toys"]
    assert found[0].spec.fingerprint == found[1].spec.fingerprint
    chosen = stage("other", tmp_path / "runs", "dataset=cifar10", "img2img.classes=dataset")
    assert chosen.folder.parent.name == "cifar10" and chosen.spec.config["dataset"]["classes"][3]["name"] == "cat"
    with pytest.raises(InputError, match=r"the stages of this run would lie in it .*; choose another runs_dir or dataset\.name"):
        stage("cats", tmp_path)
    image_folder(tmp_path / "known" / "train", ("dog", "cat"), each=1)
    mine = ("dataset=custom", f"dataset.source={tmp_path}/known", "dataset.name=mine", "img2img.classes=dataset")
    assert "dataset.source" in stage("other", tmp_path / "runs", *mine).spec.settings["notes"][0], "how the other folder was read, too"


def test_splits_and_what_is_not_read_are_told_in_the_plan(tiny_sd, tmp_path):
    root = image_folder(tmp_path / "s" / "train", ("cat", "dog"), each=1).parent
    image_folder(root / "val", ("cat",), each=1)
    (root / "train" / "cat" / "Thumbs.db").write_bytes(b"x")
    (root / "train" / "cat" / "clip.mp4").write_bytes(b"x")
    spec = planned(tmp_path / "runs", tiny_sd, f"img2img.source={root}").spec
    assert [c["name"] for c in spec.config["dataset"]["classes"]] == ["cat", "dog"] and spec.slots == 3
    splits, unread = spec.settings["notes"]
    assert "'train', 'val' are splits" in splits and "(.mp4 1; the first: 'train/cat/clip.mp4')" in unread and "(Thumbs.db 1)" in unread


def test_a_picture_in_the_place_of_another_of_its_size_is_not_drawn(tiny_sd, tmp_path):
    root = tmp_path / "s" / "cat"
    root.mkdir(parents=True)
    for n in range(2):
        (root / f"{n}.bmp").write_bytes(picture(n, ext="bmp"))
    folder = planned(tmp_path / "runs", tiny_sd, f"img2img.source={root.parent}", "img2img.noise_strength=0")
    (root / "1.bmp").write_bytes(picture(9, ext="bmp"))
    again = planned(tmp_path / "runs", tiny_sd, f"img2img.source={root.parent}", "img2img.noise_strength=0")
    assert again.path != folder.path
    assert work(folder) == EXIT_OK
    assert tombstones(folder) == {1: "cat/1.bmp: changed since the stage was planned (its content did)"}
    assert work(again) == EXIT_OK and not tombstones(again)


@pytest.mark.skipif(not can_decode("avif"), reason="this Pillow has no AVIF")
def test_modern_pictures_that_pillow_reads_are_drawn(tiny_sd, tmp_path):
    root = image_folder(tmp_path / "s", ("cat",), each=1)
    Image.new("RGB", (16, 16), (200, 10, 10)).save(root / "cat" / "a.avif")
    folder = done(tmp_path / "runs", tiny_sd, f"img2img.source={root}", "img2img.noise_strength=0")
    assert [s.json()["source"] for s in folder.samples()] == ["cat/0.png", "cat/a.avif"]
    assert abs(pixels(folder)[1] - np.array([200, 10, 10])).max() < 9


# -- noise -----------------------------------------------------------------------------------------------------------


def test_the_steps_that_are_run():
    assert [steps_run(50, s) for s in (0.1, 0.58, 1.0, 0.0, 0.019)] == [5, 29, 50, 0, 0]
    for steps in range(1, 130):
        for run in range(1, steps + 1):
            assert min(int(steps * strength_for(steps, run, floors=True)), steps) == run
            assert steps - int(max(steps - steps * strength_for(steps, run, floors=False), 0)) == run
            assert 0 < strength_for(steps, run, False) <= strength_for(steps, run, True) <= 1


@pytest.mark.parametrize(("strength", "calls"), [(0.5, 2), (1.0, 4), (0.3, 1)])
def test_only_a_share_of_the_steps_is_run_and_the_metadata_says_which(strength, calls, source, tiny_sd, tmp_path, monkeypatch):
    from diffusers import UNet2DConditionModel

    seen, forward = [], UNet2DConditionModel.forward
    monkeypatch.setattr(UNet2DConditionModel, "forward", lambda self, x, *a, **k: (seen.append(x.shape[0]), forward(self, x, *a, **k))[1])
    folder = done(tmp_path, tiny_sd, f"img2img.source={source}", "img2img.random_count=3", f"img2img.noise_strength={strength}")
    assert seen == [8] * calls  # the short batch is padded to four, with and without the prompt
    record = next(s.json() for s in folder.samples())
    assert (record["steps"], record["steps_run"], record["noise_strength"]) == (4, calls, strength)


def test_no_step_gives_the_resized_input_without_loading_the_model(source, tiny_sd, tmp_path, monkeypatch):
    monkeypatch.setattr("synth.images.pipeline.open_family", None)
    folder = done(
        tmp_path,
        tiny_sd,
        f"img2img.source={source}",
        "img2img.noise_strength=0.2",
        "img2img.resize=crop",
        "img2img.save_size=8",
    )
    for stored in folder.samples():
        record = stored.json()
        assert (record["steps_run"], record["truncated"]) == (0, False)
        image = Image.open(source / record["source"])
        want = image.resize((16, 16), Image.Resampling.BICUBIC, box=(2, 0, 18, 16)).resize((8, 8), Image.Resampling.BICUBIC)
        assert (np.asarray(Image.open(io.BytesIO(stored.read("png")))) == np.asarray(want)).all()


def test_more_noise_leaves_less_of_the_input(source, tiny_sd, tmp_path):
    far = []
    for strength in (0.25, 1.0):
        folder = done(tmp_path, tiny_sd, f"img2img.source={source}", f"img2img.noise_strength={strength}")
        inputs = {
            s.slot: np.asarray(Image.open(source / s.json()["source"]).resize((16, 16), Image.Resampling.BICUBIC)).astype(int)
            for s in folder.samples()
        }
        far.append(np.mean([abs(p - inputs[k]).mean() for k, p in pixels(folder).items()]))
    assert far[0] < far[1]


# -- labels, prompts, metadata ---------------------------------------------------------------------------------------


def test_metadata_says_everything(once, source):
    found = [s.json() for s in once.samples()]
    assert Counter(r["class"] for r in found) == {"cat": 8, "dog": 6, "golden retriever": 6}
    record = found[-1]
    assert record["seed"] == derive(0, "img2img", "golden_retriever/2.png", 1)
    data = (source / "golden_retriever" / "2.png").read_bytes()
    expected = {
        "caption": "a photo of golden retriever", "class": "golden retriever", "label": 2, "labels": [2],
        "label_names": ["golden retriever"],
        "replica": 1, "source": "golden_retriever/2.png", "source_width": 20, "source_height": 16, "resize": "stretch",
        "noise_strength": 0.5,
        "steps": 4, "steps_run": 2, "guidance_scale": 2.0, "eta": 0.0, "width": 16, "height": 16, "truncated": False, "format": "png",
    }  # fmt: skip
    assert {k: record[k] for k in expected} == expected
    import hashlib

    assert record["source_sha256"] == hashlib.sha256(data).hexdigest()
    assert all((pixels(once)[2 * k] != pixels(once)[2 * k + 1]).any() for k in range(10)), "pictures of one input must differ"


HOSTILE = [
    "",
    "x " * 5000,
    "word " * 100,
    "a\x00b\x1b[31m\r\n\t",
    "\u202egnp.exe",
    "caf\u00e9 \U0001f43c",
    "<script>'\"%s{}</script>",
    "lone \ud800 half",
]


def test_no_caption_and_no_class_name_breaks_a_unit(tiny_sd, tmp_path):
    members = [m for n, text in enumerate(HOSTILE) for m in sample(f"k{n}", n, {"caption": text, "label": n, "class": text or "none"})]
    write_tar(tmp_path / "s" / "0.tar", members)
    for prompt in ("caption", "template"):
        folder = done(
            tmp_path / prompt,
            tiny_sd,
            f"img2img.source={tmp_path}/s",
            f"img2img.prompt={prompt}",
            "img2img.prompt_template='{class} {x} %s'",
        )
        records = {s.slot: s.json() for s in folder.samples()}
        assert tombstones(folder) == ({0: "0.tar/k0: has no caption"} if prompt == "caption" else {})
        assert [r["truncated"] for k, r in records.items() if k] == [len(t) > 400 for t in HOSTILE[1:]]
        assert records[7]["class"] == "lone ? half" and records[7]["caption"].startswith("lone ? half")


def test_several_labels_are_carried_over(tiny_sd, tmp_path):
    two = {"label": 4, "class": "cat", "labels": [4, 9], "label_names": ["cat", "hat"]}
    write_tar(tmp_path / "s" / "0.tar", [*sample("a", 0, two), *sample("b", 1, {"label": 9, "class": "hat"})])
    folder = done(tmp_path, tiny_sd, f"img2img.source={tmp_path}/s")
    assert [(r["label"], r["labels"], r["label_names"]) for r in (s.json() for s in folder.samples())] == [
        (4, [4, 9], ["cat", "hat"]),
        (9, [9], ["hat"]),
    ]


def test_a_source_without_classes_is_one_class_and_wants_captions(tiny_sd, tmp_path):
    write_tar(tmp_path / "s" / "0.tar", sample("a", 0, {"caption": "a bird"}))
    with pytest.raises(InputError, match="the source has no classes"):
        planned(tmp_path, tiny_sd, f"img2img.source={tmp_path}/s")
    folder = done(tmp_path, tiny_sd, f"img2img.source={tmp_path}/s", "img2img.prompt=caption")
    assert [(r["caption"], r["class"], r["label"]) for r in (s.json() for s in folder.samples())] == [("a bird", "unlabelled", 0)]


# -- what cannot be used ---------------------------------------------------------------------------------------------


def test_unreadable_inputs_are_tombstones_counted_and_named(tiny_sd, tmp_path, capfd):
    root = image_folder(tmp_path / "s", ("cat",), each=6)
    for name, data in UNREADABLE.items():
        (root / "cat" / f"{name}.png").write_bytes(data)
    folder = planned(tmp_path, tiny_sd, f"img2img.source={root}")
    (root / "cat" / "1.png").unlink()
    (root / "cat" / "2.png").write_bytes(picture(2) + b"more")
    (root / "cat" / "3.png").unlink()
    (root / "cat" / "3.png").mkdir()
    assert work(folder) == EXIT_OK
    left_out = tombstones(folder)
    assert folder.done()["tombstones"] == len(left_out) == len(UNREADABLE) + 3
    assert {s.json()["source"] for s in folder.samples()} == {"cat/0.png", "cat/4.png", "cat/5.png"}
    assert {"cat/1.png: is not there any more", "cat/empty.png: empty file", "cat/html.png: not a picture"} < set(left_out.values())
    assert "cat/2.png: changed since the stage was planned (its size did)" in left_out.values()
    named = [json.loads(line) for line in (folder.path / "left_out.jsonl").read_text().splitlines()]
    assert {n["slot"]: n["reason"] for n in named} == left_out


def test_a_source_that_is_not_mounted_is_no_reason_to_give_up_its_pictures(tiny_sd, tmp_path):
    root = image_folder(tmp_path / "s", ("cat",), each=2)
    folder = planned(tmp_path, tiny_sd, f"img2img.source={root}")
    root.rename(tmp_path / "away")
    assert work(folder) == EXIT_AGAIN and not folder.committed()
    (tmp_path / "away").rename(root)
    assert work(folder) == EXIT_OK and not tombstones(folder)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("img2img.source=null", "img2img.source=null: not set"),
        ("img2img.source=/no/such", "is not there"),
        ("img2img.layout=lmdb", "img2img.layout=lmdb: use one of auto, stage, image_folder"),
        ("img2img.layout=webdataset", "holds no picture"),
        ("img2img.resize=pad", "use one of stretch, crop"),
        ("img2img.prompt=clip", "use one of template, caption"),
        ("img2img.prompt=caption", "no input of .* has a caption"),
        ("img2img.noise_strength=1.5", "from 0 to 1"),
        ("img2img.classes=folders", "use one of source, dataset"),
        ("img2img.classes=dataset", "no dataset with a list of classes is chosen; choose one"),
        ("dataset.classes=0..4", "img2img.classes=dataset"),
        ("img2img.subset=0..3", "is for stages of pictures"),
        ("img2img.height=33", "computes multiples of"),
        ("img2img.format=gif", "img2img.format=gif"),
        ("img2img.subset_file=/no/such", "cannot be read"),
        ("img2img.class_names_file=/no/such", "cannot be read as JSON"),
    ],
)
def test_bad_input_is_told_when_the_stage_is_planned(override, said, source, tiny_sd, tmp_path):
    with pytest.raises(InputError, match=said):
        planned(tmp_path, tiny_sd, f"img2img.source={source}", override)
    assert not any(tmp_path.iterdir())


def test_a_source_of_which_nothing_can_be_used_is_told_when_it_is_planned(tiny_sd, tmp_path):
    (tmp_path / "s" / "cat").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no picture"):
        planned(tmp_path, tiny_sd, f"img2img.source={tmp_path}/s")
    (tmp_path / "s" / "cat" / "a.png").touch()
    with pytest.raises(InputError, match=r"none of the 1 inputs .* cat/a\.png: empty file"):
        planned(tmp_path, tiny_sd, f"img2img.source={tmp_path}/s")


def test_folders_get_names_and_official_indices_where_asked(tiny_sd, tmp_path):
    root = image_folder(tmp_path / "s", ("n01", "n02"), each=1)
    (tmp_path / "names.json").write_text(json.dumps({"n01": "Honeybee", "n02": "cat"}))
    folder = planned(
        tmp_path,
        tiny_sd,
        f"img2img.source={root}",
        "dataset=pictures",
        "img2img.classes=dataset",
        f"img2img.class_names_file={tmp_path}/names.json",
    )
    names = [c.name for c in config_of(folder).dataset.classes]
    assert len(names) == 20 and [names[i] for i in config_of(folder).source_classes] == ["honeybee", "cat"]
    (tmp_path / "names.json").write_text('{"n01": "bee"}')
    with pytest.raises(InputError, match="has no name for class 'n02'"):
        planned(tmp_path, tiny_sd, f"img2img.source={root}", f"img2img.class_names_file={tmp_path}/names.json")


# -- stages of pictures as sources, exports --------------------------------------------------------------------------


def test_a_stage_of_pictures_is_a_source_and_its_gaps_stay_gaps(table, tiny_sd, tmp_path):
    runs = tmp_path / "runs" / "toys"
    upstream = images_stage(runs, table, tiny_sd, 12, unit_size=4)  # two slots more than there are captions
    with pytest.raises(InputError, match="is not whole"):
        planned(tmp_path / "runs", tiny_sd, "dataset.name=toys", f"img2img.source={upstream.path}")
    assert work(upstream) == EXIT_OK
    folder = done(tmp_path / "runs", tiny_sd, "dataset.name=toys", f"img2img.source={upstream.path}", "img2img.prompt=caption")
    assert tombstones(folder) == {s: f"{s:09d}: has no picture: no caption: the captions stage came out short" for s in (10, 11)}
    before, after = ([s.json() for s in f.samples()] for f in (upstream, folder))
    for key in ("caption", "class", "label", "labels", "label_names"):
        assert [r[key] for r in before] == [r[key] for r in after]
    assert [r["source"] for r in after] == [s.key for s in upstream.samples()]
    some = done(
        tmp_path / "runs",
        tiny_sd,
        "dataset.name=toys",
        f"img2img.source={upstream.path}",
        "img2img.prompt=caption",
        "img2img.subset=[2..3,7]",
    )
    a, b = pixels(folder), pixels(some)
    assert sorted(b) == [0, 1, 2] and max(abs(a[x] - b[y]).max() for x, y in ((2, 0), (3, 1), (7, 2))) <= 1
    drawn = planned(tmp_path / "runs", tiny_sd, "dataset.name=toys", f"img2img.source={upstream.path}", "img2img.random_count=5")
    assert drawn.spec.slots == 5
    with pytest.raises(InputError, match="slot 12: there are 12"):
        planned(tmp_path / "runs", tiny_sd, "dataset.name=toys", f"img2img.source={upstream.path}", "img2img.subset=5..12")


def test_exports_read_it_like_any_stage_of_pictures(source, tiny_sd, tmp_path):
    stages = planned(tmp_path, tiny_sd, f"img2img.source={source}", "export=[image_folder,contact_sheet]")
    assert [work(s) for s in stages] == [EXIT_OK] * 3
    out, sheet = stages[1].out_dir, stages[2].out_dir
    assert sorted(p.parent.name for p in out.rglob("*.png")) == ["cat"] * 4 + ["dog"] * 3 + ["golden_retriever"] * 3
    lines = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert len(lines) == 10 and all(line["steps_run"] == 2 and line["source"] for line in lines)
    assert Image.open(sheet / "contact_sheet.png").width > 100
    again = planned(tmp_path, tiny_sd, f"img2img.source={out}", "img2img.prompt=caption", "export=[]")
    assert again.spec.slots == 10 and [c.name for c in config_of(again).dataset.classes] == ["cat", "dog", "golden retriever"]


def test_a_batch_that_does_not_fit_is_split_with_the_inputs_that_belong_to_it(source, tiny_sd, tmp_path, monkeypatch):
    whole = pixels(done(tmp_path / "a", tiny_sd, f"img2img.source={source}"))
    small_device(monkeypatch, 4)  # two pictures with guidance
    folder = done(tmp_path / "b", tiny_sd, f"img2img.source={source}", "images.on_oom=split", "images.preview_every=1")
    assert {s.json()["computed_batch"] for s in folder.samples()} == {2}
    assert max(abs(p - whole[slot]).max() for slot, p in pixels(folder).items()) <= 1
    assert Image.open(folder.preview_path).width > 16


@pytest.mark.parametrize("ext", ["png", "json"])
def test_a_damaged_picture_of_a_stage_ends_its_noising_until_it_is_mended(once, tiny_sd, tmp_path, ext):
    source = tmp_path / once.path.parent.name / once.path.name
    shutil.copytree(once.path, source)
    folder = planned(tmp_path / "runs", tiny_sd, f"img2img.source={source}", "img2img.noise_strength=0")
    refused_and_resumed(folder, StageFolder.open(source), 1, ext)


def test_a_record_that_would_leave_a_picture_out_is_read_with_its_picture(once, tiny_sd, tmp_path):
    """A damaged name of a field: the picture would have no caption, and nobody would look at it."""
    source = tmp_path / once.path.parent.name / once.path.name
    shutil.copytree(once.path, source)
    unit = StageFolder.open(source).unit_path(0)
    unit.write_bytes(unit.read_bytes().replace(b'"caption":', b'"captiom":', 1))
    folder = planned(tmp_path / "runs", tiny_sd, f"img2img.source={source}", "img2img.noise_strength=0", "img2img.prompt=caption")
    refused(folder, unit)
