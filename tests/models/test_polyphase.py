"""The polyphase form against the direct one: lax.conv, ReLU and flax's max-pool."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from fpclass.models import polyphase
from fpclass.models.polyphase import conv_relu_pool


def direct(x, kernel, bias):
    y = lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return nn.max_pool(nn.relu(y + bias), (2, 2), (2, 2))


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def arguments(n=4, h=14, w=12, c=2, size=5, f=3, lead=(), seed=0):
    """x, kernel, bias with leading axes of their own: lead[0] for x, lead[1] for kernel and bias."""
    x_lead, kernel_lead = lead or ((), ())
    return draw(seed, (*x_lead, n, h, w, c), (*kernel_lead, size, size, c, f), (*kernel_lead, f))


@partial(jax.jit, static_argnums=0)
def with_gradients(function, *args):
    """The value, and the gradients of a fixed weighting of it in every argument."""
    value, pull_back = jax.vjp(function, *args)
    weights = np.random.default_rng(99).normal(size=value.shape)
    return value, *pull_back(jnp.asarray(weights, value.dtype))


def assert_close(got, expected):
    for g, e in zip(got, expected, strict=True):
        assert g.shape == e.shape
        assert g.dtype == e.dtype
        np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-5 * max(1.0, float(jnp.abs(e).max())))


@settings(deadline=None, max_examples=5)
@given(data=st.data())
def test_equals_the_direct_form_in_value_and_gradient(data):
    size = data.draw(st.integers(1, 6), label="kernel size")
    n, c, f = (data.draw(st.integers(1, high), label=name) for name, high in (("n", 9), ("c", 6), ("f", 3)))
    h, w = (data.draw(st.integers(size + 1, size + 8), label=name) for name in "hw")
    args = arguments(n, h, w, c, size, f, seed=data.draw(st.integers(0, 99), label="seed"))
    assert_close(with_gradients(conv_relu_pool, *args), with_gradients(direct, *args))


def test_footprint_layers_in_sequence():
    x, kernel1, bias1 = arguments(16, 120, 80, 1, 5, 6)
    _, kernel2, bias2 = arguments(1, 6, 6, 6, 5, 16)

    def twice(layer):
        return lambda x, k1, b1, k2, b2: layer(layer(x, k1, b1) / 5, k2, b2)

    args = (x, kernel1, bias1, kernel2, bias2)
    got = jax.jit(lambda *a: with_gradients(twice(conv_relu_pool), *a))(*args)
    assert got[0].shape == (16, 27, 17, 16)
    assert_close(got, with_gradients(twice(direct), *args))


@pytest.mark.parametrize(
    ("lead", "axes"),
    [
        (((2,), ()), (0, None, None)),
        (((), (2,)), (None, 0, 0)),
        (((2,), (2,)), (0, 0, 0)),
    ],
    ids=["images", "kernels", "all"],
)
def test_vmap_over_members(lead, axes):
    args = arguments(lead=lead)

    def members(layer):
        return jax.vmap(lambda *a: with_gradients(layer, *a), in_axes=axes)

    got = jax.jit(members(conv_relu_pool))(*args)
    assert_close(got, jax.jit(members(direct))(*args))
    alone = with_gradients(conv_relu_pool, *(a if axis is None else a[1] for a, axis in zip(args, axes, strict=True)))
    assert_close([g[1] for g in got], alone)


def test_gradient_of_the_sum_over_members():
    """Differentiating through vmap is another path than vmapping the gradient."""
    args = arguments(lead=((3,), (3,)))
    got, expected = (with_gradients(jax.vmap(layer), *args) for layer in (conv_relu_pool, direct))
    assert_close(got, expected)


@pytest.mark.parametrize(("num_images", "part"), [(1, 1), (7, 7), (11, 1), (12, 6), (32, 8)])
def test_the_parts_of_a_batch_do_not_matter(num_images, part):
    if jax.default_backend() == "cpu":
        assert polyphase._examples_per_part(num_images) == part
    args = arguments(n=num_images, c=1)
    assert_close(with_gradients(conv_relu_pool, *args), with_gradients(direct, *args))


def test_ties_give_the_gradient_to_the_first_position():
    """White paper: all four outputs are equal, exactly so by kernels of whole 64ths, in whatever order they are added.

    A split or doubled gradient would show in x.
    """
    x = jnp.ones((1, 8, 8, 1))
    _, kernel, _ = arguments(c=1, f=2)
    args = (x, jnp.round(64 * jnp.abs(kernel)) / 64, jnp.array([0.5, -0.5]))
    assert_close(with_gradients(conv_relu_pool, *args), with_gradients(direct, *args))


def test_a_tie_across_the_diagonal_goes_to_the_upper_right():
    x = jnp.array([[0.0, 1.0], [1.0, 0.0]]).reshape(1, 2, 2, 1)
    gradient = jax.grad(lambda x: conv_relu_pool(x, jnp.ones((1, 1, 1, 1)), jnp.zeros(1)).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 1], [0, 0]])


def test_no_gradient_where_the_relu_is_off_or_at_its_edge():
    x, kernel, _ = arguments()
    off = with_gradients(conv_relu_pool, x, kernel, jnp.full(3, -1e4))
    at_zero = with_gradients(conv_relu_pool, x, jnp.zeros_like(kernel), jnp.zeros(3))
    for results in (off, at_zero):
        for array in results:
            assert not array.any()


def test_a_nan_stays_visible():
    x, kernel, bias = arguments()
    x[0, 7, 6, 0] = np.nan
    assert jnp.isnan(conv_relu_pool(x, kernel, bias)[0]).any()


def test_keeps_half_precision():
    args = [a.astype(jnp.bfloat16) for a in arguments()]
    got, expected = (with_gradients(f, *args) for f in (conv_relu_pool, direct))
    assert {g.dtype for g in got} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(got[0].astype(np.float32), expected[0].astype(np.float32), rtol=0.05, atol=0.2)


def test_mixed_precision_is_differentiable():
    x, kernel, bias = arguments()
    got = with_gradients(conv_relu_pool, x.astype(jnp.bfloat16), kernel, bias)
    expected = with_gradients(direct, x.astype(jnp.bfloat16).astype(jnp.float32), kernel, bias)
    assert [g.dtype for g in got] == [jnp.float32, jnp.bfloat16, jnp.float32, jnp.float32]
    assert_close([got[0], *got[2:]], [expected[0], *expected[2:]])


def test_too_small_images_are_refused():
    x, kernel, bias = arguments(h=5, w=12)
    with pytest.raises(ValueError, match=r"\(5, 12\) are too small"):
        conv_relu_pool(x, kernel, bias)
