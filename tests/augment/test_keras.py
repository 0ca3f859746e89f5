"""Every operation that bears the name of a layer of Keras against that layer, with what the layer drew itself."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fpclass.augment import geometry, intensity, warp

pytestmark = pytest.mark.parity

FILL = 0.3
IMAGES = np.random.default_rng(0).uniform(size=(5, 27, 18, 3)).astype(np.float32)
SIZE = (27, 18)
HOW = [{"fill_mode": mode, "interpolation": way} for mode in geometry.FILL_MODES for way in geometry.INTERPOLATIONS]


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    return keras


def compare(layer, parameters_of, map_of, how):
    """The layer's images, and ours from the parameters that it drew."""
    drawn = layer.get_random_transformation(IMAGES, training=True)
    expected = np.asarray(layer.transform_images(IMAGES, drawn))
    warped = jax.jit(geometry.warp, static_argnames=("fill", "fill_mode", "interpolation"))
    for image, one, parameters in zip(IMAGES, expected, parameters_of(drawn), strict=True):
        ours = np.asarray(warped(jnp.asarray(image), map_of(*parameters), fill=FILL, **how))
        differs = np.abs(ours - one).max(-1) > 1e-4
        # Half-way between two pixels, to within the float32 of either, both neighbours are right.
        assert differs.mean() < (0.005 if how["interpolation"] == "nearest" else 1e-9)
    assert np.abs(expected - IMAGES).max() > 0.1


@pytest.mark.parametrize("how", HOW)
def test_rotation(keras, how):
    layer = keras.layers.RandomRotation(0.2, fill_value=FILL, seed=1, **how)
    compare(layer, lambda drawn: [(float(angle),) for angle in drawn["angle"]], geometry.rotation_map, how)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("factors", [(0.2,), (0.2, 0.3)])
def test_zoom(keras, how, factors):
    layer = keras.layers.RandomZoom(*factors, fill_value=FILL, seed=2, **how)

    def zooms(drawn):
        return np.concatenate([drawn["height_zoom"], drawn["width_zoom"]], axis=1).tolist()

    compare(layer, zooms, geometry.zoom_map, how)


@pytest.mark.parametrize("how", HOW)
def test_translation(keras, how):
    layer = keras.layers.RandomTranslation(0.2, 0.3, fill_value=FILL, seed=3, **how)

    def shares(drawn):
        right, down = np.asarray(drawn["translations"]).T
        return [(d / SIZE[0], r / SIZE[1]) for d, r in zip(down.tolist(), right.tolist(), strict=True)]

    compare(layer, shares, lambda down, right: geometry.translation_map(down, right, SIZE), how)


@pytest.mark.parametrize("how", HOW)
def test_shear(keras, how):
    layer = keras.layers.RandomShear(0.3, 0.2, fill_value=FILL, seed=4, **how)
    shears = lambda drawn: [(y, x) for x, y in np.asarray(drawn["shear_factor"]).tolist()]
    compare(layer, shears, lambda vertical, horizontal: geometry.shear_map(vertical, horizontal, SIZE), how)


def test_the_layers_draw_from_what_the_keys_mean(keras):
    """Largest and smallest of many draws, of theirs and of ours."""
    many = np.zeros((4000, 27, 18, 1), np.float32)
    keys = jax.random.split(jax.random.key(0), len(many))
    pairs = [
        (
            keras.layers.RandomRotation(0.2).get_random_transformation(many)["angle"],
            jax.vmap(lambda key: warp.draw_angle(key, 72.0))(keys),
        ),
        (
            keras.layers.RandomZoom(0.2).get_random_transformation(many)["height_zoom"][:, 0],
            jax.vmap(lambda key: geometry.draw_zoom(key, (0.2,))[0, 0])(keys),
        ),
        (
            -keras.layers.RandomTranslation(0.1, 0.3).get_random_transformation(many)["translations"][:, 0],
            jax.vmap(lambda key: geometry.draw_translation(key, (0.1, 0.3), (27, 18))[1, 2])(keys),
        ),
        (
            keras.layers.RandomShear(0.3, 0.1).get_random_transformation(many)["shear_factor"][:, 0],
            jax.vmap(lambda key: geometry.draw_shear(key, (0.1, 0.3), (27, 18))[1, 0])(keys),
        ),
        (
            keras.layers.RandomBrightness(0.2, value_range=(0, 1)).get_random_transformation(many)["rgb_delta"].ravel(),
            jax.vmap(lambda key: intensity.shift_brightness(key, jnp.full((1, 1, 1), 0.5), limit=0.2)[0, 0, 0] - 0.5)(
                keys
            ),
        ),
    ]
    for theirs, ours in pairs:
        assert stats.ks_2samp(np.asarray(theirs), np.asarray(ours)).pvalue > 1e-3


@pytest.mark.parametrize("mode", ["horizontal", "vertical"])
def test_flips(keras, mode):
    layer = keras.layers.RandomFlip(mode, seed=5)
    drawn = layer.get_random_transformation(IMAGES, training=True)
    flipped = np.asarray(layer.transform_images(IMAGES, drawn))
    flip = {"horizontal": warp.flip, "vertical": warp.vertical_flip}[mode]
    key = jax.random.key(0)
    assert 0 < np.asarray(drawn["flips"]).sum() < len(IMAGES)
    for image, expected, is_flipped in zip(IMAGES, flipped, np.asarray(drawn["flips"]).ravel(), strict=True):
        np.testing.assert_array_equal(flip(key, jnp.asarray(image), probability=float(is_flipped)), expected)


def test_perspective(keras):
    layer = keras.layers.RandomPerspective(1.0, scale=0.5, fill_value=FILL, seed=6)
    drawn = layer.get_random_transformation(IMAGES, training=True)
    start, end = drawn["start_points"], drawn["end_points"]
    expected = np.asarray(keras.ops.image.perspective_transform(IMAGES, start, end, fill_value=FILL))
    order = [0, 2, 3, 1]  # theirs: upper left, upper right, lower left, lower right, as (x, y)
    for image, one, corners in zip(IMAGES, expected, np.asarray(end)[:, order, ::-1], strict=True):
        source = geometry.perspective_map(jnp.asarray(corners), SIZE)
        ours = geometry.warp(jnp.asarray(image), source, fill=FILL, fill_mode="constant", interpolation="bilinear")
        np.testing.assert_allclose(ours, one, rtol=0, atol=2e-3)


def test_brightness_and_hue(keras):
    layer = keras.layers.RandomBrightness(0.3, value_range=(0, 1), seed=7)
    drawn = layer.get_random_transformation(IMAGES, training=True)
    for image, expected, shift in zip(
        IMAGES, layer.transform_images(IMAGES, drawn), np.asarray(drawn["rgb_delta"]).ravel(), strict=True
    ):
        np.testing.assert_allclose(intensity.shift_intensity(image, shift), expected, rtol=0, atol=1e-6)
    layer = keras.layers.RandomHue(0.4, value_range=(0, 1), seed=8)
    drawn = layer.get_random_transformation(IMAGES, training=True)
    assert np.abs(drawn["factor"]).max() <= 0.2
    expected = layer.transform_images(IMAGES, drawn)
    for image, one, turn in zip(IMAGES, expected, np.asarray(drawn["factor"]), strict=True):
        np.testing.assert_allclose(intensity.adjust_hue(jnp.asarray(image), turn), one, rtol=0, atol=3e-6)


@pytest.mark.parametrize("between", [(24, 20), (31, 15)])
def test_height_and_width_are_two_resizings(keras, between):
    middle = keras.ops.image.resize(IMAGES, between, interpolation="bilinear")
    expected = keras.ops.image.resize(middle, SIZE, interpolation="bilinear")
    ours = jax.vmap(lambda image: geometry.resize_and_back(image, *between))(IMAGES)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5)
