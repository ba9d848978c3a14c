"""The rules of a chain equal the original loop, written out here, for every combination of its switches."""

import itertools

import pytest

from synth.story.chain import Last, Rules, last_after

CHAPTERS, PROMPTS, STYLES = 3, 4, ("oil", "ink", "clay")
WEIGHTS = (0.8, 0.1, 0.0)
SWITCHES = list(itertools.product((False, True), repeat=3))


def literal(progressive, interleave, cycle_styles, reset):
    """The loop as the original script has it; a picture is (chapter, prompt, style). reset: each chapter begins afresh."""
    made, styles = {}, []
    for chapter in range(CHAPTERS):
        if reset or not styles:
            styles = [{"style": text, "weight": w, "last_image": None} for text, w in zip(STYLES, WEIGHTS, strict=True)]
        for prompt in range(PROMPTS):
            for i, style in enumerate(styles):
                if style["last_image"] is None or not progressive:
                    made[chapter, prompt, i] = (style["style"], None, None)
                else:
                    made[chapter, prompt, i] = (style["style"], style["last_image"], style["weight"])
                style["last_image"] = (chapter, prompt, i)
            if interleave:
                last = [s["last_image"] for s in styles]
                last = last[1:] + last[:1]
                for s, image in zip(styles, last, strict=True):
                    s["last_image"] = image
            if cycle_styles:
                texts = [s["style"] for s in styles]
                texts = texts[1:] + texts[:1]
                for s, text in zip(styles, texts, strict=True):
                    s["style"] = text
    return made


def ours(rules, carry):
    made, last, step = {}, Last(rules), 0
    for chapter in range(CHAPTERS):
        if carry == "chapter":
            last, step = Last(rules), 0
        for prompt in range(PROMPTS):
            for lane, start in enumerate(rules.starts(last.of)):
                weight = None if start is None else rules.weights[lane]
                made[chapter, prompt, lane] = (STYLES[rules.text(step, lane)], start, weight)
            last.add([(chapter, prompt, lane) for lane in range(rules.lanes)])
            step += 1
    return made


@pytest.mark.parametrize("carry", ["chapter", "book"])
@pytest.mark.parametrize(("progressive", "interleave", "cycle_styles"), SWITCHES)
def test_the_rules_equal_the_original_loop(progressive, interleave, cycle_styles, carry):
    rules = Rules(progressive, interleave, cycle_styles, 20, WEIGHTS)
    assert ours(rules, carry) == literal(progressive, interleave, cycle_styles, reset=carry == "chapter")


@pytest.mark.parametrize(("progressive", "interleave", "cycle_styles"), SWITCHES)
def test_what_a_resumed_chain_goes_on_from_is_what_the_chain_had(progressive, interleave, cycle_styles):
    rules = Rules(progressive, interleave, cycle_styles, 20, WEIGHTS)
    last, made = Last(rules), {}
    for prompt in range(5):
        row = [None if (prompt, lane) == (2, 1) else 10 * prompt + lane for lane in range(3)]  # one picture could not be made
        made |= {30 + 3 * prompt + lane: v for lane, v in enumerate(row) if v is not None}
        last.add(row)
        assert last_after(rules, 30, 30 + 3 * (prompt + 1), made) == last.of


def test_a_lane_without_a_picture_stays_with_what_it_started_from():
    rules = Rules(True, False, False, 10, (0.5, 0.5))
    last = Last(rules)
    last.add(["a0", None])
    assert last.of == ("a0", None)  # it has had none: its next one comes from noise
    last.add([None, "b1"])
    assert last.of == ("a0", "b1")


def test_lanes_of_equal_steps_are_drawn_together():
    rules = Rules(True, True, False, 20, (0.8, 0.81, 0.04, 0.1, 0.8))
    assert rules.groups(rules.starts([None] * 5)) == {None: (0, 1, 2, 3, 4)}
    assert rules.groups(rules.starts(["x", "x", "x", None, "x"])) == {16: (0, 1, 4), 0: (2,), None: (3,)}
    assert Rules(False, True, False, 20, (0.8, 0.1)).groups([None, None]) == {None: (0, 1)}
