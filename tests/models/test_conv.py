"""Every form of convolution against XLA's own: result and gradients, sizes, strides, paddings, types."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fpclass.models.layers import Conv
from fpclass.models.pooling import avg_pool, max_pool

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


@pytest.mark.parametrize("size", [pytest.param((12, 16), marks=pytest.mark.slow), (13, 9)])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_form_is_the_convolution(case, size):
    kernel_size, strides, padding, groups, features = case
    conv = Conv(features, kernel_size, strides, padding, groups, use_bias=True)
    key = jax.random.key(0)
    images = jax.random.normal(key, (2, *size, 4))
    params = conv.init(key, images)["params"]
    params = {**params, "bias": jnp.arange(float(features))}
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

    np.testing.assert_allclose(ours(params, images), reference(params, images), atol=2e-5)
    losses = [lambda p, x, f=f: jnp.sum(jnp.sin(f(p, x))) for f in (ours, reference)]
    found, expected = [jax.jit(jax.grad(loss, (0, 1)))(params, images) for loss in losses]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)


@pytest.mark.parametrize("num_images", [2, 3])
@pytest.mark.parametrize("case", ["3x3", "same with stride", "1x7", "7x7 with stride", "11x11 with stride"])
def test_the_gradient_of_a_first_kernel(case, num_images):
    """Images of few channels have another way to it: to more digits than the library's, which sums in another order."""
    kernel_size, strides, padding, _, features = FIRST.get(case) or CASES[case]
    conv = Conv(features, kernel_size, strides, padding)
    with jax.enable_x64(True):
        images = jax.random.normal(jax.random.key(1), (num_images, 23, 18, 3), jnp.float64)
        kernel = jax.random.normal(jax.random.key(2), (*kernel_size, 3, features), jnp.float64)
        steps = (strides, strides)
        pads = lax.padtype_to_pads(images.shape[1:3], kernel_size, steps, padding) if padding == "SAME" else padding
        pads = [(pads, pads)] * 2 if isinstance(pads, int) else pads

        def reference(kernel):
            return lax.conv_general_dilated(images, kernel, steps, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))

        ways = (lambda kernel: conv.apply({"params": {"kernel": kernel}}, images), reference)
        found, expected = (jax.grad(lambda k, f=f: jnp.sum(jnp.sin(f(k))))(kernel) for f in ways)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_the_result_has_the_type_of_the_images(dtype):
    with jax.enable_x64(dtype == "float64"):
        for name in ("1x1", "same with stride", "patches", "depthwise with stride"):
            kernel_size, strides, padding, groups, features = CASES[name]
            conv = Conv(features, kernel_size, strides, padding, groups, use_bias=True)
            images = jnp.ones((1, 12, 12, 4), dtype)
            params = jax.tree.map(lambda x: x.astype(jnp.float32), conv.init(jax.random.key(0), images))
            assert conv.apply(params, images).dtype == dtype
            grads = jax.grad(lambda p, c=conv, x=images: c.apply(p, x).astype(jnp.float32).sum())(params)
            assert {g.dtype for g in jax.tree.leaves(grads)} == {jnp.dtype("float32")}


def test_depthwise_maps_over_members():
    conv = Conv(4, (3, 3), 2, 1, groups=4)
    images = jax.random.normal(jax.random.key(1), (3, 2, 8, 8, 4))
    params = jax.vmap(lambda key: conv.init(key, images[0]))(jax.random.split(jax.random.key(0), 3))
    grad = jax.grad(lambda p, x: jnp.sum(jnp.sin(conv.apply(p, x))))
    together = jax.vmap(grad)(params, images)
    for i in range(3):
        own = jax.tree.map(lambda x, i=i: x[i], params)
        alone = grad(own, images[i])["params"]["kernel"]
        np.testing.assert_allclose(together["params"]["kernel"][i], alone, atol=1e-5)


@pytest.mark.parametrize("size", [pytest.param((12, 16), marks=pytest.mark.slow), (13, 9)])
@pytest.mark.parametrize(("window", "strides", "padding"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1), (2, 1, 0)])
def test_pooling_is_that_of_the_library(size, window, strides, padding):
    images = jax.random.normal(jax.random.key(2), (2, *size, 3))
    pads = ((padding, padding), (padding, padding))
    steps = ((window, window), (strides, strides), pads)
    pairs = {
        "max": (lambda x: max_pool(x, window, strides, padding), lambda x: nn.max_pool(x, *steps)),
        "counted": (lambda x: avg_pool(x, window, strides, padding), lambda x: nn.avg_pool(x, *steps)),
        "not counted": (
            lambda x: avg_pool(x, window, strides, padding, counts_padding=False),
            lambda x: nn.avg_pool(x, *steps, count_include_pad=False),
        ),
    }
    for name, (ours, reference) in pairs.items():
        np.testing.assert_allclose(ours(images), reference(images), atol=1e-6, err_msg=name)
        grads = [jax.grad(lambda x, f=f: jnp.sum(jnp.sin(f(x))))(images) for f in (ours, reference)]
        np.testing.assert_allclose(*grads, atol=1e-6, err_msg=name)
        assert ours(images.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("case", ["3x3", "same with stride", "1x7"])
def test_in_a_compiled_loop_every_convolution_is_in_the_order_of_the_library(case):
    """XLA's convolutions on a CPU are quick in this order alone, and inside a loop it does not reorder the axes."""
    kernel_size, strides, padding, _, features = CASES[case]
    conv = Conv(features, kernel_size, strides, padding)
    images = jax.random.normal(jax.random.key(0), (2, 13, 9, 4))
    params = conv.init(jax.random.key(0), images)
    gradients = jax.grad(lambda p, x: jnp.sum(jnp.sin(conv.apply(p, x))), (0, 1))

    def step(carry, _):
        changes = gradients(*carry)
        return jax.tree.map(lambda old, change: old - 0.1 * change, carry, changes), None

    program = jax.jit(lambda *carry: lax.scan(step, carry, length=3)[0]).lower(params, images).compile().as_text()
    orders = re.findall(r"dim_labels=(\S+?),? ", program)
    assert len(orders) >= 3, "the convolution and its two gradients"
    assert set(orders) == {"b01f_01io->b01f"}


def test_convolution_maps_over_members():
    conv = Conv(5, (3, 3), 2, 1)
    images = jax.random.normal(jax.random.key(1), (3, 2, 8, 8, 4))
    params = jax.vmap(lambda key: conv.init(key, images[0]))(jax.random.split(jax.random.key(0), 3))
    grad = jax.grad(lambda p, x: jnp.sum(jnp.sin(conv.apply(p, x))), (0, 1))
    together = jax.vmap(grad)(params, images)
    for i in range(3):
        alone = grad(jax.tree.map(lambda x, i=i: x[i], params), images[i])
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-5), together, alone)
