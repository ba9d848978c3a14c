from tests.fixtures_images import table, tiny_sd  # noqa: F401 (fixtures)
