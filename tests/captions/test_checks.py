"""Checks of a caption on itself alone."""

import pytest

from synth.captions.checks import names_class, reject_reason
from synth.config import CaptionerConfig, CaptionsConfig, ClassEntry, DatasetConfig, PromptsConfig

CONFIG = CaptionsConfig(0, DatasetConfig("d", (ClassEntry(0, "cat"),), 1), PromptsConfig(), CaptionerConfig())


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("A small cat in the snow.", ""),
        ("", "empty"),
        ("cat", "too_short"),
        ("cat " * 61, "too_long"),
        ("A small dog in the snow.", "no_class"),
        ("A concatenated list of words.", "no_class"),
        ("dog => A cat on a mat.", "markup"),
        ("A photo of a [concept] cat.", "markup"),
        ("Sure, here is a caption about a cat.", "meta"),
        ("As an AI I see a cat.", "meta"),
    ],
)
def test_reason_of_rejection(caption, reason):
    assert reject_reason(caption, "cat", CONFIG) == reason


@pytest.mark.parametrize(
    ("caption", "name"),
    [
        ("Two CATS sleep.", "cat"),
        ("An F-16A/B takes off.", "F-16A/B"),
        ("The Great Wall of China at dawn.", "The_Great_Wall_of_China"),
        ("Ein Café am Abend.", "cafe\u0301"),
        ("A colt's foot grows here.", "colt's foot"),
    ],
)
def test_class_is_found_whatever_its_form(caption, name):
    assert names_class(caption, name)


def test_class_that_is_not_required_need_not_be_named():
    free = CaptionsConfig(0, CONFIG.dataset, CONFIG.prompts, CONFIG.captioner, must_name_class=False)
    assert reject_reason("A small dog in the snow.", "cat", free) == ""
