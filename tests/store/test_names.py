"""Folder names: safe everywhere, reversible, no clashes."""

import itertools
import random
import re
import unicodedata

import pytest

from synth.store.names import MAX_BYTES, class_name, folder_name, folder_names

HOSTILE = [
    "", " ", "  ", "a b", "a_b", "a  b", " a", "a ", "_", "__", ".", "..", "...", "../..", "/", "/etc/passwd", "a/b", "a\\b", "-rf", "~",
    "~1", "crane~1", "'", '"', "`rm -rf`", "$HOME", "a\nb", "\n", "\x00", "\x7f", "\u2028", "\u200b", "\ufeff", "\u202egnp", "caf\u00e9",
    "cafe\u0301", "\u212b", "\u00c5", "A\u030a", "Crane", "CRANE", "crane", "\u00df", "ss", "SS", "\u1e9e", "\u0130", "i", "I", "\u0131",
    "CON", "con", "con.txt", "nul", "LPT9", "com1.tar.gz", "aux ", "a.", "a..", "x" * 201, "x" * 300, "x" * 299 + "y", "\u96ea" * 100,
    " " * 250, "/" * 100, "<b>bold</b>", "&amp;", "%41", "A", "%", "%%", "%2F", "a%", "100%", "metadata.jsonl", "classes.json",
    "Metadata.JSONL", ".synthset.json", ".synthset.part", "train", "Train", "test", "bullet train", "test tube", "train-of-thought", "dev",
    "valid", "a.test.b", "1val2", "eval", "training wheels", "trainer", "restrain", "\U0001f43c", "a\U0001f43cb", "\ud800", "\u1100\u1161",
    "\uac00", "\u0939\u093f\u0928\u094d\u0926\u0940", "tench, Tinca tinca", "707-320", "C-130", "Mercedes-Benz S-Class Sedan 2012", "??",
    "*", "a:b", "a|b", "\u00e9\u0323", "e\u0323\u0301", "\u1ec7", "\ufb01", "fi", "\u2163", "IV",
]  # fmt: skip
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def is_safe(folder: str) -> bool:
    return (
        0 < len(folder.encode()) <= 255
        and folder[0] not in ".- "
        and folder[-1] not in ". "
        and not RESERVED.fullmatch(folder)
        and folder.casefold() not in ("metadata.jsonl", "classes.json")
        and not re.search(r"[\s/\\:*?\"'`<>|$&;()\[\]{}!#\x00-\x1f\x7f]", folder)
        and folder.isprintable()
        and unicodedata.normalize("NFC", folder) == folder
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_safe_and_comes_back(name):
    folder = folder_name(name)
    assert is_safe(folder)
    back = class_name(folder)
    assert back == name or (back is None and len(name.encode("utf-8", "surrogatepass")) * 3 > MAX_BYTES)


def no_clash(names: list[str]) -> dict[int, str]:
    made = folder_names(dict(enumerate(names)))
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        seen = {unicodedata.normalize(form, f).casefold() for f in made.values()}
        assert len(seen) == len(names)
    assert all(is_safe(f) for f in made.values())
    return made


def test_all_hostile_names_at_once_do_not_clash_and_come_back():
    made = no_clash(HOSTILE + HOSTILE)
    for index, name in enumerate(HOSTILE + HOSTILE):
        assert class_name(made[index]) in (name, None)


def test_random_names_of_hostile_pieces():
    rng = random.Random(0)
    pieces = [*HOSTILE[:60], *(chr(c) for c in range(0x250)), "train", "test", ".", "_", " ", "~", "%", "e\u0301"]
    for length in range(1, 6):
        names = list({"".join(rng.choices(pieces, k=length)) for _ in range(400)})
        made = no_clash(names)
        assert [class_name(made[i]) in (n, None) for i, n in enumerate(names)] == [True] * len(names)


def test_every_pair_of_ascii_characters():
    names = ["".join(p) for p in itertools.product(map(chr, range(128)), repeat=2)]
    made = no_clash(names)
    assert all(class_name(made[i]) == n for i, n in enumerate(names))


def test_every_character_of_the_first_plane():
    names = [chr(c) for c in range(0x10000)]
    made = no_clash(names)
    assert all(class_name(made[i]) == n for i, n in enumerate(names))


def test_one_class_name_at_two_indices_gets_two_folders():
    assert folder_names({134: "crane", 517: "crane", 1: "goldfish"}) == {134: "crane~134", 517: "crane~517", 1: "goldfish"}


def test_legible_names_stay_legible():
    assert folder_name("red panda") == "red_panda"
    assert folder_name("tench, Tinca tinca") == "tench,_Tinca_tinca"
    assert folder_name("caf\u00e9 \u96ea") == "caf\u00e9_\u96ea"
    assert folder_name("bullet train") == "bullet_%74rain"
