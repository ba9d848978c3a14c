"""bash -n and shellcheck over shell scripts, for the tests of those we ship and those we write."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def clean_shell(*scripts: Path) -> None:
    """Neither has anything to say. Without shellcheck the test is skipped after bash -n; in CI it fails."""
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck"):
        for script in scripts:
            subprocess.run(["shellcheck", "-x", script.name], cwd=script.parent, check=True)
    elif os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail("no shellcheck in CI; .ci/run installs it")
    else:
        pytest.skip("no shellcheck here")
