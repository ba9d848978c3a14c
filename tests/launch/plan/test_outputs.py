"""Places of exports are judged before anything is computed."""

import json

import pytest

from launch.plan.graph import distinct
from launch.plan.outputs import check_outputs
from synth.errors import InputError


def stages(world, *overrides):
    return distinct([world.point(*o.split()) for o in overrides])


def test_a_place_that_holds_another_dataset_is_refused(world, tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    (out / ".synthset.json").write_text(json.dumps({"fingerprint": "0" * 12, "stage": "image_folder-of-others"}))
    with pytest.raises(InputError, match="image_folder-of-others"):
        check_outputs(stages(world, f"export.image_folder.out={out}"))


def test_a_folder_with_other_files_is_refused_and_an_empty_or_new_one_taken(world, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="was not made by an export"):
        check_outputs(stages(world, f"export.image_folder.out={tmp_path / 'full'}"))
    check_outputs(stages(world, f"export.image_folder.out={tmp_path / 'empty'}"))
    check_outputs(stages(world, f"export.image_folder.out={tmp_path / 'new'}"))
    assert not (tmp_path / "new").exists() and not world.runs.exists()


def test_two_points_of_a_sweep_cannot_share_a_place(world, tmp_path):
    out = f"export.image_folder.out={tmp_path / 'both'}"
    with pytest.raises(InputError, match="would both write there"):
        check_outputs(stages(world, f"seed=0 {out}", f"seed=1 {out}"))
    check_outputs(stages(world, f"seed=0 {out}", f"seed=0 {out}"))  # one and the same stage
