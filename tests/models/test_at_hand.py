"""What many operations read is computed once, and a long sum in one operation: of the programs for a CPU."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpclass.models import at_hand as module
from fpclass.models import depthwise, normalisation, transformer
from fpclass.models.architectures.convnext import Block as ConvBlock
from fpclass.models.architectures.vit import EncoderBlock
from fpclass.models.at_hand import at_hand, gradient_at_hand
from fpclass.models.layers import BatchNorm, Conv
from fpclass.models.network import Network


class ConvNormRelu(nn.Module):
    """A 1x1 convolution, whose gradient by the kernel turns the gradient by its result."""

    @nn.compact
    def __call__(self, x, mode):
        y = BatchNorm()(Conv(x.shape[-1], (1, 1))(x), train=mode.train)
        return nn.relu(y + x)


def compiled_gradient(make: Callable[[int], nn.Module], num_blocks: int, shape: tuple[int, ...]) -> Any:
    """The program of the gradient by the parameters of so many blocks, and the gradient."""
    model = Network(tuple(make(i) for i in range(num_blocks)))
    x = jax.random.normal(jax.random.key(0), shape)
    variables = model.init(jax.random.key(1), x, train=False)

    def loss(params):
        y, _ = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.sum(y**2)

    compiled = jax.jit(jax.grad(loss)).lower(variables["params"]).compile()
    gradient = compiled(variables["params"])
    return compiled, np.concatenate([np.ravel(of) for of in jax.tree.leaves(gradient)])


def most_read(compiled: Any) -> int:
    """Of all fused operations the largest number of arrays that one reads."""
    return max(reads.count("%") for reads in re.findall(r" fusion\(([^)]*)\)", compiled.as_text()))


def test_no_operation_reads_what_all_later_blocks_of_a_transformer_give(monkeypatch: pytest.MonkeyPatch) -> None:
    def vit(num_blocks: int) -> Any:
        return compiled_gradient(lambda i: EncoderBlock(2, name=f"block{i}"), num_blocks, (4, 8, 16))

    program, gradient = vit(12)
    assert most_read(program) <= most_read(vit(5)[0]) + 2
    monkeypatch.setattr(transformer, "gradient_at_hand", lambda x: x)
    plainly = lambda *args: normalisation._layer_forward(*args)[0]
    monkeypatch.setattr(transformer, "layer_normalised", plainly)  # automatically differentiated
    without, same = vit(12)
    assert most_read(without) > 2 * most_read(program)
    np.testing.assert_allclose(gradient, same, rtol=1e-3, atol=1e-4)


def num_turned(compiled: Any) -> int:
    """Operations that write a transposed copy of something which they compute from several arrays."""
    turned = re.findall(r" %?\w*copy\w*_fusion[.\d]* = [^(]* fusion\(([^)]*)\)", compiled.as_text())
    return sum(reads.count("%") > 2 for reads in turned)


def test_what_batch_norm_passes_on_is_not_computed_again_to_be_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    def cnn() -> Any:
        return compiled_gradient(lambda i: ConvNormRelu(name=f"block{i}"), 3, (16, 14, 14, 64))

    program, gradient = cnn()
    assert num_turned(program) == 0
    monkeypatch.setattr(normalisation, "at_hand", lambda x: x)
    without, same = cnn()
    assert num_turned(without) > 0
    np.testing.assert_array_equal(gradient, same)


def test_the_sum_of_a_depthwise_convolution_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def convnext() -> Any:
        return compiled_gradient(lambda i: ConvBlock(name=f"block{i}"), 1, (2, 8, 8, 16))

    program, gradient = convnext()
    monkeypatch.setattr(depthwise, "at_hand", lambda x: x)
    without, same = convnext()
    num_taps = [each.as_text().count(" slice(") for each in (program, without)]
    assert num_taps[0] < 0.5 * num_taps[1], "layer norm reads it several times"
    np.testing.assert_allclose(gradient, same, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(1,), (3, 1), (2, 3, 4)])
@pytest.mark.parametrize("function", [at_hand, gradient_at_hand])
def test_any_shape_keeps_its_value_and_gradient(function: Callable, shape: tuple[int, ...]) -> None:
    x = jax.random.normal(jax.random.key(0), shape)
    np.testing.assert_array_equal(jax.jit(function)(x), x)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(function(x) ** 3)))(x)
    np.testing.assert_allclose(gradient, 3 * x**2, rtol=1e-6)


@pytest.mark.parametrize("function", [at_hand, gradient_at_hand])
def test_on_an_accelerator_it_is_nothing(function: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.jax, "default_backend", lambda: "tpu")
    assert not jax.make_jaxpr(function)(jnp.ones(3)).jaxpr.eqns
