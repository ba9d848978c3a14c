"""Caption engines as they are planned: checked first, what changes no caption in no fingerprint, no key anywhere."""

import json

import pytest

from launch.plan.devices import places_of, processes_of, uses_gpu
from synth.captions.remote.served import from_stage
from synth.errors import InputError
from synth.store.folder import StageFolder
from tests.captions import tiny_hf

KEY = "sk-very-secret-0123456789"


@pytest.fixture(scope="session")
def hf_model(tmp_path_factory):
    return tiny_hf.save(tmp_path_factory.mktemp("hf") / "tiny")


@pytest.fixture
def plan(world, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)

    def planned(*overrides):
        from launch.config.compose import Composer, typed
        from launch.plan.graph import plan_point

        mine = [o for o in world.overrides if not o.startswith("captioner.")]
        point = plan_point(typed(Composer().compose([*mine, *" ".join(overrides).split()])))
        return next(s for s in point.stages if s.spec.kind == "captions").spec

    return planned


def test_a_folder_of_transformers_is_known_by_its_contents(plan, hf_model):
    spec = plan(f"captioner=hf captioner.path={hf_model}")
    assert spec.config["captioner"]["id"] == "tiny" and list(spec.inputs)[-1] == "model" and set(spec.settings) == {"stop_when_empty"}
    assert uses_gpu("captions", spec.config) and processes_of("captions", spec.config) == 1
    assert processes_of("captions", plan(f"captioner=hf captioner.path={hf_model} captioner.model_parallel=2").config) == 2


def test_an_endpoints_address_key_speed_and_price_are_settings_and_change_no_fingerprint(plan, world):
    spec = plan("captioner=openai captioner.model=m")
    other = plan(
        "captioner=openai captioner.model=m captioner.base_url=http://gpu7:8000/v1/ captioner.max_batch_size=99 captioner.timeout=9",
        "captioner.price_in=2 captioner.api_key_env=null captioner.retries=1",
    )
    assert spec.fingerprint == other.fingerprint and spec.settings != other.settings
    assert other.settings["base_url"] == "http://gpu7:8000/v1" and other.settings["concurrency"] == 99
    for change in (
        "captioner.model=n",
        "captioner.api=completions",
        "captioner.temperature=1",
        "captioner.body={top_k:5}",
        "captioner.max_gen_len=9",
    ):
        assert plan("captioner=openai captioner.model=m", change).fingerprint != spec.fingerprint
    folder = StageFolder.create(world.path, spec)
    assert KEY not in (folder.path / "stage.json").read_text() + (folder.path / "inputs.json").read_text()
    assert folder.spec.settings == spec.settings
    again = StageFolder.create(world.path, other)  # planned anew: the same stage, with what is said now
    assert again.path == folder.path and StageFolder.open(folder.path).spec.settings == other.settings
    stage, inputs = (json.loads((folder.path / name).read_text()) for name in ("stage.json", "inputs.json"))
    assert "settings" not in stage and inputs["settings"]["api_key_env"] == ""


def test_a_worker_of_somebody_elses_server_takes_no_gpu_and_there_is_one_of_it(plan):
    spec = plan("captioner=openai captioner.model=m")
    assert not uses_gpu("captions", spec.config) and places_of(("0", "1"), 8, "captions", spec.config) == [None]
    none = plan("captioner=none prompts=class_name")
    assert places_of(("0", "1"), 4, "captions", none.config) == [None] * 4
    assert none.fingerprint == plan("captioner=none prompts=class_name captioner.temperature=0.5").fingerprint  # it reads none of the keys


def test_a_server_of_our_own_takes_its_gpus_and_reads_its_model(plan, world, hf_model, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    spec = plan(f"captioner=vllm captioner.path={hf_model} captioner.model_parallel=2")
    assert places_of(("0", "1", "2", "3"), 8, "captions", spec.config) == [("0", "1"), ("2", "3")]
    assert spec.fingerprint == plan(f"captioner=vllm captioner.path={hf_model} captioner.model_parallel=2 captioner.flags=[-x]").fingerprint
    assert (
        spec.fingerprint
        != plan(f"captioner=vllm captioner.path={hf_model} captioner.model_parallel=2 captioner.command=[x,'{{port}}']").fingerprint
    )
    folder = StageFolder.create(world.path, spec)
    words = from_stage(folder)._command(4321)
    assert words[:7] == ["vllm", "serve", str(hf_model), "--host", "127.0.0.1", "--port", "4321"]
    assert words[7:13] == ["--max-model-len", "512", "--dtype", "bfloat16", "--tensor-parallel-size", "2"]
    assert words[13:] == ["--max-num-seqs", "256", "--enable-prefix-caching"]
    named = plan("captioner=served captioner.model=some/name")
    assert named.config["captioner"]["model"] == named.config["captioner"]["id"] == "some/name" and "model" not in named.inputs


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("captioner=hf", "captioner.path: not set"),
        ("captioner=hf captioner.path=/no/such", "captioner.path: /no/such is not there"),
        ("captioner=hf captioner.path={sd}", "config.json: missing"),
        ("captioner=hf captioner.path={hf} captioner.max_seq_len=9999", "takes 512 tokens"),
        ("captioner=hf captioner.path={hf} captioner.temperature=-1", "captioner.temperature=-1: must be 0 or more"),
        ("captioner=hf captioner.path={hf} captioner.top_p=2", "captioner.top_p=2: must be from 0 to 1"),
        ("captioner=hf captioner.path={hf} captioner.max_batch_size=0", "captioner.max_batch_size=0: a number"),
        ("captioner=hf captioner.path={hf} captioner.dtype=int8", "captioner.dtype=int8: use one of float32"),
        ("captioner=hf captioner.path={hf} captioner.stop=['']", "none of them empty"),
        ("captioner=openai", "captioner.model: not set"),
        ("captioner=openai captioner.model=m captioner.body=[1]", "captioner.body=[1]: a mapping"),
        ("captioner=openai captioner.model=m captioner.base_url=null", "captioner.base_url: not set"),
        ("captioner=openai captioner.model=m captioner.base_url=gpu7:8000", "it looks like https://host/v1"),
        ("captioner=openai captioner.model=m captioner.base_url=http://me:pw@h/v1", "holds a name or password"),
        ("captioner=openai captioner.model=m captioner.api=talk", "one of chat, completions"),
        ("captioner=openai captioner.model=m captioner.api_key_env=NOT_THERE", "NOT_THERE: not set"),
        ("captioner=openai captioner.model=m captioner.api_key_env=sk-0123", "name of an environment variable, never the key itself"),
        (f"captioner=openai captioner.model={KEY}", "the key in OPENAI_API_KEY stands in the config"),
        ("captioner=openai captioner.model=m captioner.retries=-1", "captioner.retries=-1: must be 0 or more"),
        ("captioner=openai captioner.model=m captioner.timeout=0", "captioner.timeout=0.0: seconds, more than 0"),
        ("captioner=openai captioner.model=m captioner.max_batch_size=auto", "captioner.max_batch_size=auto: a number"),
        ("captioner=served", "give one of them"),
        ("captioner=served captioner.model=m captioner.path={hf}", "give one of them"),
        ("captioner=served captioner.model=m captioner.command=[x]", "must hold {port}"),
        ("captioner=served captioner.model=m captioner.health=h", "captioner.health='h': a path"),
        ("captioner=none captioner.engine=gpt", "captioner.engine=gpt: no such engine; there are hf, llama, none, openai, served"),
        ("captioner=none captioner.engine=hf", "must begin with `defaults: [schema_hf, _self_]`"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_anything_is_written(plan, world, hf_model, overrides, said):
    with pytest.raises(InputError) as e:
        plan(overrides.format(hf=hf_model, sd=world.path / "sd", port="{port}"))
    assert said in str(e.value) and KEY not in str(e.value).replace(f"captioner.model={KEY}", "")
    assert not world.runs.exists()


def test_a_stage_that_is_done_needs_no_key_any_more(plan, world, monkeypatch):
    spec = plan("captioner=openai captioner.model=m")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match="OPENAI_API_KEY: not set"):
        plan("captioner=openai captioner.model=m")
    StageFolder.create(world.runs / "pictures", spec).mark_done({})
    assert plan("captioner=openai captioner.model=m").fingerprint == spec.fingerprint


# -- captioner.max_batch_size=auto becomes a number in stage.json --------------------------------------------------------


def rows(world, *overrides):
    point = world.point("captioner.max_batch_size=auto", *overrides)
    return point.stages[0].spec.config["captioner"]["max_batch_size"]


def test_auto_is_a_number_in_the_stage(world):
    assert rows(world) == 32
    assert rows(world, "captions.window=8") == 8
    many = ("captions.window=1024", "captions.unit_size=1024")
    assert rows(world, "cluster.gpu_mem_gb=80", *many) == 256
    long = (*many, "captioner.max_seq_len=4096")
    assert 8 <= rows(world, "cluster.gpu_mem_gb=3", *long) < rows(world, "cluster.gpu_mem_gb=4", *long) == 256
    assert rows(world, "cluster.gpu_mem_gb=4", "numerics=reference", *long) < 8  # the plain kernel of attention holds more


def test_no_more_rows_than_a_unit_has_captions(world):
    """A window never goes beyond its unit: rows for more would cost memory and stand empty."""
    assert rows(world, "cluster.gpu_mem_gb=80", "captions.window=1024", "captions.unit_size=64") == 64


def test_the_gpus_of_the_captions_stage_count_where_they_are_given(world):
    own = "cluster.stages.captions.gpu_mem_gb=80"
    assert rows(world, "cluster=slurm", "cluster.gpu_mem_gb=0.1", own, "captions.window=64", "captions.unit_size=64") == 64


@pytest.mark.parametrize("asked", ["16", "auto"])
def test_equal_numbers_are_one_stage_however_they_came_about(world, asked):
    point = world.point(f"captioner.max_batch_size={asked}", "captions.window=16")
    assert point.stages[0].spec.fingerprint == world.point("captioner.max_batch_size=16", "captions.window=16").stages[0].spec.fingerprint


@pytest.mark.parametrize("wrong", ["0", "-3", "1.5", "many", "true", "null"])
def test_what_is_no_number_of_captions_is_named(world, wrong):
    with pytest.raises(InputError, match=r"captioner\.max_batch_size="):
        world.point(f"captioner.max_batch_size={wrong}")


def test_a_gpu_too_small_and_one_of_no_memory_are_named(world):
    with pytest.raises(InputError, match=r"cluster.gpu_mem_gb=1: .*needs about \d+ GB"):
        rows(world, "cluster.gpu_mem_gb=1")
    with pytest.raises(InputError, match=r"cluster\.gpu_mem_gb=-5"):
        rows(world, "cluster.gpu_mem_gb=-5")
