"""How many pictures each class gets: GenCL's rule at plan time, and subsets of captions."""

import json

import pytest

from launch.plan.images import scaled
from synth.errors import InputError
from tests.launch.conftest import NAMES
from tests.launch.plan.test_graph import stage


def counts(point) -> dict[int, int]:
    return {c["index"]: c["count"] for c in stage(point, "images").spec.config["counts"]}


@pytest.fixture
def known(world):
    """A class list that says how many real pictures some of its classes have."""

    def write(**by_name):
        entries = [{"name": n} | ({"count": by_name[n]} if n in by_name else {}) for n in NAMES]
        (world.path / "counted.json").write_text(json.dumps({"classes": entries}))
        return f"dataset.classes_json={world.path}/counted.json"

    return write


def test_a_number_is_the_same_for_every_class_and_fixes_the_slots(world):
    point = world.point("images.count=7", "captions.total=10", "dataset.classes=1..3")
    assert counts(point) == {1: 7, 2: 7, 3: 7} and stage(point, "images").spec.slots == 21
    assert stage(point, "image_folder").spec.slots == 21


def test_ma_takes_the_real_numbers_times_the_ratio_rounded_down(world, known):
    override = known(**{n: 10 * k + 3 for k, n in enumerate(NAMES)})
    point = world.point(override, "images.count=ma", "images.increase_ratio=1.15")
    assert counts(point) == {k: int((10 * k + 3) * 1.15) for k in range(6)}
    assert [scaled(n, 1.15) for n in (1000, 200, 0)] == [1150, 229, 0], "as GenCL's own totals come out"


def test_a_class_without_a_known_count_is_named(world, known):
    override = known(cat=5, dog=6)
    with pytest.raises(InputError, match=r"class 2 \('no'\) and 3 more.*images.count_file"):
        world.point(override, "images.count=ma")
    assert counts(world.point(override, "images.count=ma", "dataset.classes=0..1")) == {0: 5, 1: 6}


def test_a_file_comes_first_and_the_rest_is_as_count_says(world):
    (world.path / "n.json").write_text(json.dumps({"sea lion": 9, "3": 4, "707-320": 0}))
    with pytest.raises(InputError, match=r"images\.count_file does not say how many class 0"):
        world.point(f"images.count_file={world.path}/n.json")
    point = world.point(f"images.count_file={world.path}/n.json", "images.count=2")
    assert counts(point) == {0: 2, 1: 2, 2: 2, 3: 4, 4: 9, 5: 0} and stage(point, "images").spec.slots == 19
    assert counts(world.point(f"images.count_file={world.path}/n.json", "dataset.classes=3..4")) == {3: 4, 4: 9}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[1]", "holds a list"),
        ('{"sea lions": 1}', "no class 'sea lions' among 6; did you mean sea lion"),
        ('{"6": 1}', "no class '6'"),
        ('{"cat": -1}', "'cat'=-1: must be a whole number"),
        ('{"cat": 1.5}', "'cat'=1.5"),
        ('{"cat": true}', "'cat'=True"),
        ('{"cat": "3"}', "'cat'='3'"),
        ("{}", "is empty; write an object"),
        ('{"cat": 1, "0": 2}', "'cat' and '0' are one class; leave one of them out"),
        ('{"sea lion": 1, "Sea_Lion": 2}', "'sea lion' and 'Sea_Lion' are one class"),
    ],
)
def test_a_file_that_says_something_else_is_told(world, content, said):
    (world.path / "n.json").write_text(content)
    with pytest.raises(InputError) as e:
        world.point(f"images.count_file={world.path}/n.json", "images.count=1")
    assert said in str(e.value)


def test_a_table_says_the_same_as_an_object(world):
    (world.path / "n.csv").write_text('Class, Count\r\n"sea lion",9\r\n\r\n3, 4\r\n"707-320",0\r\n')
    point = world.point(f"images.count_file={world.path}/n.csv", "images.count=2")
    assert counts(point) == {0: 2, 1: 2, 2: 2, 3: 4, 4: 9, 5: 0}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "begins with nothing; its first line must be class,count"),
        ("cat,3\n", "begins with ['cat', '3']"),
        ("class,count\n", "is empty"),
        ("class,count\ncat\n", "row 2 has 1 cells"),
        ("class,count\ncat,-3\n", "'cat'='-3': must be a whole number"),
        ("class,count\ncat,\n", "'cat'=''"),
        ("class,count\ncat,1e3\n", "'cat'='1e3'"),
        ("class,count\ncow,3\n", "no class 'cow'"),
        ("class,count\ncat,3\ncat,4\n", "are one class"),
        ('class,count\n"cat,3\n', "cannot be read"),
    ],
)
def test_a_table_that_says_something_else_is_told(world, content, said):
    (world.path / "n.csv").write_text(content)
    with pytest.raises(InputError) as e:
        world.point(f"images.count_file={world.path}/n.csv", "images.count=1")
    assert said in str(e.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("images.count=most", "images.count='most': must be a whole number, 0 or more, or ma"),
        ("images.count=-1", "images.count=-1"),
        ("images.count=0", "every class would get 0 pictures"),
        ("images.count=3 images.per_caption=2", "both set"),
        ("images.increase_ratio=1.2", "is for images.count=ma and images.count_file"),
        ("images.count=5 images.increase_ratio=1.2", "is for images.count=ma and images.count_file"),
        ("images.count_file=/no/such", "cannot be read"),
        ("images.subset=0..10 captions.total=10", "images.subset=0..10: row 10: there are 10, counted from 0"),
        ("images.subset=[3,x]", "images.subset=x: is no number and no range"),
        ("images.subset=[]", "names no row"),
        ("images.subset_file=/no/such", "images.subset_file=/no/such: cannot be read"),
    ],
)
def test_bad_counts_and_subsets_are_told_when_the_stage_is_planned(world, overrides, said):
    with pytest.raises(InputError) as e:
        world.point(*overrides.split())
    assert said in str(e.value)


def test_a_subset_of_captions_by_range_list_or_file(world):
    (world.path / "rows.txt").write_text("7\n0..1\n\n2\n")
    spec = stage(world.point("images.subset=0..3", "images.per_caption=2", "captions.total=10"), "images").spec
    assert (spec.config["subset"], spec.slots) == ("0..3", 8)
    assert stage(world.point("images.subset=[5,1..2]"), "images").spec.config["subset"] == "1..2,5"
    spec = stage(world.point(f"images.subset_file={world.path}/rows.txt"), "images").spec
    assert (spec.config["subset"], spec.slots) == ("0..2,7", 4)
    assert stage(world.point(), "images").spec.config["subset"] == ""
    with pytest.raises(InputError, match="both set"):
        world.point(f"images.subset_file={world.path}/rows.txt", "images.subset=1")
