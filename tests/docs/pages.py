"""The command lines that stand in README.md and docs/*.md, and how many words a page has."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("python", "synthset", "make", "sbatch", "pip", "export", "bash", ".")
INLINE = ("python ", "synthset ", "make ", "sbatch ", "pip ", "export ")
NO_FENCED_COMMANDS = ("python", "json", "yaml", "text")  # languages of blocks that hold no command lines


@dataclass(frozen=True)
class Command:
    page: str
    line: int  # where it begins, from 1
    text: str  # without its comment, on one line
    words: tuple[str, ...]

    @property
    def env(self) -> dict[str, str]:
        """The assignments before the program."""
        return dict(w.split("=", 1) for w in self.words[: self._begin])

    @property
    def argv(self) -> tuple[str, ...]:
        return self.words[self._begin :]

    @property
    def _begin(self) -> int:
        return next((i for i, w in enumerate(self.words) if not re.fullmatch(r"[A-Z_][A-Z0-9_]*=.*", w, re.DOTALL)), len(self.words))

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def blocks(text: str) -> Iterator[tuple[int, str | None, list[str]]]:
    """(first line, language of the fence or None, lines) of every code block; of an indented one the language is ""."""
    lines, i = text.splitlines(), 0
    while i < len(lines):
        start = i
        if lines[i].startswith("```"):
            language = lines[i][3:].strip()
            i = next(n for n in range(i + 1, len(lines)) if lines[n].startswith("```"))
            yield start + 2, language, lines[start + 1 : i]
        elif lines[i].startswith("    ") and (i == 0 or not lines[i - 1].strip() or lines[i - 1].startswith("#")):
            while i + 1 < len(lines) and (
                lines[i + 1].startswith("    ") or (not lines[i + 1].strip() and i + 2 < len(lines) and lines[i + 2].startswith("    "))
            ):
                i += 1
            yield start + 1, "", [line[4:] for line in lines[start : i + 1]]
        i += 1


def prose(text: str) -> str:
    """A page without its code blocks and pictures; of tables what stands in them."""
    rows = text.splitlines()
    for first, language, lines in blocks(text):
        fence = 1 if language or rows[first - 2].startswith("```") else 0
        for n in range(first - 1 - fence, first - 1 + len(lines) + fence):
            rows[n] = ""
    return "\n".join(r.replace("|", " ").replace("---", "") for r in rows if not r.startswith("!["))


def commands(page: Path) -> list[Command]:
    """Every command line of a page, in code blocks and in `...`. A block with one holds nothing else."""
    text, found = page.read_text(encoding="utf-8"), []
    name = str(page.relative_to(ROOT))
    inside = set()
    for first, language, lines in blocks(text):
        inside |= set(range(first, first + len(lines)))
        if language in NO_FENCED_COMMANDS:
            continue
        joined = list(_joined(first, lines))
        read = [Command(name, at, line.strip(), tuple(shlex.split(line, comments=True))) for at, line in joined if _shell(line)]
        if not any(_is_command(c) for c in read):
            continue
        strange = [c for c in read if c.words and not _is_command(c)] + [line for _, line in joined if not _shell(line)]
        assert not strange, f"{name}:{first}: a block of command lines that holds something else: {strange}"
        found += [c for c in read if c.words]
    for at, line in enumerate(text.splitlines(), 1):
        if at not in inside:
            found += [
                Command(name, at, code, tuple(shlex.split(code))) for code in re.findall(r"`([^`]+)`", line) if code.startswith(INLINE)
            ]
    return found


def _is_command(command: Command) -> bool:
    return bool(command.argv) and command.argv[0] in PROGRAMS


def _shell(line: str) -> bool:
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return False
    return True


def _joined(first: int, lines: list[str]) -> Iterator[tuple[int, str]]:
    """(number, line), lines that end with a backslash together with the next."""
    at, whole = first, ""
    for number, line in enumerate(lines, first):
        if not whole:
            at = number
        whole += line
        if whole.endswith("\\"):
            whole = whole[:-1]
            continue
        if whole.strip():
            yield at, whole
        whole = ""
