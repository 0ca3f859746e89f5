"""RandAugment: its operations against torchvision (golden values), and what is drawn."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from configs import base
from fpclass.augment import geometry, policy
from fpclass.augment.compose import make_augment
from fpclass.augment.settings import check_augment
from fpclass.errors import ConfigError

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "augment.npz")
LEVELS = jnp.array([0.7, -0.4])


def golden_image(k):
    return jnp.asarray(GOLDEN[f"image_{k}"].astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("k", range(4))
def test_operations_equal_torchvision(k):
    image = golden_image(k)
    for threshold, expected in zip(GOLDEN["thresholds"].tolist(), GOLDEN[f"solarized_{k}"], strict=True):
        np.testing.assert_allclose(policy.solarize(image, threshold), expected, rtol=0, atol=1e-6)
    for bits, expected in zip(GOLDEN["bits"].tolist(), GOLDEN[f"posterized_{k}"], strict=True):
        np.testing.assert_allclose(policy.posterize(image, bits), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(policy.autocontrast(image), GOLDEN[f"autocontrast_{k}"], rtol=0, atol=1e-5)


def test_autocontrast_leaves_a_flat_channel_alone():
    image = jnp.full((3, 4, 3), 0.3).at[0, 0, 1].set(0.6)
    np.testing.assert_allclose(policy.autocontrast(image)[..., 0], 0.3, atol=1e-6)
    assert float(policy.autocontrast(image)[0, 0, 1]) == 1


def test_every_operation_and_both_signs_are_drawn_equally_often():
    num, num_names = 6000, 7
    keys = jax.random.split(jax.random.key(0), num)
    which, sign = jax.vmap(lambda key: policy.draw_policy(key, num_operations=2, num_names=num_names))(keys)
    assert which.shape == sign.shape == (num, 2)
    for slot in range(2):
        assert stats.chisquare(np.bincount(which[:, slot], minlength=num_names)).pvalue > 1e-3
        assert stats.binomtest(int((sign[:, slot] > 0).sum()), num, 0.5).pvalue > 1e-3
    table = np.zeros((num_names, num_names))
    np.add.at(table, (which[:, 0], which[:, 1]), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_what_is_drawn_is_what_is_done():
    """Position by position: intensities change the image, geometry the map, and identity neither."""
    names, image = policy.OPERATIONS, golden_image(2)
    for position, name in enumerate(names):
        which = jnp.full(2, position)
        changed = policy.change_intensity(image, which, LEVELS, names)
        source = policy.geometry_of(which, LEVELS, names, image.shape[:2])
        is_still = np.allclose(source, np.eye(3), atol=1e-6)
        is_same = np.allclose(changed, image, atol=1e-6)
        assert (is_same, is_still) == {
            "identity": (True, True),
            **dict.fromkeys(("rotate", "shear_x", "shear_y", "translate_x", "translate_y"), (True, False)),
        }.get(name, (False, True)), name


def test_geometry_is_as_strong_as_in_the_paper():
    size, names = (100, 60), ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
    one = jnp.ones(1)
    expected = [
        geometry.rotation_map(30.0),
        geometry.shear_map(0.0, 0.3, size),
        geometry.shear_map(0.3, 0.0, size),
        geometry.translation_map(0.0, 150 / 331, size),
        geometry.translation_map(150 / 331, 0.0, size),
    ]
    for position, single in enumerate(expected):
        found = policy.geometry_of(jnp.array([position]), one, names, size)
        np.testing.assert_allclose(found, single, atol=1e-5)


def test_intensities_are_as_strong_as_in_the_paper():
    image = golden_image(2)
    names = ("brightness", "posterize", "solarize")
    changed = [policy.change_intensity(image, jnp.array([k]), jnp.array([-1.0]), names) for k in range(3)]
    np.testing.assert_allclose(changed[0], image * 0.1, atol=1e-6)
    np.testing.assert_allclose(changed[1], policy.posterize(image, 4), atol=1e-6)
    np.testing.assert_allclose(changed[2], 1 - image, atol=1e-6)


def run(image, **changes):
    config = base.get_config().augment
    off = {"flip_probability": 0.0, "brightness": 0.0, "contrast": 0.0}
    config.update({**off, "policy_operations": 2, "policy_magnitude": 8.0, **changes})
    function = jax.jit(jax.vmap(make_augment(config, mean=0.0, std=1.0), (0, None)))
    return np.asarray(function(jax.random.split(jax.random.key(0), 30), image))


def test_only_the_names_given_are_drawn():
    image = golden_image(2)
    values = set(np.asarray(image).ravel().tolist())
    solarized = run(image, policy_names=("solarize", "identity"), policy_operations=1, policy_magnitude=10.0)
    is_same = np.isclose(solarized, image, atol=1e-5).all(axis=(1, 2, 3))
    is_inverted = np.isclose(solarized, 1 - image, atol=1e-5).all(axis=(1, 2, 3))
    assert (is_same | is_inverted).all()
    assert is_same.any()
    assert is_inverted.any()
    moved = run(image, policy_names=("translate_x",), interpolation="nearest", fill_value=0.5)
    assert set(moved.ravel().tolist()) <= values | {0.5}


def test_no_magnitude_does_nothing_but_autocontrast():
    image = golden_image(2)
    names = tuple(name for name in policy.OPERATIONS if name not in ("autocontrast", "solarize"))
    np.testing.assert_allclose(
        run(image, policy_names=names, policy_magnitude=0.0), image[None].repeat(30, 0), atol=1e-5
    )


def test_grey_images_get_everything_but_colour():
    assert set(policy.OPERATIONS) - set(policy.default_operations(1)) == {"colour"}
    assert policy.default_operations(3) == policy.OPERATIONS
    assert np.isfinite(run(golden_image(0))).all()


def test_a_name_that_does_not_exist_is_named():
    config = base.get_config().augment
    config.policy_names = ("rotate", "equalize")
    with pytest.raises(ConfigError, match=r"^config\.augment\.policy_names has 'equalize'; give some of identity, "):
        check_augment(config)
