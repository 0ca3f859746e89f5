"""Products of bfloat16: what is rounded, and that gradients are those of the product."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpclass.models import products
from fpclass.models.layers import Conv
from fpclass.models.products import dense_product, matmul, wide_bias
from fpclass.models.transformer import SelfAttention


def drawn(*shape, key=0):
    return np.random.default_rng(key).standard_normal(shape, np.float32).astype(jnp.bfloat16)


@pytest.mark.parametrize("has_instructions", [True, False])
def test_sums_of_bfloat16_are_in_float32(monkeypatch, has_instructions):
    """A sum of 4,096 products is rounded once, at its end."""
    monkeypatch.setattr(products, "has_instructions", lambda: has_instructions)
    x, kernel = drawn(6, 4096), drawn(4096, 5, key=1)
    exact = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64)
    found = jax.jit(matmul)(x, kernel)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(found, np.float64), exact, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("features", [40, 90])
@pytest.mark.parametrize("has_instructions", [True, False])
def test_gradients_are_those_of_float32_to_the_digits_that_there_are(monkeypatch, has_instructions, features):
    monkeypatch.setattr(products, "has_instructions", lambda: has_instructions)
    x, kernel = drawn(2, 30, 64), drawn(64, features, key=1)

    def gradients(x, kernel):
        return jax.jit(jax.grad(lambda x, kernel: jnp.sum(jnp.sin(matmul(x, kernel).astype(jnp.float32))), (0, 1)))(
            x, kernel
        )

    expected = gradients(x.astype(jnp.float32), kernel.astype(jnp.float32))
    for found, exact in zip(gradients(x, kernel), expected, strict=True):
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(found.astype(np.float32), exact, atol=0.02 * np.abs(exact).max())


@pytest.mark.skipif(
    not products.has_instructions() or jax.default_backend() != "cpu", reason="no instructions for products of bfloat16"
)
@pytest.mark.parametrize("features", [256, 1024])
def test_a_step_of_a_dense_layer_multiplies_bfloat16_only(features):
    """Three products, none of which XLA makes of float32, and no sum in windows: it takes half the time."""
    layer = nn.Dense(
        features, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, dot_general=dense_product, promote_dtype=wide_bias
    )
    x = drawn(4, 512, 512)
    params = layer.init(jax.random.key(0), x)
    step = jax.jit(jax.grad(lambda params, x: jnp.sum(jnp.sin(layer.apply(params, x))), (0, 1)))
    text = step.lower(params, x).compile().as_text()
    products_of = re.findall(r" dot\(%?([\w.\-]+), %?([\w.\-]+)\)", text)
    types = [set(re.findall(rf"%?{re.escape(name)} = (\w+)\[", text)) for pair in products_of for name in pair]
    assert len(products_of) == 3
    assert all("bf16" in of for of in types), types
    assert "reduce-window" not in text


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (SelfAttention(3), (2, 49, 96)),
        (SelfAttention(2), (2, 4, 50, 16)),
        (Conv(24, (1, 1), use_bias=True), (2, 9, 7, 16)),
        (Conv(16, (5, 5), 2, 2, groups=16), (2, 13, 9, 16)),
        (Conv(8, (7, 7), 2, 3), (3, 21, 18, 3)),
    ],
    ids=["attention", "attention in windows", "1x1", "depthwise", "first layer"],
)
def test_layers_in_bfloat16_are_those_in_float32_to_its_digits(layer, shape):
    """Result and gradients; attention is compiled in one piece, in which XLA refuses some products of bfloat16."""
    x = drawn(*shape)
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), jax.jit(layer.init)(jax.random.key(1), x))

    def loss(params, x):
        y = layer.apply(params, x)
        return jnp.sum(jnp.sin(y.astype(jnp.float32))), y

    run = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
    narrow = run(params, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(narrow)} == {jnp.dtype(jnp.bfloat16)}
    wide = run(*jax.tree.map(lambda p: p.astype(jnp.float32), (params, x)))
    for (_, found), (place, expected) in zip(*map(jax.tree_util.tree_leaves_with_path, (narrow, wide)), strict=True):
        tolerance = 0.02 if place[0].idx else 0.1  # the result; gradients, of which some nearly cancel
        np.testing.assert_allclose(found.astype(np.float32), expected, atol=tolerance * np.abs(expected).max())
