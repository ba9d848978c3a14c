"""The captioned scenes that ship with the project, as recipe=layout reads them."""

import io
import re
import tarfile

import numpy as np
from PIL import Image

from synth.embedded.pictures.render import classes
from synth.embedded.train import captioned, scenes
from synth.embedded.train.scene_captions import plural
from synth.layout.readers import layout_of, reader


def test_each_picture_is_that_of_its_scene_and_its_alt_text_names_all_that_it_shows():
    with tarfile.open(captioned.FOLDER / captioned.TAR) as tar:
        stored = {m.name: tar.extractfile(m).read() for m in tar}
    made = dict(captioned.members())
    assert list(stored) == list(made) and [stored[n] for n in made if n.endswith("txt")] == [made[n] for n in made if n.endswith("txt")]
    for number in range(0, captioned.PICTURES, 6):
        scene = scenes.made(captioned.FIRST + number)
        seen = np.asarray(Image.open(io.BytesIO(stored[f"{number:09d}.jpg"])))
        assert seen.shape == (scene.height, scene.width, 3)
        assert np.abs(seen.astype(int) - scene.rendered.image).mean() < 4  # what JPEG loses
        text = stored[f"{number:09d}.txt"].decode().lower()
        assert {item.cls for item in scene.scene.items} == {c for c in classes() if re.search(rf"\b({c}|{plural(c)})\b", text)}


def test_they_are_read_as_a_source():
    source = reader(layout_of(captioned.FOLDER), captioned.FOLDER)
    found = list(source)
    assert len(found) == captioned.PICTURES and not source.notes
    assert all(item.caption and not item.reason for item in found)
