"""The image of containers/synthset, really built, and units really made in it through cluster=local."""

import json
import os
import subprocess
import sys

import pytest

from synth.store.events import read_events
from synth.store.folder import StageFolder
from tests.containers import standin
from tests.containers.deffile import files, sections
from tests.containers.standin import RECIPE, ROOT, STORE, Inside
from tests.containers.test_recipes import DEF, locked

SMALL = ["captions.total=8", "captions.unit_size=8", "images.unit_size=8", "images.batch_size=8", "export=[]", "until=images"]


@pytest.fixture(scope="module")
def image() -> str:
    standin.needed()
    return standin.build()


@pytest.fixture
def inside(image):
    container = Inside(image)
    yield container
    container.remove()


def test_the_image_proves_itself_as_another_user_than_root(inside):
    said = inside.run("synthset-check").stdout
    assert "torch" in said and said.endswith("synthset works\n")
    ask = "import os, site, sys, torch; print(os.getuid(), site.ENABLE_USER_SITE, torch.__file__, os.environ['HF_HUB_OFFLINE'])"
    words = inside.run("python3", "-P", "-c", ask).stdout.split()
    assert words[:2] == ["10001", "False"] and words[3] == "1"
    assert words[2].startswith("/usr/")  # the base's torch, not one of ours


def test_what_is_inside_is_what_is_locked_and_the_base_s_own_programs_stay(inside):
    facts = json.loads(inside.run("python3", "-P", "-m", "synth.host.container").stdout)
    assert facts["recipe"]["commit"] == "0123abc" and facts["recipe"]["base"].startswith("localhost/standin:")
    ask = "import json; from synth.host.container import packages; print(json.dumps(packages()))"
    there = json.loads(inside.run("python3", "-P", "-c", ask).stdout)
    wrong = {name: there.get(name) for name, versions in locked().items() if name in there and there[name] not in versions}
    assert not wrong and len(set(locked()) & set(there)) > 60
    assert "vllm of the base" in inside.run("vllm").stdout  # for captioner=vllm, beside our environment


def test_the_sections_of_the_definition_file_do_the_same(inside):
    """In a container of the image: its packages are there, so pip finds each as it is locked, or would install it."""
    for source, target in files(DEF).items():
        inside.copy(ROOT / source, target)
    given = sections(DEF, BASE="the base", COMMIT="4567def")
    said = inside.run("sh", "-c", given["post"], user="0:0").stdout
    assert "torch of the base" in said and "Successfully installed synthset" in said
    assert json.loads(inside.run("cat", "/opt/synthset/image.json").stdout) == {"base": "the base", "commit": "4567def"}
    assert inside.run("sh", "-c", f"{given['environment']}\n{given['test']}").stdout.endswith("synthset works\n")


def test_a_caption_and_an_image_unit_are_made_in_the_image(image, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "podman").symlink_to(RECIPE.parents[1] / "tests" / "containers" / "podman")
    env = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "BUILDAH_STORE": str(STORE), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / "launch" / "run.py"), *SMALL, f"runs_dir={tmp_path / 'runs'}", "cluster.n_jobs=1"]
    command += [f"cluster.container={image}", "cluster.container_runtime=podman"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    stages = {s.spec.name: s for s in (StageFolder.open(p.parent) for p in tmp_path.glob("runs/*/*/stage.json"))}
    assert stages["captions"].is_whole() and stages["images"].is_whole()
    for name in ("captions", "images"):
        (told,) = [e for e in read_events(stages[name].path) if e["event"] == "image"]
        assert told["image"] == image and told["digest"].startswith("sha256:") and told["inside"]["recipe"]["commit"] == "0123abc"
        assert not [e for e in read_events(stages[name].path) if e["event"] == "warning"]
        assert all(os.stat(p).st_uid == os.getuid() for p in stages[name].path.rglob("*"))
