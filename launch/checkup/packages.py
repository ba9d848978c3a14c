"""Python and the installed packages against the ranges of setup.cfg, and the build of torch against the driver. Imports none of them."""

import configparser
import importlib.metadata
import importlib.util
import platform
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from launch.checkup.rows import Row, ok, unknown, wrong
from synth.host.gpu import too_old

ROOT = Path(__file__).resolve().parents[2]


def needed(root: Path = ROOT) -> tuple[str, list[str]]:
    """(range of Python, requirements) of setup.cfg in a clone, else of the installed synthset."""
    file = root / "setup.cfg"
    if file.is_file():
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(file, encoding="utf-8")
        options = parser["options"]
        return options.get("python_requires", ""), options.get("install_requires", "").split("\n")
    try:
        of_us = importlib.metadata.distribution("synthset")
    except importlib.metadata.PackageNotFoundError:
        return "", []
    return of_us.metadata.get("Requires-Python") or "", [r for r in of_us.requires or () if "extra ==" not in r]


def rows(root: Path = ROOT, version: Callable[[str], str] = importlib.metadata.version) -> list[Row]:
    """A row for Python and one for each package that is not in its range; one for all that are."""
    try:
        from packaging.requirements import Requirement
        from packaging.specifiers import SpecifierSet
    except ModuleNotFoundError:
        return [unknown("packages", "versions cannot be compared without the package packaging", _pip(["packaging"]))]
    of_python, requirements = needed(root)
    found = [_python(SpecifierSet(of_python).contains(platform.python_version(), prereleases=True), of_python)]
    good, bad = [], []
    for need in (Requirement(text) for text in requirements if text.strip()):
        if need.marker and not need.marker.evaluate():
            continue
        try:
            have = version(need.name)
        except importlib.metadata.PackageNotFoundError:
            bad.append(wrong(f"package {need.name}", f"not installed; {need.specifier or 'any version'} is needed", _pip([str(need)])))
            continue
        if need.specifier.contains(have, prereleases=True):
            good.append(f"{need.name} {have}")
        else:
            bad.append(wrong(f"package {need.name}", f"{have} is installed; {need.specifier} is needed", _pip([str(need)])))
    if not requirements:
        return [*found, unknown("packages", "neither setup.cfg nor an installed synthset says what is needed")]
    return [*found, *bad, *([ok("packages", ", ".join(good))] if good else [])]


def _python(fits: bool, needs: str) -> Row:
    here = f"{platform.python_version()} ({sys.executable})"
    return ok("Python", here) if fits else wrong("Python", f"{here}; {needs} is needed", "make run PYTHON=python3.11")


def _pip(requirements: Sequence[str]) -> str:
    words = " ".join(f"'{r}'" for r in requirements)
    return f"{sys.executable} -m pip install {words}"


def torch_build(folder: Path | None = None) -> tuple[str, str, str] | None:
    """(version, CUDA, ROCm) of the installed torch, "" for what it is not built for; None without torch, or where it does not say."""
    if folder is None:
        spec = importlib.util.find_spec("torch")
        folder = Path(spec.origin).parent if spec and spec.origin else None
    file = folder / "version.py" if folder else None
    if file is None or not file.is_file():
        return None
    text = file.read_text(encoding="utf-8")
    version, cuda, hip = (
        m[1] if (m := re.search(rf"^{name}\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)) else ""
        for name in ("__version__", "cuda", "hip")
    )
    return version, cuda, hip


def torch_row(build: tuple[str, str, str] | None, gpus: Sequence[str], driver: str) -> Row:
    """Whether torch can use the GPUs that workers of this machine get."""
    if build is None:
        return unknown("torch", "its build cannot be read: it is not installed, or has no version.py")
    told = _built(build)
    if not gpus:
        return ok("torch", f"{told}; no GPU here is used, so workers compute on cores")
    told = f"{told}; {len(gpus)} GPU{'s' * (len(gpus) != 1)}"
    if build[2]:
        return ok("torch", told)
    if fix := too_old(driver, build[1]):
        return wrong("torch", f"{told}, driver {driver or 'not known'}", fix)
    if not driver:
        return unknown("driver", f"{told}, and neither /proc nor nvidia-smi tells the driver")
    return ok("torch", f"{told}, driver {driver}")


def torch_of_jobs(build: tuple[str, str, str] | None, same: bool) -> Row:
    """What is known here of the torch that jobs of Slurm compute with. same: they run the Python of this command."""
    if build is None or not same:
        why = "jobs have a Python or an image of their own" if not same else "it is not installed, or has no version.py"
        return unknown("torch", f"its build cannot be read here: {why}; the short job tells (leave --login-only out)")
    if not build[1] and not build[2]:
        return wrong("torch", f"{_built(build)}; the jobs ask for GPUs", f"{too_old('', '')}; docs/gpus.md says which a driver runs")
    return ok("torch", f"{_built(build)}; the driver of the nodes is read by the short job")


def _built(build: tuple[str, str, str]) -> str:
    version, cuda, hip = build
    return f"torch {version}, built for {f'CUDA {cuda}' if cuda else f'ROCm {hip}' if hip else 'CPUs alone'}"
