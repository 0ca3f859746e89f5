"""The methods: equal to grad-cam and captum for PyTorch, value by value, and what they promise beside."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from map_cases import CASES, CLASSES, SETTINGS, TARGETS

from fpclass.explain import maps as raw_maps
from fpclass.explain import parts
from fpclass.explain.methods import METHODS
from fpclass.explain.targets import class_logit

GOLDEN = dict(np.load(pathlib.Path(__file__).parents[1] / "golden" / "maps.npz"))
OF = {case.name: case for case in CASES}


@functools.cache
def made(case_name, method, kind):
    case = OF[case_name]
    function = METHODS[method].bind(case.model, case.variables(), case.stage, **SETTINGS.get(method, {}))
    return function(case.images(), TARGETS[kind])


def test_every_method_has_golden_maps():
    assert {entry.split(".")[1] for entry in GOLDEN} - {"logits"} == set(METHODS)


@pytest.mark.parametrize("entry", [entry for entry in GOLDEN if not entry.endswith("logits")])
def test_equals_the_packages_for_pytorch(entry):
    expected = GOLDEN[entry]
    assert expected.any()
    np.testing.assert_allclose(made(*entry.split(".")), expected, rtol=1e-3, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("num_cores", [1, 2, 4, 8])
def test_maps_of_images_shared_by_cores_are_those_of_each(monkeypatch, num_cores):
    """Seven of them: no share is as large as another, and eight cores are more than there are images."""
    monkeypatch.setattr(parts, "num_cores", lambda: num_cores)
    sizes = []

    @jax.jit
    def function(rows):
        images, classes = rows
        sizes.append(len(images))  # when it is traced: once for all shares
        return images.sum(axis=-1) * classes[:, None, None]

    images, classes = np.random.default_rng(0).normal(size=(7, 4, 3, 2)).astype(np.float32), np.arange(7)
    found = parts.in_shares(function, (images, classes))
    np.testing.assert_allclose(found, images.sum(axis=-1) * classes[:, None, None], rtol=1e-6)
    assert sizes == [{1: 7, 2: 4, 4: 2, 8: 1}[num_cores]]


def test_integrated_gradients_sum_to_the_difference_from_the_plain_image():
    case, black = OF["cnn"], np.array([-1.5, -0.5], np.float32)
    integrate = METHODS["integrated_gradients"].bind(case.model, case.variables(), baseline=black, num_steps=400)
    images = case.images()
    logits = [case.model.apply(case.variables(), x, train=False) for x in (images, np.zeros_like(images) + black)]
    given, plain = (np.asarray(of)[np.arange(3), CLASSES] for of in logits)
    assert np.abs(given - plain).min() > 0.1
    np.testing.assert_allclose(integrate(images, CLASSES).sum(axis=(1, 2)), given - plain, rtol=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_a_bright_spot_in_a_corner_lights_that_corner(method):
    """In an image that is not square; of every method, by a network that sees brightness alone."""
    case = OF["cnn"]
    params = jax.tree.map(jnp.zeros_like, case.variables()["params"])
    params["conv1"]["kernel"] = params["conv1"]["kernel"].at[2, 2, 0, 0].set(1.0)
    params["conv2"]["kernel"] = params["conv2"]["kernel"].at[2, 2, 0, 0].set(1.0)
    params["dense1"]["kernel"] = params["dense1"]["kernel"] + 0.1
    params["logits"]["kernel"] = params["logits"]["kernel"].at[:, 1].set(1.0)
    image = np.zeros((1, *case.shape), np.float32)
    image[0, 22:26, 4:8] = 1  # lower left
    heat = METHODS[method].bind(case.model, {"params": params}, "conv2/relu", **SETTINGS.get(method, {}))(image, [1])[0]
    if method == "smooth_grad":  # where the network is sensitive: wherever a pixel is above zero
        assert heat.shape == case.shape[:2]
        return
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert row > 0.6 * heat.shape[0]
    assert column < 0.4 * heat.shape[1]


def test_a_map_that_is_nothing_but_rounding_is_zero():
    """Of a token that a layer norm reads, activation times gradient sums to 0 over the channels."""
    case = OF["vit"]
    hires, layer = (
        METHODS[name].bind(case.model, case.variables(), case.stage)(case.images(), class_logit(CLASSES))
        for name in ("hires_cam", "layer_cam")
    )
    assert not hires.any()
    assert layer.any()
    assert set(raw_maps.what_is_wrong(hires)) == {"the map is zero everywhere"}


def test_what_is_wrong_with_a_map_is_said_and_nothing_is_divided_by_zero():
    maps = np.stack([np.arange(6.0).reshape(2, 3), np.zeros((2, 3)), -np.ones((2, 3)), np.full((2, 3), np.nan)])
    wrong = raw_maps.what_is_wrong(maps)
    assert [*map(bool, wrong)] == [False, True, True, True]
    assert "not finite" in wrong[3]
    own, shared = (raw_maps.scale_maps(np.concatenate([maps, maps / 5]), scale) for scale in ("own", "shared"))
    assert own[0].max() == own[4].max() == shared[0].max() == 1
    assert shared[4].max() == pytest.approx(0.2)
    assert not own[1:4].any()


def test_the_last_convolution_is_looked_at_in_the_faster_form_too():
    case = OF["cnn"]
    faster = METHODS["grad_cam"].bind(case.model.clone(conv_form="last_direct"), case.variables(), case.stage)
    np.testing.assert_allclose(faster(case.images(), CLASSES), made("cnn", "grad_cam", "class"), rtol=1e-4, atol=1e-7)


def test_many_images_in_parts_are_as_each_alone():
    case = OF["cnn"]
    images = np.concatenate([case.images()] * 3)[:7]
    target = np.concatenate([CLASSES] * 3)[:7]
    function = METHODS["grad_cam"].bind(case.model, case.variables(), case.stage)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fpclass.explain.cam.at_once", lambda *_: 3)
        jax.clear_caches()
        in_parts = function(images, target)
    jax.clear_caches()
    np.testing.assert_allclose(
        in_parts, np.concatenate([made("cnn", "grad_cam", "class")] * 3)[:7], rtol=1e-4, atol=1e-7
    )
