"""The gradient of a chain of residual blocks is computed once at every block, not once more wherever it is read."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpclass.models import layers, network
from fpclass.models.architectures.vit import EncoderBlock
from fpclass.models.layers import gradient_at_hand
from fpclass.models.network import Network


def compiled_gradient(num_blocks: int) -> tuple[str, jax.Array]:
    """The program of the gradient by the parameters of so many blocks, and the gradient."""
    model = Network(tuple(EncoderBlock(2, name=f"block{i}") for i in range(num_blocks)))
    x = jax.random.normal(jax.random.key(0), (4, 8, 16))
    params = model.init(jax.random.key(1), x, train=False)["params"]
    compiled = (
        jax.jit(jax.grad(lambda p: jnp.sum(model.apply({"params": p}, x, train=True) ** 2))).lower(params).compile()
    )
    return compiled.as_text(), jnp.concatenate([of.ravel() for of in jax.tree.leaves(compiled(params))])


def most_read(program: str) -> int:
    """Of all fused operations the largest number of arrays that one reads."""
    return max(reads.count("%") for reads in re.findall(r" fusion\(([^)]*)\)", program))


def test_no_operation_reads_what_all_later_blocks_give(monkeypatch: pytest.MonkeyPatch) -> None:
    program, gradient = compiled_gradient(12)
    assert most_read(program) <= most_read(compiled_gradient(5)[0]) + 2
    monkeypatch.setattr(network, "gradient_at_hand", lambda x: x)
    without, same = compiled_gradient(12)
    assert most_read(without) > 2 * most_read(program)
    np.testing.assert_array_equal(gradient, same)


@pytest.mark.parametrize("shape", [(1,), (3, 1), (2, 3, 4)])
def test_any_shape_keeps_its_gradient(shape: tuple[int, ...]) -> None:
    x = jax.random.normal(jax.random.key(0), shape)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sum(gradient_at_hand(x) ** 3)))(x)
    np.testing.assert_allclose(value, jnp.sum(x**3), rtol=1e-6)
    np.testing.assert_allclose(gradient, 3 * x**2, rtol=1e-6)


def test_on_an_accelerator_it_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers.jax, "default_backend", lambda: "tpu")
    assert "custom_vjp" not in str(jax.make_jaxpr(gradient_at_hand)(jnp.ones(3)))
