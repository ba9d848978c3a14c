"""A reader of Apptainer's definition files, as far as ours use them: a header, and sections that begin with %name."""

import re
from pathlib import Path


def sections(path: Path, **arguments: str) -> dict[str, str]:
    """ "header" and each section -> its text, with the build's arguments filled in; those not given keep the values of %arguments."""
    text: dict[str, list[str]] = {"header": []}
    name = "header"
    for line in path.read_text(encoding="utf-8").splitlines():
        if found := re.match(r"%(\w+)\s*$", line):
            name = found[1]
            text[name] = []
        else:
            text[name].append(line.removeprefix("    "))
    values = dict(re.findall(r"^(\w+)=(.*)$", "\n".join(text.get("arguments", [])), re.MULTILINE)) | arguments
    return {k: re.sub(r"\{\{ (\w+) \}\}", lambda m: values[m[1]], "\n".join(lines).strip() + "\n") for k, lines in text.items()}


def files(path: Path) -> dict[str, str]:
    """What %files copies: source in the repository -> target in the image."""
    return dict(line.split() for line in sections(path)["files"].splitlines())


def copied(dockerfile: Path) -> dict[str, str]:
    """The same of the COPY lines of a Dockerfile, a source each."""
    found = {}
    for words in (line.split()[1:] for line in dockerfile.read_text().splitlines() if line.startswith("COPY ")):
        *sources, target = words
        for source in sources:
            found[source] = f"{target}{Path(source).name}" if target.endswith("/") else target
    return found


def variables(dockerfile: Path) -> dict[str, str]:
    """What the ENV lines of a Dockerfile set."""
    text = dockerfile.read_text().replace("\\\n", " ")
    return dict(word.split("=", 1) for line in text.splitlines() if line.startswith("ENV ") for word in line.split()[1:])


def labels(dockerfile: Path) -> dict[str, str]:
    text = dockerfile.read_text().replace("\\\n", " ")
    return {k: v for line in text.splitlines() if line.startswith("LABEL ") for k, v in re.findall(r'([\w.]+)="([^"]*)"', line)}
