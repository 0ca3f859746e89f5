"""Scale and elastic deformation against slow references in SciPy, and what must hold for any of them.

Rotation is compared with torchvision in test_augment.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from fpclass.augment import warp

scale_by = jax.jit(warp.scale_by)
displace = jax.jit(warp.displace, static_argnames="fill")
keys = st.integers(0, 2**32 - 1).map(jax.random.key)


def random_image(height=24, width=17, channels=3, seed=0):
    return np.random.default_rng(seed).normal(size=(height, width, channels)).astype(np.float32)


def draws(num, function):
    return np.asarray(jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(0), num)))


# --- Scale -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, 1.3, 2.0])
def test_enlarging_equals_scipy(factor):
    image = random_image()
    centre = (np.array(image.shape[:2]) - 1) / 2
    expected = np.stack(
        [
            ndimage.affine_transform(channel, np.eye(2) / factor, centre - centre / factor, order=1)
            for channel in np.moveaxis(image, -1, 0)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(scale_by(jnp.asarray(image), factor, 0.7), expected, rtol=0, atol=2e-5)


def test_shrinking_is_centred_filled_and_smoothed():
    """A slow reference: weights of a triangle as wide as the step between sources, made to add up to 1."""
    image, factor, fill = random_image(), 0.6, 0.7
    matrices = []
    for size in image.shape[:2]:
        source = (np.arange(size) - (size - 1) / 2) / factor + (size - 1) / 2
        weights = np.maximum(0, 1 - np.abs(source[:, None] - np.arange(size)) * factor)
        weights /= weights.sum(axis=1, keepdims=True).clip(1e-9)
        is_inside = (source >= -0.5) & (source <= size - 0.5)
        matrices.append(weights * is_inside[:, None])
    expected = np.einsum("hi,wj,ijc->hwc", *matrices, image - fill) + fill
    scaled = np.asarray(scale_by(jnp.asarray(image), factor, fill))
    np.testing.assert_allclose(scaled, expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(scaled[0], fill, atol=1e-6)
    assert not np.isclose(scaled[12, 8], fill, atol=1e-3).any()


def test_factors_are_log_uniform():
    height, width = 33, 5
    ramp = jnp.broadcast_to(jnp.arange(height, dtype=jnp.float32)[:, None, None] - height // 2, (height, width, 1))
    low, high = 0.5, 1.6

    def slope(key):
        scaled = warp.scale(key, ramp, factor_range=(low, high), fill=0.0)[:, width // 2, 0]
        return (scaled[height // 2 + 2] - scaled[height // 2 - 2]) / 4

    factors = 1 / draws(1000, slope)
    assert stats.kstest(np.log(factors), stats.uniform(np.log(low), np.log(high / low)).cdf).pvalue > 1e-3


# --- Elastic deformation ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 3.0, 30.0]))
def test_displacing_equals_scipy(seed, strength):
    image = random_image(seed=seed)
    shift = np.random.default_rng(seed).normal(0, strength, (2, *image.shape[:2])).astype(np.float32)
    where = np.indices(image.shape[:2]) + shift
    expected = np.stack(
        [
            ndimage.map_coordinates(channel, where, order=1, mode="grid-constant", cval=0.7)
            for channel in np.moveaxis(image, -1, 0)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(displace(jnp.asarray(image), jnp.asarray(shift), 0.7), expected, rtol=0, atol=3e-5)


def test_no_shift_is_the_identity():
    image = random_image()
    np.testing.assert_array_equal(displace(jnp.asarray(image), jnp.zeros((2, 24, 17)), 9.0), image)


def test_a_shift_of_whole_pixels_says_where_the_value_comes_from():
    image = random_image()
    shift = jnp.stack([jnp.full((24, 17), 2.0), jnp.full((24, 17), -1.0)])
    expected = np.full_like(image, 9.0)
    expected[:-2, 1:] = image[2:, :-1]
    np.testing.assert_array_equal(displace(jnp.asarray(image), shift, 9.0), expected)


def test_shifts_are_as_large_and_as_smooth_as_stated():
    """Moments of the field at every pixel and between pixels, on and off the grid of the noise."""
    alpha, sigma, num = 1.7, 5.0, 4000
    shifts = draws(num, lambda key: warp.draw_shift(key, (23, 18), alpha_px=alpha, sigma_px=sigma))
    assert shifts.shape == (num, 2, 23, 18)
    error = alpha**2 * np.sqrt(2 / num)  # standard error of a variance of normal values
    assert np.abs(shifts.mean(axis=0)).max() < 5 * alpha / np.sqrt(num)
    assert np.abs(shifts.var(axis=0) - alpha**2).max() < 5 * error
    for (y, x), (v, u) in [((0, 0), (3, 0)), ((2, 7), (9, 7)), ((11, 4), (11, 16)), ((5, 3), (9, 9))]:
        expected = alpha**2 * np.exp(-((y - v) ** 2 + (x - u) ** 2) / (4 * sigma**2))
        covariance = np.mean(shifts[:, :, y, x] * shifts[:, :, v, u], axis=0)
        np.testing.assert_allclose(covariance, expected, atol=5 * error)
    assert abs(np.mean(shifts[:, 0] * shifts[:, 1])) < error  # down and right know nothing of each other
    assert stats.kstest(shifts[:, 0, 7, 7], stats.norm(0, alpha).cdf).pvalue > 1e-3


def test_the_coarse_grid_of_the_noise_does_not_show():
    """The deviation from the correlation of noise on every pixel, computed without drawing anything."""
    matrix = warp._smoothing(60, 8.0).astype(np.float64)
    pixels = np.arange(60)
    expected = np.exp(-((pixels[:, None] - pixels) ** 2) / (4 * 8.0**2))
    np.testing.assert_allclose(matrix @ matrix.T, expected, atol=2e-3)
    assert matrix.shape[1] < 20


# --- All of them -----------------------------------------------------------------------------------------------------

OPERATIONS = {
    "rotate": lambda key, image: warp.rotate(key, image, max_angle_deg=30.0, fill=0.5),
    "scale": lambda key, image: warp.scale(key, image, factor_range=(0.7, 1.4), fill=0.5),
    "elastic": lambda key, image: warp.elastic(key, image, alpha_px=2.0, sigma_px=4.0, fill=0.5),
}
NEUTRAL = {
    "rotate": lambda key, image: warp.rotate(key, image, max_angle_deg=0.0, fill=0.5),
    "scale": lambda key, image: warp.scale(key, image, factor_range=(1.0, 1.0), fill=0.5),
    "elastic": lambda key, image: warp.elastic(key, image, alpha_px=0.0, sigma_px=4.0, fill=0.5),
}


@pytest.mark.parametrize("name", NEUTRAL)
@settings(deadline=None, max_examples=5)
@given(keys)
def test_no_strength_is_the_identity(name, key):
    image = random_image()
    np.testing.assert_allclose(NEUTRAL[name](key, jnp.asarray(image)), image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", OPERATIONS)
@settings(deadline=None, max_examples=5)
@given(keys)
def test_what_is_all_fill_stays_fill(name, key):
    image = jnp.full((9, 12, 1), 0.5)
    np.testing.assert_allclose(OPERATIONS[name](key, image), image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", [(24, 17, 3), (1, 5, 1), (6, 1, 1)])
def test_shape_type_determinism_and_vmap(name, shape):
    operation = jax.jit(OPERATIONS[name])
    image = jnp.asarray(random_image(*shape))
    image_keys = jax.random.split(jax.random.key(1), 4)
    one_by_one = np.stack([operation(key, image) for key in image_keys])
    assert one_by_one.shape == (4, *shape)
    assert one_by_one.dtype == np.float32
    np.testing.assert_array_equal(operation(image_keys[0], image), one_by_one[0])
    np.testing.assert_allclose(jax.vmap(operation, (0, None))(image_keys, image), one_by_one, rtol=0, atol=2e-5)
    if min(shape[:2]) > 1:
        assert all(np.abs(one_by_one[i] - one_by_one[j]).max() > 0.1 for i in range(4) for j in range(i))
