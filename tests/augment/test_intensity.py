"""Colour, sharpness, blur and noise against torchvision and Keras (golden values), and their draws."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fpclass.augment import boxes, intensity

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "augment.npz")
COLOURED = (1, 2)
ALL = range(4)

adjust_saturation = jax.jit(intensity.adjust_saturation)
adjust_hue = jax.jit(intensity.adjust_hue)
adjust_sharpness = jax.jit(intensity.adjust_sharpness)
blur_by = jax.jit(intensity.blur_by, static_argnums=2)


def golden_image(k):
    return jnp.asarray(GOLDEN[f"image_{k}"].astype(np.float32) / np.float32(255))


def draws(num, function):
    return np.asarray(jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(0), num)))


@pytest.mark.parametrize("k", COLOURED)
@pytest.mark.parametrize(("name", "factors"), [("saturation", "factors"), ("hue", "hues")])
def test_colours_equal_torchvision(k, name, factors):
    adjust = {"saturation": adjust_saturation, "hue": adjust_hue}[name]
    for factor, expected in zip(GOLDEN[factors].tolist(), GOLDEN[f"{name}_{k}"], strict=True):
        np.testing.assert_allclose(adjust(golden_image(k), factor), expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("k", ALL)
def test_sharpness_and_blur_equal_torchvision(k):
    for factor, expected in zip(GOLDEN["factors"].tolist(), GOLDEN[f"sharpness_{k}"], strict=True):
        np.testing.assert_allclose(adjust_sharpness(golden_image(k), factor), expected, rtol=0, atol=1e-6)
    for sigma, expected in zip(GOLDEN["sigmas"].tolist(), GOLDEN[f"blur_{k}"], strict=True):
        blurred = blur_by(golden_image(k), sigma, int(GOLDEN["blur_reach"]))
        np.testing.assert_allclose(blurred, expected, rtol=0, atol=1e-6)


def test_a_shift_of_brightness_equals_keras():
    shift = float(GOLDEN["keras_brightness_factor"])
    shifted = intensity.shift_intensity(golden_image(1), shift)
    np.testing.assert_allclose(shifted, GOLDEN["keras_brightness"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("adjust", [intensity.adjust_saturation, intensity.adjust_hue])
def test_colours_of_a_grey_image_are_refused(adjust):
    with pytest.raises(ValueError, match="needs an RGB image of 3 channels, got 1"):
        adjust(jnp.zeros((3, 3, 1)), 0.1)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_neutral_parameters_are_the_identity(seed):
    image = jnp.asarray(np.random.default_rng(seed).uniform(size=(6, 5, 3)).astype(np.float32))
    for same in (adjust_saturation(image, 1.0), adjust_hue(image, 0.0), adjust_hue(image, 1.0), blur_by(image, 0.0, 2)):
        np.testing.assert_allclose(same, image, rtol=0, atol=2e-6)
    np.testing.assert_allclose(adjust_sharpness(image, 1.0), image, rtol=0, atol=1e-6)


def test_a_third_of_a_turn_makes_red_green_and_keeps_greys():
    red = jnp.zeros((1, 2, 3)).at[0, 0, 0].set(0.8).at[0, 1].set(0.4)
    np.testing.assert_allclose(adjust_hue(red, 1 / 3)[0], [[0, 0.8, 0], [0.4, 0.4, 0.4]], atol=1e-6)


def test_small_images_have_no_inside_to_sharpen():
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 7, 1)))
    np.testing.assert_allclose(adjust_sharpness(image, 3.0), image, rtol=0, atol=1e-6)


# --- What is drawn ---------------------------------------------------------------------------------------------------


def test_shifts_are_uniform_for_all_channels_or_each():
    image = jnp.full((1, 1, 3), 0.5)
    one = draws(2000, lambda key: intensity.shift_brightness(key, image, limit=0.3)[0, 0] - 0.5)
    assert np.ptp(one, axis=1).max() < 1e-6
    each = draws(2000, lambda key: intensity.shift_channels(key, image, limit=0.3)[0, 0] - 0.5)
    for values in (one[:, 0], *each.T):
        assert stats.kstest(values, stats.uniform(-0.3, 0.6).cdf).pvalue > 1e-3
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert stats.spearmanr(each[:, i], each[:, j]).pvalue > 1e-3
    clamped = intensity.shift_intensity(jnp.array([[[0.1, 0.9, 0.5]]]), jnp.array([-0.3, 0.3, 0.0]))
    assert clamped[0, 0].tolist() == [0.0, 1.0, 0.5]


def test_saturations_and_hues_are_uniform_and_independent():
    image = jnp.array([[[0.6, 0.5, 0.5]]])

    def both(key):
        changed = intensity.change_colour(key, image, saturation=0.5, hue=0.0)[0, 0]
        turned = intensity.change_colour(key, image, saturation=0.0, hue=0.1)[0, 0]
        return jnp.array([changed[0] - changed[1], (turned[1] - turned[2]) / 6]) / 0.1

    saturation, hue = draws(2000, both).T
    assert stats.kstest(saturation, stats.uniform(0.5, 1.0).cdf).pvalue > 1e-3
    assert stats.kstest(hue, stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3
    assert stats.spearmanr(saturation, hue).pvalue > 1e-3


def test_sharpness_and_blur_are_drawn_over_their_whole_range():
    spot = jnp.zeros((9, 9, 1)).at[4, 4].set(0.5)
    # At the spot, sharpness f leaves f + (1 - f) 5 / 13 of it.
    factors = draws(1000, lambda key: (intensity.sharpen(key, spot, sharpness=0.8)[4, 4, 0] / 0.5 - 5 / 13) * 13 / 8)
    assert stats.kstest(factors, stats.uniform(0.2, 1.6).cdf).pvalue > 1e-3

    def peak(sigma):
        return float(blur_by(spot, sigma, 5)[4, 4, 0])

    peaks = draws(1000, lambda key: intensity.blur(key, spot, max_sigma_px=1.5)[4, 4, 0])
    shares = [np.mean(peaks > peak(sigma)) for sigma in (0.5, 1.0, 1.4)]
    np.testing.assert_allclose(shares, [1 / 3, 2 / 3, 1.4 / 1.5], atol=0.06)
    spot = jnp.zeros((15, 15, 1)).at[7, 7].set(0.5)
    total = draws(50, lambda key: intensity.blur(key, spot, max_sigma_px=1.2).sum())
    np.testing.assert_allclose(total, 0.5, rtol=1e-5)


def test_noise_is_normal_and_every_pixels_own():
    image = jnp.full((20, 30, 2), 0.3)
    noise = draws(50, lambda key: intensity.add_noise(key, image, std=jnp.array([0.1, 0.2])) - image)
    for channel, std in ((0, 0.1), (1, 0.2)):
        assert stats.kstest(noise[..., channel].ravel()[::3], stats.norm(0, std).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(noise[:, 3, 4, 0], noise[:, 3, 5, 0])[0, 1]) < 0.5
    assert np.unique(noise).size > 0.9 * noise.size


def test_cutouts_are_squares_anywhere_and_cut_at_the_border():
    image = jnp.zeros((12, 9, 1))
    is_cut = draws(3000, lambda key: boxes.cutout(key, image, side_px=4, value=1.0)[..., 0]) == 1
    rows, columns = is_cut.any(axis=2).sum(axis=1), is_cut.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(is_cut.sum(axis=(1, 2)), rows * columns)
    inside = is_cut[:, 4:8, 4:5].mean(axis=0)
    np.testing.assert_allclose(inside, 16 / 108, atol=0.03)  # centres within the square of 4 x 4 around a pixel
    assert set(rows) == {2, 3, 4}
    tops = is_cut.any(axis=2).argmax(axis=1)
    assert stats.chisquare(np.bincount(tops, minlength=11)[1:10]).pvalue > 1e-3
