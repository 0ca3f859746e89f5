"""GELU, attention and layer norm against their definitions: values, types, and the derivatives that are written out."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpclass.models.plain import plain_operations
from fpclass.models.transformer import LayerNorm, attention, gelu

BIASES = {"none": None, "head": (2, 5, 7), "all heads": (1, 5, 7), "window": (3, 2, 5, 7), "whole": (4, 3, 2, 5, 7)}


def normal(seed: int, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def same_gradients(function, definition, arguments, atol=1e-5) -> None:
    weights = normal(99, jax.eval_shape(definition, *arguments).shape)
    numbers = tuple(range(len(arguments)))
    found, expected = (
        jax.value_and_grad(lambda *args, of=of: jnp.sum(of(*args) * weights), numbers)(*arguments)
        for of in (function, definition)
    )
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=atol)


def test_gelu_far_out_and_near_zero() -> None:
    x = jnp.concatenate([jnp.linspace(-9, 9, 1001), jnp.array([0.0, -0.0, 1e-30, -40.0, 40.0])])
    same_gradients(gelu, lambda x: nn.gelu(x, approximate=False), (x,))
    np.testing.assert_allclose(gelu(x), nn.gelu(x, approximate=False), atol=1e-6)


@pytest.mark.parametrize("name", BIASES)
def test_attention_and_its_gradients(name: str) -> None:
    shapes = [(4, 3, 5, 2, 6), (4, 3, 7, 2, 6), (4, 3, 7, 2, 6)]
    arguments = [normal(i, shape) for i, shape in enumerate(shapes)]
    if BIASES[name] is not None:
        arguments.append(normal(9, BIASES[name]))

    def definition(query, key, value, bias=0.0):
        logits = jnp.einsum("...qhd,...khd->...hqk", query, key) / np.sqrt(6) + bias
        y = jnp.einsum("...hqk,...khd->...qhd", jax.nn.softmax(logits), value)
        return y.reshape(*y.shape[:-2], -1)

    same_gradients(attention, definition, arguments)


@pytest.mark.parametrize(("mean", "atol"), [(0.0, 1e-5), (1000.0, 1e-3)])
def test_layer_norm_and_its_gradients(mean: float, atol: float) -> None:
    x, scale, bias = mean + normal(0, (3, 4, 8)), normal(1, (8,)), normal(2, (8,))

    def norm_of(module):
        return lambda x, scale, bias: module.apply({"params": {"scale": scale, "bias": bias}}, x)

    same_gradients(
        norm_of(LayerNorm(1e-5)), norm_of(nn.LayerNorm(1e-5, use_fast_variance=False)), (x, scale, bias), atol
    )


def test_all_of_them_keep_a_narrow_type_and_compute_in_a_wide_one() -> None:
    wide = [normal(i, (2, 5, 2, 16)) for i in range(3)]
    narrow = [x.astype(jnp.bfloat16) for x in wide]
    norm = LayerNorm()
    params = norm.init(jax.random.key(0), wide[0])
    for function, arguments in ((gelu, 1), (attention, 3), (lambda x: norm.apply(params, x), 1)):
        value, pull = jax.vjp(function, *narrow[:arguments])
        gradients = pull(jnp.ones_like(value))
        assert {value.dtype, *(of.dtype for of in gradients)} == {jnp.dtype(jnp.bfloat16)}
        np.testing.assert_allclose(value.astype(jnp.float32), function(*wide[:arguments]), atol=0.05)


def test_gelu_of_bfloat16_is_rounded_once() -> None:
    x = normal(0, (4096,)).astype(jnp.bfloat16)
    wide = x.astype(jnp.float32)
    assert (gelu(x) == gelu(wide).astype(jnp.bfloat16)).all()
    gradient, exact = (jax.grad(lambda x: gelu(x).astype(jnp.float32).sum())(x) for x in (x, wide))
    assert (gradient == exact.astype(jnp.bfloat16)).all()


def test_in_plain_operations_they_are_the_same() -> None:
    x = [normal(i, (2, 5, 2, 16)) for i in range(3)]
    norm = LayerNorm()
    params = norm.init(jax.random.key(0), x[0])
    for function, arguments in ((gelu, 1), (attention, 3), (lambda x: norm.apply(params, x), 1)):
        with plain_operations():
            plain = function(*x[:arguments])
            assert "custom_vjp" not in str(jax.make_jaxpr(function)(*x[:arguments]))
        np.testing.assert_allclose(plain, function(*x[:arguments]), atol=1e-5)
