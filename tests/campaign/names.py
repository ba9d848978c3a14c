"""Hostile names everywhere: folders, datasets, classes, captions, files. They are text, whatever they look like."""

import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.campaign.report import Report
from tests.campaign.worlds import REPO, given

WORDS = (
    *("a b", " ", "it's", 'say "x"', "new\nline", "tab\there", "ünï 熊猫 🐼", "e\u0301", "\u202egnp.exe", "\x1b[31mred\x07"),
    *(
        ";touch pwned",
        "$(touch pwned)",
        "`touch pwned`",
        "&& touch pwned #",
        "|touch pwned",
        "%s %d",
        "{0} {model}",
        "[1,2]",
        "a=b",
        "~root",
    ),
    *("-rf", "--help", "--", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;", "*?[a-z]", "!x", "\\n", "'", '"', "\\"),
    *(
        ".",
        "..",
        "../up",
        "/etc/passwd",
        "CON",
        "nul.txt",
        ".hidden",
        "trailing.",
        "x" * 255,
        "熊" * 85,
        "${oc.env:HOME}",
        "null",
        "true",
        "0",
    ),
)
DRAWN = ("model=external", "model.deterministic=true", "images.height=8", "images.width=8", "images.unit_size=4", "images.batch_size=2")
EXPORTS = "export=[image_folder,webdataset,parquet,captions_txt,hdf5,contact_sheet]"


def names(folder: Path, rng: random.Random, deadline: float) -> Report:
    report = Report()
    for n in itertools.count():
        if time.monotonic() >= deadline or report.faults:
            break
        place = folder / str(n)
        place.mkdir()
        report.faults += hostile_run(place, given(folder.parent) / "draw.py", rng, run)
        report.count("runs", "with hostile names")
    return report


def run(words: Sequence[str], cwd: Path, log: Path) -> int:
    """A command of launch in a folder; its exit code."""
    env = os.environ | {"PYTHONPATH": str(REPO), "CUDA_VISIBLE_DEVICES": ""}
    with log.open("wb") as out:
        command = [sys.executable, str(REPO / "launch" / words[0]), *words[1:]]
        return subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT).returncode


def hostile_run(place: Path, draw: Path, rng: random.Random, run=run) -> list[str]:
    """Captions of a file, pictures of a command, six exports, and the commands that look at them; what did not hold."""
    home = place / folder_name(rng)
    home.mkdir()
    classes = rng.sample([w for w in WORDS if w.strip()], 6)
    captions = rng.sample([w for w in WORDS if w.strip()], 6)
    (home / "classes.json").write_text(json.dumps({"dataset": "hostile", "classes": classes}))
    (home / "captions.json").write_text(json.dumps([{"caption": f"{c} {n}", "class": classes[n]} for n, c in enumerate(captions)]))
    out = folder_name(rng)
    main = (
        "run.py", "cluster=debug", "dataset=custom", "dataset.source=classes.json", "prompts=from_file", "prompts.file=captions.json",
        *DRAWN, f"model.command=['{sys.executable}','{draw}']", EXPORTS, f"export.image_folder.out={quoted('../' + out)}",
    )  # fmt: skip
    faults, log = [], place / "log"
    for words, codes in (
        ((*main, "dry_run=true"), (0, 65)),
        (main, (0, 65)),
        (main, (0, 65)),
        (("verify.py", "runs", "--deep"), (0, 65)),
        (("status.py", "runs"), (0, 65)),
        (("status.py", "runs", "--json"), (0, 65)),
    ):
        code, said = run(words, home, log), log.read_text(errors="replace")
        if code not in codes or "Traceback" in said:
            faults.append(f"{home!s}: {words[0]} ended with {code}, classes {classes}: {said[-1500:]}")
        elif words == main and code and "classes.json: class" not in said:  # what no caption can name is said
            faults.append(f"{home!s}: refused, classes {classes}, captions {captions}, out {out!r}: {said[-800:]}")
        if "\x1b[31mred" in said or "\x07" in said:
            faults.append(f"{home!s}: {words[0]} sends what a terminal obeys")
    return faults + outside(place, home, out)


def outside(place: Path, home: Path, out: str) -> list[str]:
    """What was written where nothing belongs, and what a page or card would run."""
    found = [f"{p}: was run" for p in place.rglob("*pwned") if p.name == "pwned"]
    found += [f"{p}: outside" for p in place.iterdir() if p not in (home, place / "log", place / out)]
    found += [f"{p}: outside" for p in home.iterdir() if p.name not in ("runs", "classes.json", "captions.json")]
    for page in (*place.rglob("*.html"), *place.rglob("README.md")):
        if "<script>alert" in page.read_text(errors="replace") or "<img src=x" in page.read_text(errors="replace"):
            found.append(f"{page}: holds a name as markup")
    return found


def folder_name(rng: random.Random) -> str:
    """Of one that can be: no separator, no dots alone, room for what is made below it."""
    return rng.choice([w for w in WORDS if "/" not in w and w not in (".", "..")])


def quoted(text: str) -> str:
    """A value of an override, as Hydra reads it."""
    return "'" + text.replace("\\'", "\\\\'").replace("'", "\\'") + "'"
