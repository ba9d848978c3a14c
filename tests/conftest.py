import gc
import os
import sys
import tempfile

import pytest

from synth import redaction
from synth.host.children import die_with_parent
from tests.fixtures_images import table, tiny_sd  # noqa: F401 (fixtures)
from tests.order import BesideEachOther, longest_first

# A composed config is tens of thousands of objects; by default a fifth of the time of such tests goes to looking at them.
gc.set_threshold(20_000, 20, 20)
MODULES = 300  # new ones
_aside = 0  # modules that were there when objects were last set aside


def pytest_configure(config):
    state = tempfile.TemporaryDirectory(prefix="synthset-tests-")  # tests write nothing into the home of who runs them
    os.environ["XDG_STATE_HOME"] = state.name
    config.add_cleanup(state.cleanup)
    sys.dont_write_bytecode = False  # hundreds of processes of these tests import the same modules
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if hasattr(config, "workerinput"):
        die_with_parent()  # a process of pytest-xdist: else it goes on with its test when its controller is killed
    config.option.loadscopereorder = False  # pytest-xdist's own order, by numbers of tests


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return BesideEachOther(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    longest_first(items)


def pytest_collection_finish():
    set_aside_what_was_imported()


def pytest_runtest_setup(item):
    if len(sys.modules) - _aside > MODULES:
        set_aside_what_was_imported()


def set_aside_what_was_imported():
    """What was imported stays: it need not be looked at again, which takes a quarter of a second with torch and diffusers, at each close
    of a stage. Of what tests hold only circles suffer, and models that a fixture holds are few and tiny."""
    global _aside
    gc.collect()
    gc.freeze()
    _aside = len(sys.modules)


@pytest.fixture(autouse=True)
def no_secrets_of_other_tests():
    """A process forgets no secret; what one test told it would be cut out of what a later one prints."""
    known = set(redaction._told), set(redaction._of_words)
    yield
    for secrets, before in zip((redaction._told, redaction._of_words), known, strict=True):
        secrets.intersection_update(before)


@pytest.fixture
def without_decoders(monkeypatch):
    """A Pillow that reads no modern format."""
    from PIL import Image

    from synth.store import trees

    trees.can_decode.cache_clear()
    Image.init()
    monkeypatch.setattr(Image, "EXTENSION", {s: form for s, form in Image.EXTENSION.items() if s[1:] not in trees.MODERN})
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setattr(trees, "DECODERS", {form: ("no_such_plugin", what) for form, (_, what) in trees.DECODERS.items()})
    yield
    trees.can_decode.cache_clear()
