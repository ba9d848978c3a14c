"""What is kept between compositions changes nothing of them."""

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import OmegaConf

from launch.config.compose import Composer, typed
from launch.config.remembered import Loader
from synth.errors import InputError

LINES = (
    [],
    ["seed=3", "dataset=cars", "captioner=llama3_8b", "prompts=hirpg"],
    ["recipe=layout", "tagger=[caption,file]", "detector=owlv2"],
    ["recipe=story", "cluster=slurm", "+cluster.extra.comment=x"],
    ["filter=[near_duplicates,balance]", "export=[hdf5,webdataset]", "~export.hdf5"],
)


def plain(composer: Composer) -> Composer:
    """The same with Hydra's own loader."""
    composer._loader = ConfigLoaderImpl(composer._loader.config_search_path)
    return composer


@pytest.mark.parametrize("line", LINES)
def test_trees_are_those_of_hydra_s_own_loader(line):
    own = plain(Composer()).compose(line)
    for _ in range(2):  # the second time from memory
        composer = Composer()
        assert isinstance(composer._loader, Loader)
        tree = composer.compose(line)
        assert tree == own and repr(typed(tree)) == repr(typed(own))
        assert OmegaConf.to_yaml(tree) == OmegaConf.to_yaml(own)  # in the same order
        tree.seed = 99  # what is done to one changes no other
        tree.images.steps = 77


def test_a_key_that_is_not_there_is_refused_after_a_composition_of_the_same_groups_too():
    Composer().compose([])
    with pytest.raises(InputError, match="no_such_key"):
        Composer().compose(["images.no_such_key=1"])
    with pytest.raises(InputError, match="steps"):
        typed(Composer().compose(["images.steps=many"]))


def test_a_file_that_is_edited_in_place_and_one_that_comes_before_it_are_read(tmp_path):
    mine = tmp_path / "cluster" / "mine.yaml"
    mine.parent.mkdir()
    for n in (3, 4):  # as many bytes, and within a tick of the file system's clock
        mine.write_text(f"defaults: [schema_cluster, local, _self_]\nn_jobs: {n}\n")
        assert Composer(str(tmp_path)).compose(["cluster=mine"]).cluster.n_jobs == n
    before = Composer(str(tmp_path)).compose([]).seed
    (tmp_path / "config.yaml").write_text(f"defaults: [options, _self_]\nseed: {before + 5}\n")
    assert Composer(str(tmp_path)).compose([]).seed == before + 5
    (tmp_path / "config.yaml").unlink()
    assert Composer(str(tmp_path)).compose([]).seed == before
