from tests.faults.conftest import tmp_path  # noqa: F401 (a fixture)
