"""A real browser for tests of pages. In CI there is one; elsewhere its tests are skipped without."""

import os
import shutil
import subprocess

import pytest


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None and os.environ.get("CI", "").lower() not in ("true", "1"):
        pytest.skip("no chromium here")
    assert found is not None, "chromium is not installed; .ci/run installs it"
    return found


def browse(url, tmp_path, *flags) -> str:
    command = [
        chromium(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path}/profile",
        "--virtual-time-budget=10000",
    ]
    return subprocess.run([*command, *flags, url], capture_output=True, text=True, timeout=120, check=True).stdout
