"""The command line is judged before Hydra sees it: keys, options, types."""

import pytest

from launch.config.check import check
from launch.config.near import flatten, near
from launch.config.times import check_time, limit, seconds, typed_time
from synth.errors import InputError


@pytest.mark.parametrize(
    ("argument", "meant"),
    [
        ("images.guidance_scal=4", "did you mean images.guidance_scale"),
        ("guidance_scale=4", "did you mean images.guidance_scale"),
        ("image.steps=4", "did you mean images.steps"),
        ("scores.clip=/models/clip", "scores.clip: no such key; it is called features.model"),
        ("images.guidance=4", "images.guidance_scale"),
        ("datset=pictures", "did you mean dataset?"),
        ("export.contact_sheet.colums=4", "export.contact_sheet.columns"),
        ("cluster.jobs=4", "did you mean cluster.n_jobs?"),
        ("+images.stepz=4", "did you mean images.steps"),
        ("++caption.total=4", "did you mean captions.total?"),
        ("cluster.partition=gpu", "cluster.partition: no such key; it is a key of cluster=slurm: choose that, too"),
        ("captioner.base_url=http://x", "it is a key of captioner=openai"),
    ],
)
def test_an_unknown_key_fails_and_names_the_near_ones_with_their_dotted_path(argument, meant):
    with pytest.raises(InputError) as e:
        check([argument])
    assert meant in str(e.value)


def test_an_option_of_sbatch_that_is_no_key_is_told_how_it_is_written():
    with pytest.raises(InputError, match=r"cluster.mail_type: no such key; .* \+cluster.extra.mail-type=\.\.\."):
        check(["cluster=slurm", "cluster.mail_type=END"])
    with pytest.raises(InputError, match=r"did you mean cluster\.partition"):
        check(["cluster=slurm", "cluster.partiton=gpu"])


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("images.steps=abc", "images.steps='abc': must be a whole number or null, got 'abc' (str)"),
        ("captions.total=1.5", "captions.total=1.5: must be a whole number"),
        ("captions.total=true", "must be a whole number or null, got True (bool)"),
        ("images.guidance_scale=high", "must be a number"),
        ("dry_run=maybe", "must be true or false"),
        ("captions.seeds=3", "must be a list of whole numbers"),
        ("captions.seeds=[0,a]", "must be a list of whole numbers"),
        ("images=3", "must be a mapping"),
        ("cluster.n_jobs=many", "must be a whole number or null"),
    ],
)
def test_a_wrong_type_names_key_value_and_what_is_expected(argument, said):
    with pytest.raises(InputError) as e:
        check([argument])
    assert said in str(e.value) and argument.split("=")[0] in str(e.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (["dataset=PACS"], ["dataset=pacs"]),
        (["dataset=CIFAR-10", "seed=1"], ["dataset=cifar10", "seed=1"]),
        (["dataset=food", "model=SDXL"], ["dataset=food101", "model=sdxl"]),
        (["-m", "dataset=DomainNet,pacs"], ["-m", "dataset=domainnet,pacs"]),
        (["export=[Contact_Sheet,hdf5]"], ["export=[contact_sheet,hdf5]"]),
    ],
)
def test_options_are_known_by_the_names_that_the_original_scripts_have_for_them(written, meant):
    line = check(written)
    assert list(line.argv) == meant and [o.input_line for o in line.overrides] == [w for w in meant if "=" in w]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CUB_200", r"200 birds, 5,994 training pictures\); .*dataset=custom dataset\.source=FILE"),
        ("NICO", r"images\.count=800"),
        ("cct", "12 animals"),
        ("birds31", "31 birds"),
        ("ImageNet_full", r"dataset=imagenet images\.count_file=FILE"),
        ("mine", r"no such dataset; there are aircraft, .*dataset=custom dataset\.source=FILE"),
    ],
)
def test_datasets_whose_classes_are_not_here_are_named_with_the_way_out(name, said):
    with pytest.raises(InputError, match=f"dataset={name}: .*{said}"):
        check([f"dataset={name}"])


def test_an_unknown_group_option_lists_the_options_and_never_the_types_of_the_schema():
    with pytest.raises(InputError, match=r"model=tini: no such model; there are auraflow, .*diffusers, .*; did you mean .*tiny"):
        check(["model=tini"])
    with pytest.raises(
        InputError,
        match="export=folder: no such export; there are annotations, captions_txt, coco, contact_sheet, hdf5, image_folder",
    ):
        check(["export=[contact_sheet,folder]"])


def test_every_value_of_a_sweep_is_checked():
    with pytest.raises(InputError, match=r"images\.guidance_scale='x'"):
        check(["-m", "seed=0,1", "images.guidance_scale=2,x"])
    with pytest.raises(InputError, match="model=tini"):
        check(["-m", "model=tiny,tini"])
    assert check(["-m", "seed=range(0,3)", "model=tiny,diffusers", "images.steps=5,10"]).multirun


def test_a_sweep_without_m_is_refused_with_the_ways_to_write_a_text_with_commas():
    with pytest.raises(InputError) as e:
        check(["images.negative_prompt=blurry, grey"])
    assert "add -m" in str(e.value) and "images.negative_prompt_file=PATH" in str(e.value)
    check(["images.negative_prompt='blurry, grey'"])
    with pytest.raises(InputError, match="add -m"):
        check(["seed=0,1"])


def test_keys_of_an_export_that_was_not_chosen_say_how_to_choose_it():
    with pytest.raises(InputError, match=r"choose with export=\[image_folder,..\]"):
        check(["export=[contact_sheet]", "export.image_folder.out=/x"])


def test_open_mappings_take_new_entries_and_typed_ones_do_not():
    check(["+prompts.modes.mine=0.5"])
    with pytest.raises(InputError, match=r"written \+prompts.modes.mine="):
        check(["prompts.modes.mine=0.5"])
    with pytest.raises(InputError, match=r"written \+prompts.modes.NAME="):
        check(["prompts.modes={mine:0.5}"])
    with pytest.raises(InputError, match="always there"):
        check(["~images.steps"])
    check(["~export.contact_sheet"])
    check(["recipe=probe", "probe.behaviour={3:{raise:bug}}"])


def test_flags_may_stand_between_settings():
    assert check(["seed=0,1", "-m", "images.steps=5,6"]).argv == ("-m", "seed=0,1", "images.steps=5,6")


def test_words_that_are_no_settings_are_told():
    with pytest.raises(InputError, match="--sweep: no such option"):
        check(["--sweep"])
    with pytest.raises(InputError, match="key=value"):
        check(["pictures"])
    with pytest.raises(InputError, match="cannot be read"):
        check(["dataset.classes=[a,b"])


def test_a_time_that_yaml_turned_into_a_number_is_refused_with_quote_the_time(tmp_path):
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "mine.yaml").write_text("kind: local\ntime: 1:00:00\n")
    with pytest.raises(InputError, match="Key 'time' not in 'Cluster'"):
        check(["--config-dir", str(tmp_path), "cluster=mine"])
    with pytest.raises(InputError, match=r'quote the time: cluster\.time: "1:00:00"'):
        check_time("cluster.time", 3600)
    with pytest.raises(InputError, match=r'cluster\.time: "0:01:30", or "90" for minutes'):
        check_time("cluster.time", 90)
    check_time("cluster.time", "1:00:00")
    assert (seconds("1:30:00"), seconds("2-12"), seconds("2-12:30"), seconds("90"), seconds("5:30")) == (
        5400,
        216000,
        217800,
        5400,
        330,
    )
    with pytest.raises(InputError, match="not a time"):
        seconds("soon")


def test_a_number_on_the_command_line_is_minutes_as_it_is_for_sbatch():
    check(["cluster=slurm", "cluster.time=90", "cluster.time_min=1:00:00", "cluster.stages.images.time=UNLIMITED", "cluster.cpu.time=30"])
    others = ["+cluster.env.time=noon", "+cluster.srun_extra.time=soon", "+cluster.stages.images.env.time_min=x"]
    check(["cluster=slurm", *others])  # a variable or an option of somebody else's
    assert (limit("90"), limit("infinite"), limit("0"), limit("1-0")) == (5400, None, None, 86400)
    for wrong in (1.5, "soon", True, -3):
        with pytest.raises(InputError, match="not a time"):
            typed_time("cluster.time", wrong)


def test_a_typo_in_a_yaml_file_of_the_user_is_a_short_message(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("pth: /models/x\n")
    with pytest.raises(InputError) as e:
        check(["--config-dir", str(tmp_path), "model=mine"])
    assert "Key 'pth' not in 'Model'" in str(e.value) and "\n" not in str(e.value)


def test_near_keys_are_few_and_the_best_comes_first():
    known = list(flatten({"images": {"steps": 1, "seed": 1, "save_size": 1, "guidance_scale": 1}, "captions": {"seed": 1}}))
    assert near("images.step", known) == ["images.steps"]
    assert near("zzz", known) == []
