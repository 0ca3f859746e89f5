"""Corruptions: stronger is farther from the image, and an image is spoilt in the same way whenever it is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_prints import draw_prints

from fpclass.data.altered.corruptions import CORRUPTIONS, NUM_STRENGTHS, corrupt


def picture(channels):
    (image,) = draw_prints("size", 1)[0]
    return np.repeat(image, channels, axis=-1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_strength_is_farther_from_the_image(name, channels):
    image = picture(channels)
    copies = [corrupt(image, name, strength, "a.png") for strength in range(1, NUM_STRENGTHS + 1)]
    away = [np.abs(copy.astype(float) - image).mean() for copy in copies]
    assert all(copy.shape == image.shape and copy.dtype == np.uint8 for copy in copies)
    assert away[0] > 0
    assert away == sorted(away)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_copy_depends_on_file_and_seed_alone(name):
    image = picture(1)
    copies = [corrupt(image, name, 3, *which) for which in (("a", 0), ("a", 0), ("b", 0), ("a", 1), ("c", 0), ("d", 0))]
    np.testing.assert_array_equal(copies[0], copies[1])
    is_random = name in ("noise", "rotation", "occlusion")
    assert any((copy != copies[0]).any() for copy in copies[2:]) == is_random


def test_strengths_are_in_the_units_that_are_said():
    grey = np.full((100, 80, 1), 128, np.uint8)
    for percent, strength in zip(CORRUPTIONS["noise"].strengths[:2], (1, 2), strict=True):
        assert corrupt(grey, "noise", strength, "a").std() == pytest.approx(2.55 * percent, rel=0.05)
    white = np.full((100, 80, 1), 255, np.uint8)
    for percent, strength in zip(CORRUPTIONS["occlusion"].strengths, range(1, 6), strict=True):
        assert (corrupt(white, "occlusion", strength, "a") == 128).mean() == pytest.approx(percent / 100, abs=0.02)
    steps = np.tile(np.array([0, 200], np.uint8)[:, None], (20, 30))[..., None]
    assert np.ptp(corrupt(steps, "contrast", 2, "a").astype(int)) == 100
