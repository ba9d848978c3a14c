"""Statistics of captions, of classes and of single pictures."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from synth.captions.words import tokens
from synth.errors import InputError
from synth.judge.numbers.pictures import image_statistics
from synth.judge.numbers.rows import Unmeasurable
from synth.judge.numbers.texts import CaptionStatistics, caption_statistics, class_balance


def test_captions_are_counted_by_words_and_n_grams():
    captions = ["A cat on a mat.", "a cat, on a mat", "two dogs", "fish"]
    # words: 5 5 2 1; different: a cat on mat two dogs fish; pairs: 4 + 4 + 1, different 5; triples: 3 + 3, different 3
    assert caption_statistics(captions) == CaptionStatistics(4, 13 / 4, 1, 5, 1, (7 / 13, 5 / 9, 3 / 6))


def test_captions_without_blanks_between_words_are_read_by_character():
    assert tokens("一只猫。 A “Cat” 在 mat!") == ["一", "只", "猫", "a", "cat", "在", "mat"]
    assert caption_statistics(["猫猫猫"]).distinct == (1 / 3, 1 / 2, 1)


def test_captions_that_are_too_short_have_no_n_grams():
    assert caption_statistics(["cat", "dog"]).distinct == (1, None, None)
    assert caption_statistics(["", "cat"]).shortest == 0
    with pytest.raises(Unmeasurable, match="no captions"):
        caption_statistics([])


def test_the_balance_of_classes():
    even, one = class_balance(np.arange(12) % 4, 4), class_balance(np.zeros(12, int), 4)
    assert (even.smallest, even.largest, even.evenness) == (3, 3, pytest.approx(1))
    assert (one.smallest, one.largest, one.evenness) == (0, 12, pytest.approx(1 / 4))
    with pytest.raises(InputError, match=r"go from 0 to 4; there are classes 0\.\.3"):
        class_balance(np.arange(5), 4)


def test_blank_burnt_out_and_blurred_pictures_are_told():
    noise = np.random.default_rng(0).integers(30, 220, (32, 48, 3), np.uint8)
    found = image_statistics(noise)
    blurred = image_statistics(np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2))))
    assert not found.blank
    assert found.clipped == 0
    assert blurred.sharpness < found.sharpness / 50
    burnt = noise.copy()
    burnt[:8, :, 1] = 255
    assert image_statistics(burnt).clipped == 8 / 32
    white = image_statistics(np.full((4, 4, 3), 255, np.uint8))
    assert (white.blank, white.clipped, white.sharpness) == (True, 1, 0)


def test_sharpness_is_the_variance_of_the_laplacian():
    pixels = np.random.default_rng(1).integers(0, 256, (9, 7, 3), np.uint8)
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    h, w = grey.shape
    slow = [
        sum(grey[min(max(y + dy, 0), h - 1), min(max(x + dx, 0), w - 1)] for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))) - 4 * grey[y, x]
        for y in range(h)
        for x in range(w)
    ]
    assert image_statistics(pixels).sharpness == pytest.approx(np.var(slow))


def test_pixels_of_another_kind_are_refused():
    with pytest.raises(InputError, match=r"\[H, W, 3\] uint8, not \[4, 4\]"):
        image_statistics(np.zeros((4, 4), np.uint8))
