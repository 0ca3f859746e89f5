"""Maps and look-ups against SciPy, Keras (golden values) and slow references; and what must hold for any of them."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from fpclass.augment import geometry, warp

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "augment.npz")
SCIPY_MODES = {"constant": "grid-constant", "reflect": "reflect", "nearest": "nearest", "wrap": "grid-wrap"}
WAYS = [(mode, interpolation) for mode in geometry.FILL_MODES for interpolation in geometry.INTERPOLATIONS]

warp_once = jax.jit(geometry.warp, static_argnames=("fill", "fill_mode", "interpolation"))
sample = jax.jit(geometry.sample, static_argnames=("fill", "fill_mode", "interpolation"))
resize_and_back = jax.jit(geometry.resize_and_back)


def random_image(height=24, width=17, channels=3, seed=0):
    return np.random.default_rng(seed).uniform(size=(height, width, channels)).astype(np.float32)


def draws(num, function):
    return np.asarray(jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(0), num)))


# --- The look-up -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fill_mode", "interpolation"), WAYS)
@pytest.mark.parametrize("shape", [(24, 17, 3), (1, 5, 1)])
def test_sampling_equals_scipy(shape, fill_mode, interpolation):
    """At places inside and far outside, several image sizes away."""
    image, rng = random_image(*shape), np.random.default_rng(1)
    where = rng.uniform(-3, 4, (2, 30, 20)).astype(np.float32) * np.array(shape[:2], np.float32)[:, None, None]
    mode, order = SCIPY_MODES[fill_mode], int(interpolation == "bilinear")
    expected = np.stack(
        [ndimage.map_coordinates(one, where, order=order, mode=mode, cval=0.7) for one in np.moveaxis(image, -1, 0)],
        axis=-1,
    )
    found = sample(jnp.asarray(image), *jnp.asarray(where), fill=0.7, fill_mode=fill_mode, interpolation=interpolation)
    tie = (np.abs(where % 1 - 0.5) < 1e-3).any(0) if order == 0 else np.zeros(where.shape[1:], bool)
    assert tie.mean() < 0.01
    np.testing.assert_allclose(np.asarray(found)[~tie], expected[~tie], rtol=0, atol=3e-5)


def test_halves_are_rounded_away_from_zero():
    image = jnp.arange(6.0).reshape(6, 1, 1)
    row = jnp.array([0.5, 1.5, 2.5, 3.5, -0.5, 5.5])[:, None]
    found = sample(image, row, jnp.zeros((6, 1)), fill=9.0, fill_mode="constant", interpolation="nearest")
    assert found[:, 0, 0].tolist() == [1.0, 2.0, 3.0, 4.0, 9.0, 9.0]


# --- The maps --------------------------------------------------------------------------------------------------------


def keras_map(name, size):
    shear_x, shear_y = GOLDEN["keras_shear"].tolist()
    return {
        "rotation": geometry.rotation_map(0.07 * 360),
        "zoom": geometry.zoom_map(1.21, 1.21),
        "zoom_each": geometry.zoom_map(1.21, 0.87),
        "translation": geometry.translation_map(0.17, -0.22, size),
        "shear": geometry.shear_map(shear_y, shear_x, size),
    }[name]


@pytest.mark.parametrize("name", ["rotation", "zoom", "zoom_each", "translation", "shear"])
@pytest.mark.parametrize(("fill_mode", "interpolation"), WAYS)
def test_warping_equals_the_layers_of_keras(name, fill_mode, interpolation):
    image = GOLDEN["image_1"].astype(np.float32) / 255
    fill = float(GOLDEN["fill"])
    source = keras_map(name, image.shape[:2])
    warped = warp_once(jnp.asarray(image), source, fill=fill, fill_mode=fill_mode, interpolation=interpolation)
    expected = GOLDEN[f"keras_{name}_{fill_mode}_{interpolation}"]
    np.testing.assert_allclose(warped, expected, rtol=0, atol=2e-5)
    assert np.abs(expected - image).max() > 0.1


def test_rotating_by_nearest_neighbour_equals_the_rotation_alone():
    image = random_image(21, 21)
    for angle in (-33.3, 7.0, 90.0, 180.0):
        source = geometry.rotation_map(angle)
        once = warp_once(jnp.asarray(image), source, fill=0.3, fill_mode="constant", interpolation="nearest")
        alone = jax.jit(warp.rotate_by, static_argnames="fill")(jnp.asarray(image), angle, fill=0.3)
        assert (np.asarray(once) == np.asarray(alone)).mean() > 0.99


def test_what_stands_first_happens_first():
    image = random_image(8, 8)
    maps = geometry.rotation_map(90.0), geometry.translation_map(0.25, 0.0, (8, 8))
    how = {"fill": 0.0, "fill_mode": "wrap", "interpolation": "nearest"}
    turned_then_shifted = np.roll(np.rot90(image), 2, axis=0)
    shifted_then_turned = np.rot90(np.roll(image, 2, axis=0))
    np.testing.assert_array_equal(warp_once(jnp.asarray(image), geometry.compose(*maps), **how), turned_then_shifted)
    swapped = geometry.compose(*maps[::-1])
    np.testing.assert_array_equal(warp_once(jnp.asarray(image), swapped, **how), shifted_then_turned)


def test_the_elastic_shift_is_looked_up_last():
    """What a pixel shows is the deformed one of the image that the map makes."""
    image, shift = jnp.asarray(random_image(9, 9)), jnp.ones((2, 9, 9)) * jnp.array([1.0, 0.0])[:, None, None]
    how = {"fill": 0.0, "fill_mode": "wrap", "interpolation": "bilinear"}
    once = warp_once(image, geometry.rotation_map(90.0), shift_px=shift, **how)
    np.testing.assert_allclose(once, np.roll(np.rot90(image), -1, axis=0), atol=1e-4)


CORNERS = [
    [[0, 0], [23, 0], [23, 16], [0, 16]],
    [[2, 1], [20, 3.5], [22, 14], [1, 16]],
    [[0, 0], [23, 4], [16, 16], [5, 9]],
]


@pytest.mark.parametrize("corners", CORNERS)
def test_perspective_equals_eight_equations(corners):
    """The homography from the wanted corners to those of the image, by a linear solver."""
    size = np.array([24, 17])
    corners = np.array(corners, float)
    targets = np.array([[0, 0], [23, 0], [23, 16], [0, 16]])
    lines, values = [], []
    for (row, column), (to_row, to_column) in zip(corners, targets, strict=True):
        lines.append([row, column, 1, 0, 0, 0, -row * to_row, -column * to_row])
        lines.append([0, 0, 0, row, column, 1, -row * to_column, -column * to_column])
        values += [to_row, to_column]
    expected = np.append(np.linalg.solve(lines, values), 1).reshape(3, 3)
    centring = np.eye(3)
    centring[:2, 2] = (size - 1) / 2
    found = centring @ np.asarray(geometry.perspective_map(jnp.asarray(corners), tuple(size))) @ np.linalg.inv(centring)
    np.testing.assert_allclose(found / found[2, 2], expected, rtol=1e-3, atol=1e-4)


def test_a_perspective_pulls_the_corners_to_their_places():
    """Four bright corner pixels, drawn large: each is found again where it was sent."""
    height, width = size = (41, 31)
    corners = np.array([[5, 4], [30, 2], [38, 27], [3, 22]])
    for k, (row, column) in enumerate([(0, 0), (height - 1, 0), (height - 1, width - 1), (0, width - 1)]):
        image = np.zeros((*size, 1), np.float32)
        image[row, column] = 1
        source = geometry.perspective_map(jnp.asarray(corners), size)
        warped = warp_once(jnp.asarray(image), source, fill=0.0, fill_mode="constant", interpolation="bilinear")
        assert float(warped[*corners[k], 0]) == pytest.approx(1, abs=0.01)
        others = np.delete(corners, k, axis=0)
        assert np.asarray(warped)[others[:, 0], others[:, 1]].max() < 0.01


def test_strong_perspectives_stay_finite_and_inside():
    image = jnp.asarray(random_image())

    def one(key):
        source = geometry.draw_perspective(key, 0.9, (24, 17))
        return geometry.warp(image, source, fill=5.0, fill_mode="constant", interpolation="bilinear")

    warped = draws(300, one)
    assert np.isfinite(warped).all()
    assert (warped >= 0).all()
    assert (warped <= 5.0001).all()


# --- What is drawn ---------------------------------------------------------------------------------------------------


def uniform_p(values, limit):
    return stats.kstest(values, stats.uniform(-limit, 2 * limit).cdf).pvalue


def test_translations_are_uniform_shares_of_the_size():
    maps = draws(2000, lambda key: geometry.draw_translation(key, (0.1, 0.3), (50, 20)))
    assert uniform_p(maps[:, 0, 2], 5) > 1e-3
    assert uniform_p(maps[:, 1, 2], 6) > 1e-3
    assert stats.spearmanr(maps[:, 0, 2], maps[:, 1, 2]).pvalue > 1e-3


def test_shears_are_uniform_and_independent():
    maps = draws(2000, lambda key: geometry.draw_shear(key, (0.1, 0.4), (50, 20)))
    assert uniform_p(maps[:, 0, 1], 0.1) > 1e-3
    assert uniform_p(maps[:, 1, 0], 0.4) > 1e-3
    assert stats.spearmanr(maps[:, 0, 1], maps[:, 1, 0]).pvalue > 1e-3


def test_zooms_are_uniform_alike_or_independent():
    both = draws(2000, lambda key: geometry.draw_zoom(key, (0.2,)))
    np.testing.assert_array_equal(both[:, 0, 0], both[:, 1, 1])
    assert uniform_p(both[:, 0, 0] - 1, 0.2) > 1e-3
    each = draws(2000, lambda key: geometry.draw_zoom(key, (0.2, 0.4)))
    assert uniform_p(each[:, 0, 0] - 1, 0.2) > 1e-3
    assert uniform_p(each[:, 1, 1] - 1, 0.4) > 1e-3
    assert stats.spearmanr(each[:, 0, 0], each[:, 1, 1]).pvalue > 1e-3


def test_corners_go_inwards_as_far_as_stated():
    """The image's centre of every drawn quadrilateral's corners: rebuilt from the map by its inverse."""
    height, width, distortion = 31, 21, 0.6
    corners = np.array([[-15, -10, 1], [15, -10, 1], [15, 10, 1], [-15, 10, 1]])
    maps = draws(500, lambda key: geometry.draw_perspective(key, distortion, (height, width))).astype(float)
    found = np.einsum("nij,kj->nki", np.linalg.inv(maps), corners)
    found = found[..., :2] / found[..., 2:]
    inwards = (np.array([15, 10]) - np.abs(found)) / (np.array([30, 20]) * distortion / 2)
    assert np.sign(found).reshape(500, -1).std(0).max() == 0  # nobody crosses the middle
    for column in inwards.reshape(500, 8).T:
        assert stats.kstest(column, stats.uniform(-1e-4, 1.0002).cdf).pvalue > 1e-4


# --- There and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("between", [(24, 17), (19, 20), (28, 9), (1, 34), (47, 2)])
def test_resizing_and_back_equals_two_resizings(between):
    image = jnp.asarray(random_image())
    middle = jax.image.resize(image, (*between, 3), "linear", antialias=False)
    expected = jax.image.resize(middle, image.shape, "linear", antialias=False)
    np.testing.assert_allclose(resize_and_back(image, *between), expected, rtol=0, atol=2e-5)


def test_height_and_width_are_drawn_independently_and_cut_off_to_whole_pixels():
    image = jnp.asarray(random_image(10, 8, 1))
    found = draws(400, lambda key: geometry.change_height_width(key, image, factor=(0.3, 0.5)))
    heights, widths = range(7, 13), range(4, 12)  # int(10 * 0.7) … int(10 * 1.3), without the end
    expected = np.stack([np.stack([resize_and_back(image, h, w) for w in widths]) for h in heights])
    distance = np.abs(found[:, None, None] - expected).max(axis=(-3, -2, -1))
    assert distance.min(axis=(1, 2)).max() < 1e-4
    which = np.array([np.unravel_index(one.argmin(), one.shape) for one in distance])
    assert np.bincount(which[:, 0], minlength=6).min() > 30
    assert np.bincount(which[:, 1], minlength=8).min() > 20
    assert stats.spearmanr(*which.T).pvalue > 1e-3


def test_nothing_to_change_is_the_identity():
    image = jnp.asarray(random_image())
    for fill_mode, interpolation in WAYS:
        same = warp_once(image, geometry.compose(), fill=9.0, fill_mode=fill_mode, interpolation=interpolation)
        np.testing.assert_array_equal(same, image)
    np.testing.assert_allclose(resize_and_back(image, 24, 17), image, rtol=0, atol=1e-6)
