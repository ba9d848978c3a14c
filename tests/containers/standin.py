"""Builds containers/ without a registry of images: on a stand-in for their base, a Debian by mmdebstrap with the torch of this environment.

What stands for the base, and the layer of packages that are pinned by hashes, are kept in STORE from run to run; our code never is.
pip and apt are told where packages come from by this machine's own configuration.
"""

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from importlib.metadata import Distribution
from importlib.util import cache_from_source
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STORE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "synthset-images"
RECIPE = ROOT / "containers" / "synthset"
IMAGE = "localhost/synthset:ci"
DEBIAN = ("python3", "python3-pip", "ca-certificates")
VLLM = '#!/usr/bin/python3\nimport torch\nprint("vllm of the base, with torch", torch.__version__)\n'  # for the variant with vLLM
ON_A_CLEAN_MACHINE = os.environ.get("CI", "").lower() in ("true", "1")  # what is kept there is of no use
DRIVER = ("--storage-driver", os.environ.get("BUILDAH_DRIVER", "overlay"))


def needed() -> None:
    """Skip, with the reason, where images cannot be built; in CI that is a failure."""
    lacking = [name for name in ("buildah", "mmdebstrap") if not shutil.which(name)]
    why = f"no {' and no '.join(lacking)} here" if lacking else "images are built by root" if os.getuid() else ""
    if why and ON_A_CLEAN_MACHINE:
        pytest.fail(f"{why}; .ci/run installs what is needed")
    if why:
        pytest.skip(why)


def buildah(*words: str | Path, check: bool = True, **more) -> subprocess.CompletedProcess:
    """A failure raises with what it said."""
    STORE.mkdir(parents=True, exist_ok=True)
    command = ["buildah", "--root", STORE / "root", "--runroot", STORE / "run", *DRIVER, *words]
    env = os.environ | {"TMPDIR": str(STORE)}  # layers are written there on their way: more than fits into memory
    done = subprocess.run([str(w) for w in command], capture_output=True, text=True, env=env, **more)
    if check and done.returncode:
        raise RuntimeError(f"{shlex.join(map(str, command))}: exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done


def base() -> str:
    """The name of the stand-in, which is made where it is not there yet."""
    parts = list(closure("torch"))
    facts = [DEBIAN, VLLM, platform.python_version_tuple()[:2], sorted(f"{d.metadata['Name']} {d.version}" for d in parts)]
    name = f"localhost/standin:{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]}"
    if not there(name):
        with tempfile.TemporaryDirectory(prefix="standin-", dir=STORE) as folder:  # on the disk of our packages, as links
            _make(name, Path(folder), parts)
    return name


def there(name: str) -> bool:
    return buildah("inspect", "--type", "image", name, check=False).returncode == 0


def closure(*names: str, where: Sequence[str] = ()) -> Iterator[Distribution]:
    """Installed packages, and all that they need; of another environment by its site-packages."""
    seen, todo = set(), list(names)
    while todo:
        name = re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", todo.pop(), maxsplit=1)[0]).lower()
        if name in seen:
            continue
        seen.add(name)
        found = next(iter(Distribution.discover(name=name, path=list(where or sys.path))), None)
        if found is None:  # of another platform
            continue
        yield found
        todo += [line for line in found.requires or () if "extra ==" not in line]


def _make(name: str, folder: Path, parts: list[Distribution]) -> None:
    python = "python{}.{}".format(*sys.version_info)
    packages = folder / "packages"
    copy(parts, packages, without=["include", "tests"])  # most of all files, and nothing is compiled or tested there
    (folder / "vllm").write_text(VLLM)
    hooks = [
        f'test -x "$1/usr/bin/{python}"',  # or the torch of this environment would not run there
        f'mkdir -p "$1/usr/local/lib/{python}/dist-packages"',
        f'cp -a {packages}/. "$1/usr/local/lib/{python}/dist-packages/"',
        f'install -m 755 {folder}/vllm "$1/usr/local/bin/vllm"',
    ]
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    include = f"--include={','.join(DEBIAN)}"
    apt = '--aptopt=Acquire::Retries "5"'
    container = buildah("from", "scratch").stdout.strip()
    place = buildah("mount", container).stdout.strip()
    words = ["mmdebstrap", "--variant=minbase", apt, include, *(f"--customize-hook={h}" for h in hooks), suite, place]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    buildah("umount", container)
    buildah("commit", "--rm", container, name)


def copy(parts: Iterable[Distribution], folder: Path, without: Collection[str] = ()) -> None:
    """The files of installed packages, below a folder as they lie below their site-packages, but for folders of some names; and what Python
    compiled of them: a base image has that too, and nothing in the image writes any."""
    for part in parts:
        for file in part.files or ():
            if not {"..", "__pycache__", *without} & set(file.parts):
                source, target = Path(part.locate_file(file)), folder / file
                _placed(source, target)
                if file.suffix == ".py" and (compiled := Path(cache_from_source(str(source)))).exists():
                    _placed(compiled, target.parent / "__pycache__" / compiled.name)


def _placed(source: Path, target: Path) -> None:
    if not target.exists():  # packages of one family share their __init__.py
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target) if source.stat().st_dev == target.parent.stat().st_dev else shutil.copy2(source, target)


def configured() -> list[str]:
    """--volume of what tells pip on this machine where packages come from, and whom to trust."""
    places = {"/etc/ssl/certs": "/etc/ssl/certs", "/etc/pip.conf": "/etc/pip.conf", "~/.config/pip": "/root/.config/pip"}
    places |= {word: word for word in os.environ.get("PIP_FIND_LINKS", "").split() if word.startswith("/")}
    there = {Path(source).expanduser(): target for source, target in places.items() if Path(source).expanduser().exists()}
    return [word for source, target in there.items() for word in ("--volume", f"{source}:{target}:ro")]


def build() -> str:
    """The image of containers/synthset, of the code as it is; its name. Layers of the code before are given up, its packages are kept."""
    words = ["bud", "--pull-never", "--isolation", "chroot", "--network", "host", "--format", "docker", *configured()]
    if not ON_A_CLEAN_MACHINE:
        words.append("--layers")  # each is written once more than the image
    words += ["--ignorefile", ROOT / ".dockerignore", "--file", RECIPE / "Dockerfile", "--tag", IMAGE]
    buildah(*words, "--build-arg", f"BASE={base()}", "--build-arg", "COMMIT=0123abc", ROOT, timeout=1800)
    buildah("rmi", "--prune", check=False)  # what this image is built on stays
    return IMAGE


class Inside:
    """A container of an image, in which commands run."""

    def __init__(self, image: str):
        self.name = buildah("from", "--pull-never", image).stdout.strip()

    def run(self, *words: str, user: str = "10001:10001", check: bool = True, **env: str) -> subprocess.CompletedProcess:
        given = [word for name, value in env.items() for word in ("--env", f"{name}={value}")]
        options = ["--isolation", "chroot", "--network", "host", "--user", user, *configured(), *given]
        return buildah("run", *options, self.name, "--", *words, check=check, timeout=600)

    def copy(self, source: Path, target: str) -> None:
        buildah("copy", self.name, source, target)

    def remove(self) -> None:
        buildah("rm", self.name)
