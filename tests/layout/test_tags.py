"""The first stage of the chain: taggers, what becomes of pictures of all kinds, and that its bytes hang on nothing else."""

import io
import json
import shutil
import signal
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.layout.tag_files import read_tags, tags_of, unique
from synth.layout.tags import LEFT_OUT, Tags
from synth.layout.vocabulary import check_model, read_words
from tests.faults.farm import Child
from tests.fixtures_clip import build_tiny_clip
from tests.fixtures_images import digests, work
from tests.layout import tiny
from tests.layout.chains import done, records, tags
from tests.layout.sources import pictures, png, tar, write
from tests.layout.towers import build_tiny_siglip


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    return build_tiny_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def tiny_siglip(tmp_path_factory):
    return build_tiny_siglip(tmp_path_factory.mktemp("models") / "siglip")


@pytest.fixture
def words(tmp_path):
    return write(tmp_path, {"words.txt": "# things\ndog\nred sofa\n\nwindow\ncat\n"}) / "words.txt"


def with_words(model, words) -> list[str]:
    keys = {"path": model, "vocabulary": words, "top": 2, "min_probability": 0}
    return [f"tagger.vocabulary.{key}={value}" for key, value in keys.items()]


def encoded(image, form, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


# -- taggers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tags.json", '{"a/0.png": ["dog", " red  ball", "Dog"], "1.png": "cat, hat,"}'),
        ("tags.jsonl", '{"image": "a/0.png", "tags": ["dog", "red ball"], "score": 1}\n\n{"image": "1.png", "tags": "cat,hat"}'),
        ("tags.txt", "a/0.png\tdog, red ball\r\n1.png\tcat,hat\n"),
    ],
)
def test_tags_of_a_file_are_found_by_the_path_of_a_picture_or_by_its_name(name, content, tmp_path):
    found = read_tags(write(tmp_path, {name: content}) / name)
    assert [tags_of(image, found) for image in ("a/0.png", "b/1.png", "b/0.png")] == [("dog", "red ball"), ("cat", "hat"), ()]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tags.json", "[]", "is no object of lists of tags"),
        ("tags.json", '{"a.png": ["dog"], "a.png": []}', "'a.png' stands twice"),
        ("tags.json", '{"a.png": [1]}', "is no object of lists of tags"),
        ("tags.jsonl", '{"image": "a.png"}', "line 1: has no 'tags'"),
        ("tags.txt", "a.png\tdog\na.png\tcat", "line 2: 'a.png' stands twice"),
        ("tags.txt", "a.png dog", "line 1: holds no tab"),
        ("tags.txt", b"a.png\t\xff", "line 1: is not UTF-8"),
        ("tags.txt", "\n", "names no picture"),
    ],
)
def test_what_is_no_file_of_tags_is_refused(name, content, said, tmp_path):
    with pytest.raises(InputError, match=said):
        read_tags(write(tmp_path, {name: content}) / name)


def test_tags_are_united_each_once():
    assert unique(["a dog", "A  dog", "", "cat", "hat"], 2) == ("a dog", "cat")


@pytest.mark.parametrize(("content", "said"), [("\n# no\n", "names no word"), ("dog\ncat\nDog\n", "'Dog' stands twice")])
def test_a_list_of_words_names_each_once(content, said, tmp_path):
    with pytest.raises(InputError, match=said):
        read_words(write(tmp_path, {"w.txt": content}) / "w.txt")


# -- the stage -------------------------------------------------------------------------------------------------------


def test_pictures_of_all_kinds_are_records_or_have_a_reason(tmp_path):
    turned = Image.new("RGB", (9, 5))
    exif = turned.getexif()
    exif[0x0112] = 6  # a quarter to the right
    files = {
        "cmyk.jpg": encoded(Image.new("CMYK", (8, 6)), "JPEG"),
        "deep.png": encoded(Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000), "PNG"),
        "dot.png": encoded(Image.new("L", (1, 1)), "PNG"),
        "long.png": encoded(Image.new("RGB", (10_000, 10)), "PNG"),
        "turned.jpg": encoded(turned, "JPEG", exif=exif),
        "torn.png": png(3, (60, 60))[:-30],
        "text.png": b"no picture",
        "empty.png": b"",
        "dot.txt": b"a dot",
    }
    folder = done(tags(tmp_path / "runs", write(tmp_path / "src", files)))
    found = records(folder)
    good = {r.image: (r.width, r.height, r.tags) for r in found.values() if not isinstance(r, str)}
    assert good == {
        "cmyk.jpg": (8, 6, ()), "deep.png": (8, 6, ()), "dot.png": (1, 1, ("dot",)), "long.png": (10_000, 10, ()), "turned.jpg": (5, 9, ()),
    }  # fmt: skip
    reasons = sorted(r.partition(" (")[0] for r in found.values() if isinstance(r, str))
    assert reasons == ["empty.png: empty file", "text.png: not a picture", "torn.png: cannot be decoded"]
    assert [json.loads(line)["slot"] for line in (folder.path / LEFT_OUT).read_text().splitlines()] == [3, 5, 6]


def test_units_have_the_same_bytes_for_any_number_of_jobs_after_a_kill_and_from_any_layout(tiny_clip, words, tmp_path):
    """Files, tars and meta files of the same pictures in the same order give the same tags; the files' units the same bytes."""
    source = pictures(tmp_path / "src", 10)
    settings = ["tagger=[caption,vocabulary]", *with_words(tiny_clip, words)]
    once = done(tags(tmp_path / "once", source, *settings))
    other = tags(tmp_path / "other", source, *settings)
    assert Child(other, 1, 3, env={}, fault="after_batch:kill@1").wait(120) == -signal.SIGKILL
    assert [w.wait(120) for w in [Child(other, i, 3, env={}) for i in (2, 0)]] == [EXIT_OK] * 2
    assert other.is_done() and digests(other) == digests(once) and other.spec.n_units == 3
    found = records(once)
    assert all(r.tags[:2] == ("dog", "red sofa") and 2 < len(r.tags) <= 4 for r in found.values())
    members = {p.name: p.read_bytes() for p in sorted(source.iterdir())}
    entries = [{"image": f"../src/{n:03d}.png", "caption": members[f"{n:03d}.txt"].decode()} for n in range(10)]
    tars, meta = tar(tmp_path / "tars/0.tar", members).parent, write(tmp_path, {"meta/0.json": entries}) / "meta"
    for place in (tars, meta):
        again = records(done(tags(tmp_path / f"runs_{place.name}", place, *settings)))
        assert {s: (r.tags, r.sha256) for s, r in again.items()} == {s: (r.tags, r.sha256) for s, r in found.items()}


def test_a_picture_that_is_gone_now_is_no_reason_to_give_it_up(tmp_path, capfd):
    folder = tags(tmp_path / "runs", pictures(tmp_path / "src", 3))
    gone = tmp_path / "src/001.png"
    data = gone.read_bytes()
    gone.unlink()
    assert work(folder) == EXIT_AGAIN and "001.png" in capfd.readouterr().err
    gone.write_bytes(data)
    assert work(folder) == EXIT_OK and len(records(folder)) == 3


def test_siglip_and_a_file_are_taggers_too(tiny_siglip, words, tmp_path):
    source = pictures(tmp_path / "src", 2)
    file = write(tmp_path, {"tags.json": {"000.png": ["owl", "dog"]}}) / "tags.json"
    settings = ["tagger=[file,vocabulary]", f"tagger.file.file={file}", *with_words(tiny_siglip, words), "layout.max_tags=3"]
    first, second = records(done(tags(tmp_path / "runs", source, *settings))).values()
    assert first.tags[:2] == ("owl", "dog") and len(first.tags) == 3 and len(second.tags) == 2


@pytest.mark.parametrize("name", ["clip", "siglip", "florence2", "vlm"])
def test_numbers_of_a_tagger_that_are_not_finite_are_a_reason_and_no_picture_without_tags(name, words, tmp_path, capfd):
    if name in ("florence2", "vlm"):
        (tmp_path / name).mkdir()
    builders = {"clip": build_tiny_clip, "siglip": build_tiny_siglip, "florence2": tiny.florence2, "vlm": tiny.qwen3_vl}
    model = tiny.spoiled(builders[name](tmp_path / name), "visual" if name == "vlm" else "vision")
    settings = [f"tagger=[{name}]", f"tagger.{name}.path={model}"]
    settings = settings if name in ("florence2", "vlm") else ["tagger=[vocabulary]", *with_words(model, words)]
    folder = tags(tmp_path / "runs", pictures(tmp_path / "src", 3), *settings)
    said = name if name in ("florence2", "vlm") else "vocabulary"
    assert work(folder) == EXIT_BAD_INPUT and not folder.committed()  # no picture has tags: the model is at fault
    why = f"none of the first 3 pictures could be labelled: the numbers of tagger {said} for it are not finite: the weights are damaged"
    assert why in capfd.readouterr().err


@pytest.mark.parametrize("builder", [build_tiny_clip, build_tiny_siglip])
def test_numbers_of_words_that_are_not_finite_end_the_worker(builder, words, tmp_path, capfd):
    model = tiny.spoiled(builder(tmp_path / "model"), "text_model")
    folder = tags(tmp_path / "runs", pictures(tmp_path / "src", 3), "tagger=[vocabulary]", *with_words(model, words))
    assert work(folder) == EXIT_BAD_INPUT and "its numbers for the words are not finite" in capfd.readouterr().err


def test_florence2_names_what_it_writes_between_places(tmp_path):
    folder = tmp_path / "florence2"
    folder.mkdir()
    settings = ["tagger=[florence2,caption]", f"tagger.florence2.path={tiny.florence2(folder)}"]
    stage = tags(tmp_path / "runs", pictures(tmp_path / "src", 3), *settings)
    assert all(r.tags[-2:] == ("dog", "red sofa") for r in records(done(stage)).values())


def test_attention_is_that_of_texts_where_one_of_the_taggers_writes(tiny_clip, words, tmp_path):
    import torch

    (tmp_path / "florence2").mkdir()
    settings = [f"tagger.florence2.path={tiny.florence2(tmp_path / 'florence2')}", *with_words(tiny_clip, words), "numerics=fast"]
    folder = tags(tmp_path / "runs", pictures(tmp_path / "src", 1), "tagger=[florence2,vocabulary]", *settings)
    stage = Tags(folder)
    stage.open()
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    stage.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": 16}, ""),
        ({"size": {"height": "big"}}, "size.height is 'big', which is no number of pixels"),
        ({"size": {"height": 10**9}}, "which is no number of pixels"),
        ({"size": 32}, "make pictures of 32 pixels, vision_config.image_size in config.json is 16"),
        ({"size": 16, "image_mean": 0.5}, "'image_mean' is 0.5"),
    ],
)
def test_a_siglip_folder_that_prepares_pictures_oddly_is_told_when_it_is_planned(settings, said, tiny_siglip, tmp_path):
    model = write(shutil.copytree(tiny_siglip, tmp_path / "model"), {"preprocessor_config.json": settings})
    with pytest.raises(InputError, match=said) if said else nullcontext():
        check_model(model)


@pytest.mark.parametrize(
    "settings", [{"crop_size": "big"}, {"crop_size": {"height": 10**9}}, {"image_mean": 0.5}, {"image_std": [1, "a", 1]}]
)
def test_a_clip_folder_that_prepares_pictures_oddly_is_told_when_it_is_planned(settings, tiny_clip, tmp_path):
    model = write(shutil.copytree(tiny_clip, tmp_path / "model"), {"preprocessor_config.json": settings})
    with pytest.raises(InputError, match=r"preprocessor_config.json: .*(no number of pixels|three numbers)"):
        check_model(model)
