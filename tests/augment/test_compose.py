from functools import partial
from pathlib import Path

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from configs import base
from fpclass.augment import boxes, compose, intensity, warp
from fpclass.augment.settings import check_augment
from fpclass.errors import ConfigError

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "augment.npz")
IMAGES = range(4)
DEFAULT_BOX = {"area": (0.02, 0.33), "aspect": (0.3, 3.3)}

# Jitted, so that a shape costs one compilation, not one per primitive.
adjust_brightness = jax.jit(intensity.adjust_brightness)
adjust_contrast = jax.jit(intensity.adjust_contrast)
rotate_by = jax.jit(warp.rotate_by, static_argnames="fill")
erase_box = jax.jit(boxes.erase_box)
flip = jax.jit(warp.flip)
erase = jax.jit(boxes.erase, static_argnames=("area", "aspect"))
jitter = jax.jit(intensity.jitter, static_argnames=("brightness", "contrast"))

images = hnp.arrays(
    np.float32,
    st.sampled_from([(1, 1, 1), (9, 4, 1), (5, 8, 3)]),  # few, for every new shape is compiled
    elements=st.floats(0, 1, width=32, allow_subnormal=False),  # XLA flushes those to 0
)
keys = st.integers(0, 2**32 - 1).map(jax.random.key)


def golden_image(k):
    # Divided by NumPy: XLA multiplies by 1 / 255, which differs in the last digit.
    return jnp.asarray(GOLDEN[f"image_{k}"].astype(np.float32) / np.float32(255))


def augment_config(**changes):
    config = base.get_config().augment
    with config.unlocked():
        config.update(changes)
    return config


def switched_off(**changes):
    off = {"flip_probability": 0.0, "brightness": 0.0, "contrast": 0.0}
    return augment_config(**{**off, **changes})


def all_on():
    return augment_config(
        max_rotation_deg=10.0, scale=(0.8, 1.2), elastic_alpha_px=1.5, elastic_sigma_px=4.0, erasing_probability=0.7
    )


def split_keys(num, seed=0):
    return jax.random.split(jax.random.key(seed), num)


def random_images(num, height=24, width=16, channels=1):
    shape = (num, height, width, channels)
    return jnp.asarray(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))


# --- In value: torchvision's functions -------------------------------------------------------------------------------


@pytest.mark.parametrize("k", IMAGES)
@pytest.mark.parametrize("name", ["brightness", "contrast"])
def test_adjusting_equals_torchvision(k, name):
    adjust = {"brightness": adjust_brightness, "contrast": adjust_contrast}[name]
    for factor, expected in zip(GOLDEN["factors"], GOLDEN[f"{name}_{k}"], strict=True):
        np.testing.assert_allclose(adjust(golden_image(k), float(factor)), expected, rtol=0, atol=3e-7)


@pytest.mark.parametrize("k", IMAGES)
def test_both_orders_equal_torchvision(k):
    brightness, contrast = GOLDEN["both"].tolist()
    image = golden_image(k)
    brightness_first = adjust_contrast(adjust_brightness(image, brightness), contrast)
    contrast_first = adjust_brightness(adjust_contrast(image, contrast), brightness)
    np.testing.assert_allclose([brightness_first, contrast_first], GOLDEN[f"both_{k}"], rtol=0, atol=3e-7)
    assert not np.allclose(brightness_first, contrast_first, atol=1e-3)


@pytest.mark.parametrize("k", IMAGES)
def test_normalise_equals_torchvision(k):
    channels = GOLDEN[f"image_{k}"].shape[-1]
    mean, std = (tuple(GOLDEN[name][:channels].tolist()) for name in ("mean", "std"))
    normalised = intensity.normalise(jnp.asarray(GOLDEN[f"image_{k}"]), mean, std)
    assert normalised.dtype == jnp.float32
    np.testing.assert_allclose(normalised, GOLDEN[f"normalised_{k}"], rtol=1e-6, atol=5e-7)
    np.testing.assert_allclose(intensity.normalise(golden_image(k), mean, std), normalised, rtol=1e-6, atol=5e-7)


@pytest.mark.parametrize("k", IMAGES)
def test_rotated_images_equal_torchvision(k):
    fill = float(GOLDEN["fill"])
    height, width, _ = GOLDEN[f"image_{k}"].shape
    for angle, expected in zip(GOLDEN["angles_deg"].tolist(), GOLDEN[f"rotated_{k}"], strict=True):
        rotated = np.asarray(rotate_by(golden_image(k), angle, fill))
        clear = ~near_tie(height, width, angle)
        np.testing.assert_array_equal(rotated[clear], expected[clear])
        assert set(rotated.ravel().tolist()) <= {*np.asarray(golden_image(k)).ravel().tolist(), fill}


@pytest.mark.parametrize(("height", "width"), [(120, 80), (31, 47), (33, 33), (1, 5)])
def test_rotation_copies_from_the_pixels_torchvision_copies_from(height, width):
    positions = jnp.arange(height * width, dtype=jnp.float32).reshape(height, width, 1)
    for angle, expected in zip(GOLDEN["angles_deg"].tolist(), GOLDEN[f"sources_{height}x{width}"], strict=True):
        source = np.asarray(rotate_by(positions, angle, -1.0))[..., 0]
        tie = near_tie(height, width, angle)
        np.testing.assert_array_equal(source[~tie], expected[~tie])
        if angle % 90:
            assert tie.mean() < 0.002


def near_tie(height, width, angle_deg):
    """Pixels whose source lies half-way between two pixels, to within the float32 of either library."""
    angle = np.deg2rad(angle_deg)
    y, x = np.mgrid[:height, :width] - (np.array([height, width]).reshape(2, 1, 1) - 1) / 2
    row = np.sin(angle) * x + np.cos(angle) * y + (height - 1) / 2
    column = np.cos(angle) * x - np.sin(angle) * y + (width - 1) / 2
    return (np.abs(row % 1 - 0.5) < 3e-5) | (np.abs(column % 1 - 0.5) < 3e-5)


def test_erased_boxes_equal_torchvision():
    value = float(GOLDEN["erased_value"])
    for box, expected in zip(GOLDEN["boxes"].tolist(), GOLDEN["erased"], strict=True):
        np.testing.assert_array_equal(erase_box(golden_image(1), *box, value), expected)


def test_grey_weights_of_contrast():
    image = jnp.zeros((3, 5, 3)).at[..., 0].set(0.9).at[..., 1].set(0.4).at[..., 2].set(0.2)
    grey = 0.2989 * 0.9 + 0.587 * 0.4 + 0.114 * 0.2
    np.testing.assert_allclose(adjust_contrast(image, 0.0), grey, rtol=1e-6)


def test_contrast_keeps_its_digits_on_a_large_image():
    image = np.random.default_rng(0).uniform(0, 1, (1024, 768, 1)).astype(np.float32)
    grey = adjust_contrast(jnp.asarray(image), 0.0)[0, 0, 0]
    assert abs(float(grey) - image.mean(dtype=np.float64)) < 1e-6


def test_contrast_refuses_other_channel_counts():
    with pytest.raises(ValueError, match="1 or 3 channels, got 4"):
        adjust_contrast(jnp.zeros((2, 2, 4)), 1.1)


# --- In distribution: torchvision's transforms -----------------------------------------------------------------------


@pytest.mark.parametrize("probability", [0.5, 0.1])
def test_flip_happens_with_its_probability(probability):
    image = jnp.asarray([[[0.0], [1.0]]])
    flipped = jax.vmap(lambda key: flip(key, image, probability=probability)[0, 0, 0])(split_keys(4000))
    assert stats.binomtest(int(flipped.sum()), 4000, probability).pvalue > 1e-3


def factors_of(brightness, contrast, num=4000):
    """The factors that `jitter` draws, seen on images that neither factor can drive out of [0, 1]."""
    grey, steps = jnp.full((1, 2, 1), 0.25), jnp.asarray([[[0.45], [0.55]]])

    @jax.jit
    @jax.vmap
    def observe(key):
        only_brightness = intensity.jitter(key, grey, brightness=brightness, contrast=0.0)
        only_contrast = intensity.jitter(key, steps, brightness=0.0, contrast=contrast)
        return only_brightness[0, 0, 0] / 0.25, (only_contrast[0, 1, 0] - only_contrast[0, 0, 0]) / 0.1

    return observe(split_keys(num))


@pytest.mark.parametrize(("strength", "low", "high"), [(0.2, 0.8, 1.2), (1.5, 0.0, 2.5)])
def test_jitter_factors_are_uniform_and_independent(strength, low, high):
    brightness, contrast = factors_of(strength, strength)
    for factors in (brightness, contrast):
        assert stats.kstest(factors, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert stats.spearmanr(brightness, contrast).pvalue > 1e-3


def test_jitter_applies_those_factors_in_either_order_equally_often():
    image = golden_image(2)
    num = 1000
    brightness, contrast = factors_of(0.9, 0.9, num)
    jittered = jax.vmap(lambda key: jitter(key, image, brightness=0.9, contrast=0.9))(split_keys(num))

    def in_order(first, second, *factors):
        return jax.jit(jax.vmap(lambda a, b: second(first(image, a), b)))(*factors)

    orders = (
        in_order(adjust_brightness, adjust_contrast, brightness, contrast),
        in_order(adjust_contrast, adjust_brightness, contrast, brightness),
    )
    matches = np.stack([np.abs(order - jittered).max(axis=(1, 2, 3)) < 1e-5 for order in orders])
    assert matches.any(axis=0).all()
    told_apart = matches.sum(axis=0) == 1
    assert told_apart.mean() > 0.5  # where nothing is clamped, the order does not matter
    assert stats.binomtest(int(matches[0, told_apart].sum()), int(told_apart.sum()), 0.5).pvalue > 1e-3
    # The order must not hang on the factors either.
    assert stats.spearmanr(matches[0, told_apart], brightness[told_apart]).pvalue > 1e-3


def test_rotation_angles_are_uniform():
    height, width, num = 401, 151, 1000
    columns = jnp.broadcast_to(jnp.arange(width, dtype=jnp.float32)[:, None], (height, width, 1))

    @jax.jit
    @jax.vmap
    def top_column(key):
        return warp.rotate(key, columns, max_angle_deg=10.0, fill=-1.0)[20, width // 2, 0]

    # The pixel 180 above the centre comes from the column 180 sin(angle) right of it.
    shift = np.asarray(top_column(split_keys(num))) - width // 2
    edges = np.arange(-31.5, 32)
    share = np.diff(np.rad2deg(np.arcsin(edges / 180)).clip(-10, 10)) / 20
    counts = np.histogram(shift, edges)[0]
    assert counts.sum() == num
    # Adjacent columns together: about 50 angles in each cell.
    expected = num * share
    cells = np.minimum(np.cumsum(expected) // 50, 18).astype(int)
    observed, expected = (np.bincount(cells, weights=values) for values in (counts, expected))
    assert stats.chisquare(observed, expected * num / expected.sum()).pvalue > 1e-3


@pytest.mark.parametrize("setting", IMAGES)
def test_boxes_are_distributed_like_torchvisions(setting):
    size, area, aspect = GOLDEN[f"erasing_{setting}_setting"].tolist()
    height, width = int(size[0]), int(size[1])

    @jax.jit
    @jax.vmap
    def draw(key):
        return boxes.draw_box(key, (height, width), probability=1.0, area=area, aspect=aspect)

    drawn = np.stack(draw(split_keys(100_000)))
    drawn[:, (drawn[2] == 0)] = np.array([[0], [0], [height], [width]])  # how torchvision says "none fitted"
    top, left, box_height, box_width = drawn
    pairs = {"sizes": (box_height, box_width), "tops": (top, box_height), "lefts": (left, box_width)}
    for name, pair in pairs.items():
        expected = GOLDEN[f"erasing_{setting}_{name}"]
        observed = np.zeros_like(expected)
        np.add.at(observed, pair, 1)
        assert same_distribution(observed.ravel(), expected.ravel()) > 1e-3, name
    vertical, horizontal = (top + 0.5) / (height - box_height + 1), (left + 0.5) / (width - box_width + 1)
    assert stats.spearmanr(vertical, horizontal).pvalue > 1e-3


def same_distribution(a, b):
    """p-value of the two-sample chi-square test of two vectors of counts; rare cells count as one."""
    rare = a + b < 20
    table = np.stack([np.append(counts[~rare], counts[rare].sum()) for counts in (a, b)])
    return stats.chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue


def test_erasing_happens_with_its_probability():
    image = jnp.zeros((12, 8, 1))

    @jax.jit
    @jax.vmap
    def erased(key):
        return boxes.erase(key, image, probability=0.4, value=1.0, **DEFAULT_BOX).max()

    assert stats.binomtest(int(erased(split_keys(4000)).sum()), 4000, 0.4).pvalue > 1e-3


# --- Properties ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(images, keys)
def test_flipping_twice_is_the_identity(image, key):
    flipped = flip(key, jnp.asarray(image), probability=1.0)
    np.testing.assert_array_equal(flipped, np.flip(image, axis=1))
    np.testing.assert_array_equal(flip(key, flipped, probability=1.0), image)


@settings(deadline=None, max_examples=20)
@given(images, keys)
def test_probability_zero_is_the_identity(image, key):
    given_image = jnp.asarray(image)
    np.testing.assert_array_equal(flip(key, given_image, probability=0.0), image)
    erased = erase(key, given_image, probability=0.0, value=9.0, **DEFAULT_BOX)
    np.testing.assert_array_equal(erased, image)


@settings(deadline=None, max_examples=20)
@given(images)
def test_neutral_parameters_are_the_identity(image):
    given_image = jnp.asarray(image)
    np.testing.assert_array_equal(adjust_brightness(given_image, 1.0), image)
    np.testing.assert_array_equal(adjust_contrast(given_image, 1.0), image)
    np.testing.assert_array_equal(rotate_by(given_image, 0.0, 9.0), image)
    np.testing.assert_array_equal(erase_box(given_image, 0, 0, 0, 5, 9.0), image)


@settings(deadline=None, max_examples=20)
@given(images, keys, st.sampled_from([0.2, 3.0]))
def test_jitter_stays_in_range(image, key, strength):
    jittered = jitter(key, jnp.asarray(image), brightness=strength, contrast=strength)
    assert jittered.dtype == jnp.float32
    assert 0 <= float(jittered.min()) <= float(jittered.max()) <= 1


@settings(deadline=None, max_examples=20)
@given(images)
def test_half_a_turn_is_two_mirrors(image):
    np.testing.assert_array_equal(rotate_by(jnp.asarray(image), 180.0, 9.0), image[::-1, ::-1])


def test_a_quarter_turn_goes_counter_clockwise():
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(7, 7, 3)).astype(np.float32))
    np.testing.assert_array_equal(rotate_by(image, 90.0, 9.0), np.rot90(image))


# --- The composition -------------------------------------------------------------------------------------------------


def test_everything_off_is_normalise():
    image = random_images(1)[0]
    augmented = compose.make_augment(switched_off(), mean=0.5, std=0.5)(jax.random.key(0), image)
    np.testing.assert_array_equal(augmented, intensity.normalise(image, 0.5, 0.5))
    assert float(augmented.min()) >= -1
    assert float(augmented.max()) <= 1


def test_what_is_off_is_not_traced():
    def operations(config):
        function = compose.make_augment(config, mean=0.5, std=0.5)
        return str(jax.make_jaxpr(function)(jax.random.key(0), jnp.zeros((8, 8, 1))))

    assert "random" not in operations(switched_off())
    assert "gather" not in operations(augment_config())
    assert "gather" in operations(switched_off(max_rotation_deg=5.0))
    assert "dot_general" not in operations(augment_config())
    assert "dot_general" in operations(switched_off(scale=(0.9, 1.0)))
    assert "gather" in operations(switched_off(elastic_alpha_px=1.0))


def test_operations_run_in_the_stated_order():
    """Corners and boxes carry their values in normalised terms, and a box covers corners."""
    changes = {"max_rotation_deg": 45.0, "fill_value": 5.0, "erasing_probability": 1.0, "erased_value": 7.0}
    image = random_images(1)[0]
    function = compose.make_augment(augment_config(**changes), mean=0.5, std=0.25)
    augmented = jax.jit(jax.vmap(function, (0, None)))(split_keys(64), image)
    assert {5.0, 7.0} <= set(np.unique(augmented).tolist())
    assert np.unique(augmented[augmented > 2.0]).tolist() == [5.0, 7.0]
    # Without normalising before, the box would leave corners of 5 inside it: each box is a full rectangle of 7.
    for picture in np.asarray(augmented)[..., 0] == 7.0:
        rows, columns = picture.any(axis=1), picture.any(axis=0)
        assert picture.sum() == rows.sum() * columns.sum()


def test_jitter_sees_the_image_before_normalising():
    image = jnp.full((4, 4, 1), 0.5)
    function = compose.make_augment(switched_off(brightness=0.2), mean=0.5, std=0.5)
    augmented = jax.jit(jax.vmap(function, (0, None)))(split_keys(200), image)
    # Brightness of a mid grey moves it by up to 0.1, which is 0.2 after normalising; of a normalised 0 by nothing.
    assert float(jnp.abs(augmented).max()) == pytest.approx(0.2, abs=0.01)


def test_an_operation_keeps_its_draws_when_another_is_switched_on():
    image, image_keys = random_images(1)[0], split_keys(50)

    def run(**changes):
        function = compose.make_augment(switched_off(**changes), mean=0.0, std=1.0)
        return np.asarray(jax.jit(jax.vmap(function, (0, None)))(image_keys, image))

    erased = run(erasing_probability=0.5, erased_value=9.0) == 9.0
    mirrored = intensity.normalise(image, 0.0, 1.0)[:, ::-1]
    flipped = np.isclose(run(flip_probability=0.5), mirrored, atol=1e-6).all(axis=(1, 2, 3))
    together = run(flip_probability=0.5, brightness=0.2, erasing_probability=0.5, erased_value=9.0)
    np.testing.assert_array_equal(together == 9.0, erased)
    alone = run(brightness=0.2)
    expected = np.where(flipped[:, None, None, None], alone[:, :, ::-1], alone)
    np.testing.assert_allclose(together[~erased], expected[~erased], rtol=0, atol=1e-6)
    assert 0 < flipped.sum() < 50


@pytest.mark.parametrize(
    ("operation", "address"),
    [({"max_rotation_deg": 30.0}, 2), ({"scale": (0.7, 1.4)}, 4), ({"elastic_alpha_px": 2.0}, 5)],
    ids=["rotation", "scale", "elastic"],
)
def test_geometric_operations_are_drawn_at_their_own_address(operation, address):
    """Never renumbered, whatever else is on; what they draw, others do not."""
    image, key = jnp.asarray(random_images(1)[0], jnp.float32) / 255, jax.random.key(5)
    draw = {
        2: partial(warp.rotate, max_angle_deg=30.0, fill=3.0),
        4: partial(warp.scale, factor_range=(0.7, 1.4), fill=3.0),
        5: partial(warp.elastic, alpha_px=2.0, sigma_px=8.0, fill=3.0),
    }[address]
    drawn = lambda image: jax.jit(draw)(jax.random.fold_in(key, address), image)

    def run(**changes):
        config = switched_off(fill_value=3.0, **changes)
        return np.asarray(jax.jit(compose.make_augment(config, mean=0.0, std=1.0))(key, image))

    np.testing.assert_allclose(run(**operation), drawn(image), rtol=0, atol=1e-5)
    erasing = {"erasing_probability": 1.0, "erased_value": 9.0}
    np.testing.assert_array_equal(run(**operation, **erasing) == 9.0, run(**erasing) == 9.0)
    mirrored = run(flip_probability=1.0, **operation)
    np.testing.assert_allclose(mirrored, drawn(image[:, ::-1]), rtol=0, atol=1e-5)


def test_operations_draw_independently_of_each_other():
    image = jnp.asarray([[[0.2], [0.1]]])
    function = compose.make_augment(augment_config(contrast=0.0), mean=0.0, std=1.0)
    augmented = jax.jit(jax.vmap(function, (0, None)))(split_keys(2000), image)[:, 0, :, 0]
    assert stats.spearmanr(augmented[:, 0] > augmented[:, 1], augmented.max(axis=1)).pvalue > 1e-3


def test_vmap_equals_a_loop():
    batch, image_keys = random_images(6, channels=3), split_keys(6)
    function = compose.make_augment(all_on(), mean=(0.4, 0.5, 0.6), std=0.5)
    jitted = jax.jit(function)
    looped = np.stack([jitted(key, image) for key, image in zip(image_keys, batch, strict=True)])
    assert looped.dtype == np.float32
    assert looped.shape == batch.shape
    np.testing.assert_allclose(jax.jit(jax.vmap(function))(image_keys, batch), looped, rtol=0, atol=1e-5)


def test_uint8_and_unit_floats_give_the_same():
    image = random_images(1)[0]
    function = compose.make_augment(all_on(), mean=0.5, std=0.5)
    function = jax.jit(function)
    from_float = function(jax.random.key(3), image.astype(jnp.float32) / 255)
    np.testing.assert_allclose(function(jax.random.key(3), image), from_float, rtol=0, atol=1e-5)


def test_later_changes_of_the_config_do_not_reach_the_function():
    config = all_on()
    function = compose.make_augment(config, mean=0.5, std=0.5)
    traced = lambda function: str(jax.make_jaxpr(function)(jax.random.key(0), random_images(1)[0]))
    before = traced(lambda *args: function(*args))
    config.max_rotation_deg = 180.0
    assert traced(lambda *args: function(*args)) == before
    assert traced(compose.make_augment(config, mean=0.5, std=0.5)) != before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("flip_probability", 1.5),
        ("brightness", -0.1),
        ("contrast", float("nan")),
        ("max_rotation_deg", 200.0),
        ("scale", (1.2, 0.8)),
        ("scale", (0.0, 1.0)),
        ("scale", (1.0,)),
        ("elastic_alpha_px", -1.0),
        ("elastic_sigma_px", 0.5),
        ("mixup_alpha", -0.1),
        ("cutmix_alpha", float("nan")),
        ("erasing_probability", -1.0),
        ("erasing_area", (0.5, 0.2)),
        ("erasing_area", (0.5, 1.2)),
        ("erasing_aspect", (0.0, 1.0)),
        ("erasing_aspect", (0.3, 1.0, 3.0)),
    ],
)
def test_values_that_make_no_sense_name_their_key(key, value):
    with pytest.raises(ConfigError, match=rf"^config\.augment\.{key} is .*; give "):
        check_augment(augment_config(**{key: value}))


@pytest.mark.parametrize("name", ["mean", "std"])
def test_normalise_refuses_statistics_of_another_channel_count(name):
    statistics = {"mean": 0.5, "std": 0.5, name: (0.5, 0.4, 0.3)}
    with pytest.raises(ConfigError, match=rf"^config\.data\.{name} is .*, but images have 1 channels; give "):
        intensity.normalise(random_images(2), **statistics)
