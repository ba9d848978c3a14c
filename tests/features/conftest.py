"""A whole images stage of drawn pictures, and a tiny CLIP."""

from tests.filters.conftest import images, tiny_clip  # noqa: F401 (fixtures)
from tests.verify.conftest import run  # noqa: F401 (a fixture)
