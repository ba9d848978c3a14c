"""A text is split into chapters and prompts as re.split does, or the error shows where it cannot be."""

import re

import pytest

from launch.plan.story import LIMIT, read_book, split_in_child
from synth.errors import InputError, StoreError
from synth.keys import check
from synth.story import splitting
from synth.story.book import Book
from synth.story.config import PromptKeys
from synth.story.splitting import pieces, split

TEXT = "front matter\nGen.1\n[1] a dog\n\n[2] a cat\nGen.2\n[1] a fish\n   \n[2] a bird \t here\n[3] the end"


def keys(path, **more) -> PromptKeys:
    chosen = {"source": str(path), "key": "k", "chapter_split_regex": r"Gen\.\d+", "prompt_split_regex": r"\n"} | more
    return PromptKeys(**chosen)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "a text.txt"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("pattern", [r"\n", r"Gen\.\d+", r"\d", r"(?=G)", r"x*", r"(?m)^\[\d+\] ", "nothing like this"])
def test_pieces_are_those_of_re_split_without_the_first(pattern):
    assert [text for _, text, _ in pieces(pattern, TEXT)] == re.split(pattern, TEXT)[1:]


def test_groups_in_a_pattern_add_no_pieces():
    assert [text for _, text, _ in pieces(r"Gen\.(\d)", TEXT)] == re.split(r"Gen\.\d", TEXT)[1:]


def test_a_text_becomes_chapters_of_prompts_and_empty_ones_are_skipped_and_counted(source):
    path, book, skipped = read_book(keys(source))
    assert path == source and skipped == 3  # the empty line, the blank one, and what is left between Gen.1's last line and Gen.2
    assert [(c.number, c.title, c.prompts) for c in book.chapters] == [
        (1, "Gen.1", ("[1] a dog", "[2] a cat")),
        (2, "Gen.2", ("[1] a fish", "[2] a bird here", "[3] the end")),
    ]


def test_limits_count_chapters_and_prompts_that_are_not_empty(source):
    _, book, skipped = read_book(keys(source, max_chapters=1))
    assert [c.prompts for c in book.chapters] == [("[1] a dog", "[2] a cat")] and skipped == 2
    _, book, skipped = read_book(keys(source, max_entries_per_chapter=2))
    assert [c.prompts for c in book.chapters] == [
        ("[1] a dog", "[2] a cat"),
        ("[1] a fish", "[2] a bird here"),
    ] and skipped == 3


def test_an_override_takes_every_prompts_place_and_the_file_still_sets_the_count(source):
    _, book, _ = read_book(keys(source, prompt_override="one  and\nthe same"))
    assert [c.prompts for c in book.chapters] == [("one and the same",) * 2, ("one and the same",) * 3]


def test_without_a_chapter_regex_all_of_the_text_is_one_chapter(source):
    _, book, _ = read_book(keys(source, chapter_split_regex=None))
    assert len(book.chapters) == 1 and book.chapters[0].prompts[0] == "Gen.1"


def test_line_ends_and_a_byte_order_mark_change_nothing(source, tmp_path):
    (tmp_path / "dos.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert read_book(keys(tmp_path / "dos.txt"))[1] == read_book(keys(source))[1]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"chapter_split_regex": "Season"},
            r"a text\.txt: chapter_split_regex='Season': matches nothing in its 10 lines, which begin with 'front matter Gen",
        ),
        ({"prompt_split_regex": "@"}, r"matches nothing in chapter 1 \('Gen\.1'\), line 2, which holds '\[1\] a dog"),
        ({"prompt_split_regex": r"(?s)\n.*"}, r"chapter 1 \('Gen\.1'\), line 2: no prompt in it \(only 1 empty ones\)"),
        (
            {"chapter_split_regex": "Gen(?:"},
            r"story\.prompt_config\.chapter_split_regex='Gen\(\?:': is no regular expression .*missing \), unterminated subpattern",
        ),
        ({"chapter_split_regex": ""}, "chapter_split_regex='': is empty"),
        ({"prompt_split_regex": "*"}, "prompt_split_regex='\\*': is no regular expression of Python \\(nothing to repeat"),
        ({"source": None}, "story.prompt_config.source: not set"),
        ({"source": "/nowhere/a.txt"}, "/nowhere/a.txt is not there"),
        ({"source": "/"}, "/: is a folder, where a file is expected"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(source, more, said):
    with pytest.raises(InputError, match=said):
        read_book(keys(source, **more))


@pytest.mark.parametrize("more", [{"max_chapters": 0}, {"max_entries_per_chapter": -1}])
def test_limits_are_1_or_more(source, more):
    name, value = next(iter(more.items()))
    with pytest.raises(InputError, match=f"story.prompt_config.{name}={value}: must be 1 or more"):
        check(keys(source, **more), "story.prompt_config")


def test_a_chapter_without_a_prompt_is_named_by_number_title_and_line(tmp_path):
    (tmp_path / "t.txt").write_text("Gen.1\na dog\nGen.2\n\n  \nGen.3\na cat")
    with pytest.raises(InputError, match=r"chapter 2 \('Gen\.2'\), line 3: no prompt in it"):
        read_book(keys(tmp_path / "t.txt"))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_text_that_is_not_utf8_is_shown_by_line_and_byte(tmp_path, mark):
    (tmp_path / "latin.txt").write_bytes(mark + b"Gen.1\nin a caf\xe9 at night\n")
    with pytest.raises(InputError, match=r"latin\.txt, line 2: byte 0xE9 after 'in a caf' is not UTF-8; .*iconv"):
        read_book(keys(tmp_path / "latin.txt"))


def test_an_empty_text_is_an_error(tmp_path):
    (tmp_path / "t.txt").write_text(" \n\n")
    with pytest.raises(InputError, match=r"t\.txt is empty"):
        read_book(keys(tmp_path / "t.txt"))


@pytest.mark.parametrize(
    ("chapter", "prompt", "said"),
    [
        (r"(a+)+b", r"\n", r"chapter_split_regex='\(a\+\)\+b': chapter_split_regex of .* took longer than [\d.]+ s"),
        (
            r"Gen",
            r"(a+)+b",
            r"prompt_split_regex='\(a\+\)\+b': prompt_split_regex in chapter 1 \('Gen'\), line 1 of .* took longer",
        ),
    ],
)
def test_a_pattern_that_does_not_end_is_stopped_and_named(source, chapter, prompt, said):
    request = {
        "text": "Gen" + "a" * 60,
        "chapter_regex": chapter,
        "prompt_regex": prompt,
        "max_chapters": None,
        "max_entries": None,
    }
    for limit in (0.5, 5, 50):  # seconds; on a busy machine the child may not have come to the pattern
        with pytest.raises(InputError, match=f"took longer than {limit} s") as e:
            split_in_child(request, source, limit=limit)
        if re.search(said, str(e.value)):
            break
    assert re.search(said, str(e.value))
    assert LIMIT >= 5  # what an honest regex on a large book may need


@pytest.mark.parametrize(("end", "said"), [("os.kill(os.getpid(), 9)", "killed by SIGKILL"), ("raise MemoryError", "too little memory")])
def test_what_befalls_the_process_that_splits_is_not_told_of_the_text(end, said, source, tmp_path, monkeypatch):
    (tmp_path / "ends.py").write_text(f"import os\n{end}\n")
    monkeypatch.setattr(splitting, "__file__", str(tmp_path / "ends.py"))
    with pytest.raises(StoreError, match=said):
        split_in_child({}, source)


def test_ten_thousand_prompts_are_split_to_the_last():
    text = "".join(f"Chapter {c}\n" + "".join(f"prompt {c} {p}\n" for p in range(100)) for c in range(100))
    found = split(text, r"Chapter \d+", r"\n", None, None)
    assert sum(len(c["prompts"]) for c in found["chapters"]) == 10_000 and found["chapters"][-1]["prompts"][-1] == "prompt 99 99"


def test_a_book_is_read_back_and_knows_what_each_slot_is(tmp_path):
    book = Book.of([(1, "One", ["a", "b"]), (3, 'T"hree', ["c", "d\u2028", "e"])])
    data, identity = book.to_bytes()
    (tmp_path / "b.gz").write_bytes(data)
    assert Book.read(tmp_path / "b.gz", identity) == book
    assert book.ends(2) == (4, 10) and [book.slots(i, 2) for i in (0, 1)] == [range(4), range(4, 10)]
    found = [book.place(slot, 2) for slot in range(10)]
    assert [(p.chapter, p.prompt, p.style) for p in found] == [(c, p, s) for c, n in ((0, 2), (1, 3)) for p in range(n) for s in (0, 1)]
    (tmp_path / "b.gz").write_bytes(data[:-9])
    with pytest.raises(InputError, match=r"b\.gz: cannot be read"):
        Book.read(tmp_path / "b.gz", identity)
    (tmp_path / "b.gz").write_bytes(Book.of([(1, "", ["x"])]).to_bytes()[0])
    with pytest.raises(InputError, match="not the text that was planned"):
        Book.read(tmp_path / "b.gz", identity)
