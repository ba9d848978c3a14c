"""Builds the image of containers/cogview2 where no registry of images answers, and draws a picture in it with tiny random weights:

    make cogview2-image PYTHON310=python3.10 COGVIEW2_HOME=/src/CogView2

The stand-in for its base is a Debian with this machine's Python 3.10 and the torch of .venv/cogview2, in /opt/conda as in the real one. The
packages of the lock come as pip brings them, CogView2's code from COGVIEW2_HOME. The kernels of local attention need nvcc, which the
stand-in has not: in their place the build gets what tests/containers/cogview2/cores has, by the same steps. About 15 GB of disk.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path

from tests.containers import standin
from tests.containers.standin import ROOT, Inside, buildah

HERE = Path(__file__).parent / "cogview2"
RECIPE = ROOT / "containers" / "cogview2"
IMAGE = "localhost/cogview2:made"
CONDA = "/opt/conda"
# what a Python that was built on a Debian needs of it, and git
DEBIAN = ("ca-certificates", "git", "libbz2-1.0", "libffi8", "liblzma5", "libreadline8", "libsqlite3-0", "libssl3", "zlib1g")
KERNELS = """
from setuptools import setup
from torch import cuda
assert cuda.is_available(), 'Please install CUDA for GPU support.'
setup(name='localAttention', version='0.1', py_modules=['localAttention'])
"""


def parts(python: Path) -> Iterator[Distribution]:
    """torch and torchvision of an environment, and all that they need."""
    site = next((python.parent.parent / "lib").glob("python3.10")) / "site-packages"
    return standin.closure("torch", "torchvision", where=[str(site)])


def base(python: Path) -> str:
    """The stand-in by its digest; it is made where it is not there yet. python: of an environment with the torch of the base."""
    own = subprocess.run([python, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True, check=True).stdout.strip()
    needed = list(parts(python))
    facts = [DEBIAN, own, CONDA, sorted(f"{d.metadata['Name']} {d.version}" for d in needed)]
    name = f"localhost/cogview2-base:{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]}"
    if not standin.there(name):
        with tempfile.TemporaryDirectory(prefix="standin-") as folder:
            _make(name, Path(folder), Path(own), needed)
    digest = buildah("inspect", "--type", "image", "--format", "{{.FromImageDigest}}", name).stdout.strip()
    return f"{name.partition(':')[0]}@{digest}"


def _make(name: str, folder: Path, own: Path, needed: list[Distribution]) -> None:
    conda, tar = folder / "conda", folder / "base.tar"
    shutil.copytree(own, conda, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "test", "site-packages"))
    site = conda / "lib" / "python3.10" / "site-packages"
    for word in ("pip", "setuptools", "pkg_resources", "_distutils_hack"):  # as the base has them
        shutil.copytree(own / "lib" / "python3.10" / "site-packages" / word, site / word)
    standin.copy(needed, site)
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    hooks = [f"mkdir -p $1{CONDA}", f"cp -a {conda}/. $1{CONDA}/"]
    hooks += [f"echo {CONDA}/lib >$1/etc/ld.so.conf.d/python.conf", "chroot $1 ldconfig"]  # a libpython is looked for where it was built
    words = ["mmdebstrap", "--variant=minbase", '--aptopt=Acquire::Retries "5"', f"--include={','.join(DEBIAN)}"]
    words += [*(f"--customize-hook={h}" for h in hooks), suite, str(tar)]
    subprocess.run(words, check=True)
    container = buildah("from", "scratch").stdout.strip()
    buildah("add", container, tar)
    buildah("config", "--env", f"PATH={CONDA}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
    buildah("commit", "--rm", container, name)


def repository(folder: Path) -> str:
    """The hash of the commit in which all of a folder lies."""
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "as it is"]):
        subprocess.run([*git, *words], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()


def build(name: str, home: Path, sources: Path) -> None:
    """The image of containers/cogview2, by its Dockerfile, of what lies in `sources` in the place of what its script would clone."""
    shutil.copytree(home, sources / "CogView2", ignore=shutil.ignore_patterns(".git", "__pycache__"))
    (sources / "attention").mkdir()
    (sources / "attention" / "setup.py").write_text(KERNELS)
    shutil.copy(HERE / "cores" / "localAttention.py", sources / "attention")
    told = {f"{key}_COMMIT": repository(sources / place) for key, place in (("COGVIEW2", "CogView2"), ("ATTENTION", "attention"))}
    told |= {"COGVIEW2_REPO": "file:///sources/CogView2", "ATTENTION_REPO": "file:///sources/attention"}
    words = ["bud", "--pull-never", "--isolation", "chroot", "--network", "host", "--layers", "--format", "docker", *standin.configured()]
    words += [word for key, value in told.items() for word in ("--env", f"{key}={value}")]
    words += ["--volume", f"{sources}:/sources:ro", "--ignorefile", ROOT / ".dockerignore", "--file", RECIPE / "Dockerfile", "--tag", IMAGE]
    buildah(*words, "--build-arg", f"BASE={name}", "--build-arg", "COMMIT=0123abc", ROOT, timeout=3600)


def draw(folder: Path) -> str:
    """What became of one picture that the image's program drew with tiny random weights, on cores."""
    inside = Inside(IMAGE)
    try:
        print(inside.run("cogview2-check").stdout, flush=True)
        for name in ("cores", "tiny.py"):
            inside.copy(HERE / name, f"/opt/{name}")
        on_cores = {"PYTHONPATH": "/opt/cores"}
        inside.run("python3", "/opt/tiny.py", "/tmp/weights", TRITON_CACHE_DIR="/tmp/kernels", **on_cores)
        asked = {"id": 1, "key": "000001", "prompt": "a red panda", "negative_prompt": "", "seed": 7, "width": 480, "height": 480}
        asked |= {"steps": 1, "guidance_scale": 1.0, "out": "/tmp/1.png"}
        (folder / "asked").write_text(json.dumps(asked) + "\n")
        inside.copy(folder / "asked", "/opt/asked")
        line = "cogview2-draw /tmp/weights --fp32 --only-first-stage </opt/asked && stat -c '%s bytes' /tmp/1.png"
        return inside.run("sh", "-c", line, **on_cores).stdout
    finally:
        inside.remove()


def main(argv: list[str]) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--python", type=Path, required=True, help="of an environment with the base's torch")
    p.add_argument("--home", type=Path, required=True, help="a clone of THUDM/CogView2")
    a = p.parse_args(argv)
    standin.needed()
    with tempfile.TemporaryDirectory(prefix="cogview2-", dir=os.environ.get("TMPDIR")) as folder:
        build(base(a.python), a.home, Path(folder) / "sources")
        print(draw(Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
