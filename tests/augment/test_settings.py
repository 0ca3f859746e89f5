"""The keys of the section `augment`: none is forgotten, none does nothing, and wrong values are named."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from archives import arrays_of

from configs import base
from fpclass.augment import compose, intensity, settings
from fpclass.errors import ConfigError
from fpclass.train.inputs import image_inputs
from fpclass.train.inputs.feature_cache import compute_features
from fpclass.train.state import Dataset, Member

OFF = {"flip_probability": 0.0, "brightness": 0.0, "contrast": 0.0}
ON = {
    "flip_probability": 1.0,
    "vertical_flip_probability": 1.0,
    "brightness": 0.3,
    "contrast": 0.3,
    "brightness_shift": 0.2,
    "saturation": 0.8,
    "hue": 0.3,
    "channel_shift": 0.2,
    "sharpness": 0.9,
    "blur_sigma_px": 1.5,
    "policy_operations": 2,
    "max_rotation_deg": 30.0,
    "translation": (0.0, 0.4),
    "shear": (0.3, 0.0),
    "zoom": (0.3,),
    "scale": (0.7, 1.4),
    "perspective": 0.5,
    "elastic_alpha_px": 2.0,
    "height_width": (0.0, 0.5),
    "noise": 0.1,
    "erasing_probability": 1.0,
    "cutout_px": 6,
}
OTHER = {  # of the parameters: a value other than the default, and a switch that shows it
    "policy_magnitude": (2.0, {"policy_operations": 2}),
    "policy_names": (("solarize",), {"policy_operations": 2}),
    "elastic_sigma_px": (3.0, {"elastic_alpha_px": 2.0}),
    "fill_mode": ("reflect", {"max_rotation_deg": 30.0}),
    "interpolation": ("bilinear", {"max_rotation_deg": 30.0}),
    "fill_value": (3.0, {"max_rotation_deg": 30.0}),
    "erasing_area": ((0.4, 0.5), {"erasing_probability": 1.0}),
    "erasing_aspect": ((3.0, 3.3), {"erasing_probability": 1.0}),
    "erased_value": (0.7, {"erasing_probability": 1.0}),
    "class_probability": ((0.0, 0.0), {"noise": 0.1}),
}
GOLDEN = Path(__file__).parents[1] / "golden" / "augment_draws.npz"
IMAGE = jnp.asarray(np.random.default_rng(0).integers(0, 256, (20, 16, 3), dtype=np.uint8))


def augment_config(**changes):
    config = base.get_config().augment
    config.update({**OFF, **changes})
    return config


@functools.cache
def run(**changes):
    """One image of class 1, augmented."""
    function = compose.make_augment_batch(augment_config(**changes), mean=0.5, std=0.5)
    return np.asarray(jax.jit(function)(jax.random.key(8)[None], IMAGE[None], jnp.array([1])))[0]


PLAIN = np.asarray(intensity.normalise(IMAGE, 0.5, 0.5))


# --- Nothing is forgotten --------------------------------------------------------------------------------------------


def test_every_key_is_a_switch_or_a_parameter_or_of_mixing():
    keys = [
        *settings.SWITCHES,
        *settings.PARAMETERS,
        *settings.BY_EPOCH,
        *settings.MIXING,
        settings.CUSTOM,
        "fixed_views",
    ]
    assert sorted(keys) == sorted(base.get_config().augment)
    assert sorted(ON) == sorted(settings.SWITCHES)
    assert sorted(OTHER) == sorted(settings.PARAMETERS)


def test_by_default_the_switches_of_the_baseline_are_on():
    config = base.get_config().augment
    assert [key for key in settings.SWITCHES if settings.is_on(config, key)] == [*OFF]
    assert settings.is_augmented(config)


def test_all_switches_off_change_nothing():
    assert not settings.is_augmented(augment_config())
    assert not settings.is_augmented(augment_config(mixup_alpha=1.0, cutmix_alpha=1.0))
    np.testing.assert_allclose(run(), PLAIN, rtol=0, atol=1e-6)
    assert settings.describe(augment_config()) == "nothing"


@pytest.mark.parametrize("key", ON)
def test_a_switch_alone_changes_the_image_and_says_so(key):
    changes = {key: ON[key]}
    assert settings.is_augmented(augment_config(**changes))
    assert np.abs(run(**changes) - PLAIN).max() > 0.02
    assert settings.describe(augment_config(**changes)).startswith(f"{key} ")


def test_mirror_images_in_every_other_epoch():
    """Each image is itself in one of two epochs and its mirror image in the other; half of them begin with either."""
    config = base.get_config()
    config.augment.update({**OFF, "flip_alternates": True})
    assert settings.is_augmented(config.augment)
    assert settings.describe(config.augment) == "flip_alternates"
    images = jnp.asarray(np.random.default_rng(1).integers(0, 256, (64, 4, 6, 1), dtype=np.uint8))
    rows, nothing = jnp.arange(64), jnp.arange(0)
    dataset, member = Dataset(images, rows % 2), Member(jnp.array(3), rows, nothing, nothing, jnp.ones(2))
    inputs = image_inputs(config)
    plain = np.asarray(inputs.plain(images, rows))
    drawn = [np.asarray(inputs.draw(member, jnp.array(epoch), dataset, rows)) for epoch in range(3)]
    is_plain = [np.all(batch == plain, axis=(1, 2, 3)) for batch in drawn]
    is_mirrored = [np.all(batch == plain[:, :, ::-1], axis=(1, 2, 3)) for batch in drawn]
    for epoch in range(3):
        assert np.all(is_plain[epoch] ^ is_mirrored[epoch])
        np.testing.assert_array_equal(is_plain[epoch], is_mirrored[(epoch + 1) % 2])
    assert 20 <= is_plain[0].sum() <= 44


def test_flips_are_random_or_alternate():
    with pytest.raises(ConfigError, match=r"flip_alternates is True and flip_probability 0\.5"):
        settings.check_augment(augment_config(flip_alternates=True, flip_probability=0.5))


def test_what_is_on_is_told_with_its_values():
    config = augment_config(zoom=(0.2,), shear=(0.1, 0.0), fill_mode="wrap", class_probability=(1.0, 0.5))
    expected = "shear (0.1, 0), zoom (0.2,), fill_mode wrap, class_probability (1, 0.5)"
    assert settings.describe(config) == expected


@pytest.mark.parametrize("key", OTHER)
def test_a_parameter_changes_its_operation_and_nothing_by_itself(key):
    value, switch = OTHER[key]
    assert not settings.is_augmented(augment_config(**{key: value}))
    np.testing.assert_allclose(run(**{key: value}), PLAIN, rtol=0, atol=1e-6)
    assert np.abs(run(**{key: value}, **switch) - run(**switch)).max() > 0.02


# --- Addresses and composing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ON)
def test_what_is_drawn_stays_what_it_was(key):
    """Renumbering an address, or drawing in another way, changes every result ever reported."""
    np.testing.assert_allclose(run(**{key: ON[key]}), arrays_of(GOLDEN)[key], rtol=0, atol=2e-4)


@pytest.mark.parametrize("key", ["max_rotation_deg", "scale", "elastic_alpha_px"])
def test_composing_keeps_the_draws_of_what_can_also_be_done_alone(key):
    smooth = jnp.asarray(np.indices((40, 30)).sum(0)[..., None] / 70, jnp.float32)
    changes = {**OFF, key: {"scale": (0.45, 0.6)}.get(key, ON[key])}

    def one(**more):
        config = base.get_config().augment
        config.update({**changes, **more})
        return np.asarray(jax.jit(compose.make_augment(config, mean=0.0, std=1.0))(jax.random.key(3), smooth))

    alone, composed = one(), one(interpolation="bilinear")
    inner = np.s_[12:28, 9:21]
    assert np.abs(alone - np.asarray(smooth))[inner].max() > 0.03
    np.testing.assert_allclose(composed[inner], alone[inner], rtol=0, atol=0.015)


def test_whatever_is_on_there_is_one_look_up():
    geometry = {"max_rotation_deg": 9.0, "zoom": (0.1, 0.2), "shear": (0.1, 0.1), "translation": (0.1, 0.1)}
    geometry |= {"scale": (0.9, 1.2), "perspective": 0.3, "elastic_alpha_px": 1.0, "policy_operations": 2}
    for interpolation in ("nearest", "bilinear"):
        config = augment_config(**geometry, fill_mode="reflect", interpolation=interpolation)
        function = compose.make_augment(config, mean=0.5, std=0.5)
        jaxpr = str(jax.make_jaxpr(function)(jax.random.key(0), IMAGE))
        assert jaxpr.count("= gather[") == 1


def test_the_operations_are_composed_in_the_stated_order():
    """Rotated by 90 degrees first, then shifted: as one by one, with draws that are looked up in the maps."""
    config = augment_config(max_rotation_deg=30.0, zoom=(0.3,), fill_mode="nearest")
    image = np.indices((41, 41)).astype(np.float32)[..., None] / 40  # what it shows is where it came from
    function = jax.jit(compose.make_augment(config, mean=0.0, std=1.0))
    place = np.concatenate([function(jax.random.key(5), jnp.asarray(one)) for one in image], -1) * 40
    key = jax.random.key(5)
    angle = np.deg2rad(float(jax.random.uniform(jax.random.fold_in(key, 2), minval=-30.0, maxval=30.0)))
    zoom = 1 + 0.3 * float(jax.random.uniform(jax.random.fold_in(key, 15), (1,), minval=-1.0)[0])
    expected = zoom * np.array([np.cos(angle) * -5 + np.sin(angle) * 3, np.sin(angle) * 5 + np.cos(angle) * 3]) + 20
    np.testing.assert_allclose(place[15, 23], expected, atol=1e-3)


# --- By class --------------------------------------------------------------------------------------------------------


def drawn(class_probability, num=1200):
    config = base.get_config()
    config.augment.update({**OFF, "noise": 0.1, "class_probability": class_probability})
    config.data.update({"mean": (0.0,), "std": (1.0,)})
    images = jnp.full((num, 2, 2, 1), 128, jnp.uint8)
    dataset = Dataset(images, jnp.arange(num) % 3)
    nothing = jnp.zeros(0, jnp.int32)
    member = Member(jnp.uint32(4), nothing, nothing, nothing, jnp.ones(3))
    draw = jax.jit(lambda epoch: image_inputs(config).draw(member, epoch, dataset, jnp.arange(num)))
    return np.stack([draw(jnp.int32(epoch)) for epoch in range(2)])


def test_each_class_is_augmented_as_often_as_stated():
    images, everything = drawn((1.0, 0.25, 0.0)), drawn(())
    is_augmented = (images != np.float32(128 / 255)).any(axis=(2, 3, 4))
    assert is_augmented[:, 0::3].all()
    assert not is_augmented[:, 2::3].any()
    share = is_augmented[:, 1::3].mean()
    assert abs(share - 0.25) < 0.06
    assert (is_augmented[0] != is_augmented[1]).any()  # every epoch chooses anew
    np.testing.assert_array_equal(images[is_augmented], everything[is_augmented])


class Unchanged:
    """Stands for frozen stages: its features are what goes in."""

    stage_names = ("nothing",)

    def init(self, key, batch, train):
        return {"params": {}}

    def apply(self, variables, batch, train):
        return batch


def test_cached_views_are_augmented_by_class_too():
    config = base.get_config()
    config.augment.update({**OFF, "noise": 0.1, "class_probability": (1.0, 0.25, 0.0)})
    config.finetune.cache_views = 40
    config.data.image_size = (2, 2)
    images, labels = np.full((30, 2, 2, 1), 128, np.uint8), np.arange(30) % 3
    features = compute_features(Unchanged(), {"params": {}}, images, labels, config, None)
    assert features.shape == (30, 41, 2, 2, 1)
    is_augmented = (features != features[:, :1]).any(axis=(2, 3, 4))[:, 1:]
    assert is_augmented[labels == 0].all()
    assert not is_augmented[labels == 2].any()
    assert abs(is_augmented[labels == 1].mean() - 0.25) < 0.1


def test_probabilities_of_another_number_of_classes_are_named():
    config = augment_config(class_probability=(1.0, 0.5, 0.5))
    settings.check_classes(config, 3)
    settings.check_classes(augment_config(), 2)
    with pytest.raises(ConfigError, match=r"class_probability is \(1\.0, 0\.5, 0\.5\), but there are 2 classes; give"):
        settings.check_classes(config, 2)


def test_no_class_at_all_is_not_augmented():
    assert not settings.is_augmented(augment_config(noise=0.1, class_probability=(0.0, 0.0)))


# --- Wrong values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vertical_flip_probability", 1.5),
        ("brightness_shift", -0.1),
        ("saturation", -0.1),
        ("hue", 0.6),
        ("channel_shift", 1.2),
        ("sharpness", -1.0),
        ("blur_sigma_px", 100.0),
        ("policy_operations", -1),
        ("policy_magnitude", 11.0),
        ("translation", (0.1,)),
        ("translation", (0.1, 1.1)),
        ("shear", (-0.1, 0.1)),
        ("zoom", (1.0,)),
        ("zoom", ()),
        ("zoom", (0.1, 0.1, 0.1)),
        ("height_width", (0.1, 1.0)),
        ("perspective", 1.0),
        ("noise", float("nan")),
        ("cutout_px", -2),
        ("class_probability", (0.5, 1.2)),
        ("class_probability", ("all", 1)),
    ],
)
def test_values_that_make_no_sense_name_their_key(key, value):
    with pytest.raises(ConfigError, match=rf"^config\.augment\.{key} is .*; give "):
        settings.check_augment(augment_config(**{key: value}))


@pytest.mark.parametrize(
    "changes", [{"saturation": 0.1}, {"hue": 0.1}, {"policy_operations": 1, "policy_names": ("colour",)}]
)
def test_colours_of_grey_images_are_refused(changes):
    settings.check_augment(augment_config(**changes), channels=3)
    with pytest.raises(ConfigError, match=r"but images have 1 channel; give .*config\.data\.channels=3$"):
        settings.check_augment(augment_config(**changes), channels=1)
