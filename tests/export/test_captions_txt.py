"""captions_txt: a line a caption, split at the last arrow."""

import pytest

from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from tests.configs import CaptionsTxtConfig
from tests.fixtures_images import CLASSES, captions_json_stage, captions_stage, child, work


def test_a_line_a_caption_and_no_more(tmp_path):
    root = tmp_path / "runs" / "toys"
    table = captions_json_stage(root, [captions_stage(root, [f"a  picture => {k}" for k in range(10)])], 10)
    assert work(table) == EXIT_OK
    folder = child(root, "captions_txt", CaptionsTxtConfig(), {"captions": [table]})
    assert work(folder) == EXIT_OK
    lines = (folder.out_dir / "captions.txt").read_text().splitlines()
    assert [line.rsplit(" => ", 1) for line in lines] == [[f"a picture => {k}", CLASSES[k % 5]] for k in range(10)]


@pytest.mark.parametrize("name", ["a => b"])
def test_a_class_that_holds_the_arrow_is_an_error_that_names_it(tmp_path, name):
    root = tmp_path / "runs" / "toys"
    table = captions_json_stage(root, [captions_stage(root, [f"caption {k}" for k in range(4)], classes=(name, "b"))], 4)
    assert work(table) == EXIT_OK
    assert work(child(root, "captions_txt", CaptionsTxtConfig(), {"captions": [table]})) == EXIT_BAD_INPUT
