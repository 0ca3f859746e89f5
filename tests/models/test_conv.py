"""Every form of convolution against XLA's own: result and gradients, sizes, strides, paddings, types."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fpclass.models import convolution
from fpclass.models.layers import Conv
from fpclass.models.pooling import avg_pool, max_pool, max_pool_apart

CASES = {
    "1x1": ((1, 1), 1, 0, 1, 6),
    "1x1 with stride": ((1, 1), 2, 0, 1, 6),
    "3x3": ((3, 3), 1, 1, 1, 6),
    "same with stride": ((3, 3), 2, "SAME", 1, 6),
    "1x7": ((1, 7), 1, ((0, 0), (3, 3)), 1, 6),
    "patches": ((4, 4), 4, 0, 1, 6),
    "patches of 2": ((2, 2), 2, 0, 1, 6),
    "depthwise": ((3, 3), 1, 1, 4, 4),
    "depthwise with stride": ((3, 3), 2, 1, 4, 4),
    "depthwise, same with stride": ((5, 5), 2, "SAME", 4, 4),
    "depthwise, uneven padding": ((3, 3), 2, ((0, 1), (0, 1)), 4, 4),
    "depthwise, not square": ((5, 3), 3, ((2, 2), (1, 1)), 4, 4),
    "depthwise, padding that no pixel sees": ((3, 3), 2, ((0, 2), (1, 2)), 4, 4),
    "groups": ((3, 3), 1, 1, 2, 6),
}

FIRST = {"7x7 with stride": ((7, 7), 2, 3, 1, 6), "11x11 with stride": ((11, 11), 4, 2, 1, 6)}


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def drawn_params(conv, images, seed=0):
    """Of a layer for such images; without its own initialisation, whose many operations would each be compiled."""
    shapes = jax.eval_shape(conv.init, jax.random.key(0), images)["params"]
    return {name: draw(seed, *leaf.shape) / 4 for name, leaf in shapes.items()}


def with_gradients(function, *args):
    """What it returns, and the gradients of the sum of its sines in every argument; in one program."""

    def loss(*args):
        y = function(*args)
        return jnp.sum(jnp.sin(y)), y

    gradients, y = jax.jit(jax.grad(loss, tuple(range(len(args))), has_aux=True))(*args)
    return y, gradients


@pytest.mark.parametrize("size", [pytest.param((12, 16), marks=pytest.mark.slow), (13, 9)])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_form_is_the_convolution(case, size):
    kernel_size, strides, padding, groups, features = case
    conv = Conv(features, kernel_size, strides, padding, groups, use_bias=True)
    images = draw(0, 2, *size, 4)
    params = drawn_params(conv, images)
    assert params["kernel"].shape == (*kernel_size, 4 // groups, features)
    pads = [(padding, padding)] * 2 if isinstance(padding, int) else padding

    def ours(params, images):
        return conv.apply({"params": params}, images)

    def reference(params, images):
        kernel, layout = params["kernel"], ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(
            images, kernel, (strides, strides), pads, dimension_numbers=layout, feature_group_count=groups
        )
        return y + params["bias"]

    found, expected = (with_gradients(f, params, images) for f in (ours, reference))
    np.testing.assert_allclose(found[0], expected[0], atol=2e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found[1], expected[1])


@pytest.mark.parametrize("num_images", [2, 3])
@pytest.mark.parametrize("case", ["3x3", "same with stride", "1x7", "7x7 with stride", "11x11 with stride"])
def test_the_gradient_of_a_first_kernel(case, num_images):
    """Images of few channels have another way to it: to more digits than the library's, which sums in another order."""
    kernel_size, strides, padding, _, features = FIRST.get(case) or CASES[case]
    conv = Conv(features, kernel_size, strides, padding)
    with jax.enable_x64(True):
        images = draw(1, num_images, 23, 18, 3).astype(np.float64)
        kernel = draw(2, *kernel_size, 3, features).astype(np.float64)
        steps = (strides, strides)
        pads = lax.padtype_to_pads(images.shape[1:3], kernel_size, steps, padding) if padding == "SAME" else padding
        pads = [(pads, pads)] * 2 if isinstance(pads, int) else pads

        def reference(kernel):
            return lax.conv_general_dilated(images, kernel, steps, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))

        ways = (lambda kernel: conv.apply({"params": {"kernel": kernel}}, images), reference)
        found, expected = (with_gradients(f, kernel)[1][0] for f in ways)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


MANY = {
    "3x3": ((3, 3), 1, ((1, 1), (1, 1)), (15, 16)),
    "3x3, rows that nothing divides": ((3, 3), 1, ((1, 1), (1, 1)), (17, 13)),
    "same with stride": ((3, 3), 2, ((0, 1), (1, 1)), (30, 31)),
    "3x1 without padding": ((3, 1), 1, ((0, 0), (0, 0)), (18, 14)),
    "5x5, uneven, stride of 3": ((5, 5), 3, ((4, 0), (1, 2)), (46, 45)),
    "padding that no weight sees": ((2, 2), 2, ((0, 3), (0, 3)), (29, 30)),
}


@pytest.mark.parametrize("strip_bytes", [4096, 2**20], ids=["strips", "images"])
@pytest.mark.parametrize("case", MANY.values(), ids=MANY.keys())
def test_the_gradient_of_a_kernel_that_sees_many_places(case, strip_bytes, monkeypatch):
    """They have a way of their own too."""
    kernel_size, strides, padding, size = case
    monkeypatch.setattr(convolution, "STRIP_BYTES", strip_bytes)
    with jax.enable_x64(True):
        images, kernel = draw(1, 3, *size, 5).astype(np.float64), draw(2, *kernel_size, 5, 6).astype(np.float64)

        def reference(kernel):
            order = ("NHWC", "HWIO", "NHWC")
            return lax.conv_general_dilated(images, kernel, (strides, strides), padding, dimension_numbers=order)

        ways = (lambda kernel: convolution.convolution(images, kernel, strides, padding), reference)
        found, expected = (with_gradients(f, kernel) for f in ways)
    assert expected[0][0, ..., 0].size >= convolution.MANY_PLACES
    np.testing.assert_allclose(found[1][0], expected[1][0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_the_result_has_the_type_of_the_images(dtype):
    with jax.enable_x64(dtype == "float64"):
        for name in ("1x1", "same with stride", "patches", "depthwise with stride"):
            kernel_size, strides, padding, groups, features = CASES[name]
            conv = Conv(features, kernel_size, strides, padding, groups, use_bias=True)
            images = jnp.ones((1, 12, 12, 4), dtype)
            params = drawn_params(conv, images)
            y, (grads,) = with_gradients(lambda p, c=conv, x=images: c.apply({"params": p}, x), params)
            assert y.dtype == dtype
            assert {g.dtype for g in jax.tree.leaves(grads)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(("features", "groups"), [(5, 1), (4, 4)], ids=["all", "depthwise"])
def test_it_maps_over_members(features, groups):
    conv = Conv(features, (3, 3), 2, 1, groups)
    images = draw(1, 3, 2, 8, 8, 4)
    params = [drawn_params(conv, images[0], seed) for seed in range(3)]
    grad = jax.grad(lambda p, x: jnp.sum(jnp.sin(conv.apply({"params": p}, x))), (0, 1))
    together = jax.jit(jax.vmap(grad))(jax.tree.map(lambda *x: np.stack(x), *params), images)
    alone = [jax.jit(grad)(*own) for own in zip(params, images, strict=True)]
    jax.tree.map(lambda a, *b: np.testing.assert_allclose(a, np.stack(b), atol=1e-5), together, *alone)


@pytest.mark.parametrize("size", [pytest.param((12, 16), marks=pytest.mark.slow), (13, 9)])
@pytest.mark.parametrize(("window", "strides", "padding"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1), (2, 1, 0)])
def test_pooling_is_that_of_the_library(size, window, strides, padding):
    images = draw(2, 2, *size, 3)
    pads = ((padding, padding), (padding, padding))
    steps = ((window, window), (strides, strides), pads)

    def ours(x):
        uncounted = avg_pool(x, window, strides, padding, counts_padding=False)
        return jnp.stack([max_pool(x, window, strides, padding), avg_pool(x, window, strides, padding), uncounted])

    def reference(x):
        uncounted = nn.avg_pool(x, *steps, count_include_pad=False)
        return jnp.stack([nn.max_pool(x, *steps), nn.avg_pool(x, *steps), uncounted])

    found, expected = with_gradients(ours, images), with_gradients(reference, images)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)
    assert jax.eval_shape(ours, jax.ShapeDtypeStruct(images.shape, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("size", [2, 3])
def test_the_first_of_the_largest_values_of_a_window_has_all_of_the_gradient(size):
    images = jnp.round(jax.nn.relu(draw(4, 2, 13, 10, 3)))  # many equal ones
    window = (size, size)
    found = with_gradients(lambda x: max_pool_apart(x, size), images)
    expected = with_gradients(lambda x: nn.max_pool(x, window, window), images)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("case", ["3x3", "same with stride", "1x7"])
def test_in_a_compiled_loop_every_convolution_is_in_the_order_of_the_library(case):
    """XLA's convolutions on a CPU are quick in this order alone, and inside a loop it does not reorder the axes."""
    kernel_size, strides, padding, _, features = CASES[case]
    conv = Conv(features, kernel_size, strides, padding)
    images = draw(0, 2, 13, 9, 4)
    params = drawn_params(conv, images)
    gradients = jax.grad(lambda p, x: jnp.sum(jnp.sin(conv.apply({"params": p}, x))), (0, 1))

    def step(carry, _):
        changes = gradients(*carry)
        return jax.tree.map(lambda old, change: old - 0.1 * change, carry, changes), None

    program = jax.jit(lambda *carry: lax.scan(step, carry, length=3)[0]).lower(params, images).compile().as_text()
    orders = re.findall(r"dim_labels=(\S+?),? ", program)
    assert len(orders) >= 3, "the convolution and its two gradients"
    assert set(orders) == {"b01f_01io->b01f"}
