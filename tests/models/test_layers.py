"""Batch norm with an explicit mode, and named stages."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpclass.models.layers import BatchNorm, stage
from fpclass.models.normalisation import batch_normalised

X = jax.random.normal(jax.random.key(0), (6, 5)) * 3 + 1


def apply(layer, variables, x, **kwargs):
    return layer.apply(variables, x, mutable=["batch_stats"], **kwargs)


def test_training_normalises_and_updates_as_pytorch_does():
    """PyTorch: momentum 0.1, biased variance to normalise, unbiased variance to remember."""
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), X, train=True)
    y, updated = apply(layer, variables, X, train=True)
    x = np.asarray(X, np.float64)
    np.testing.assert_allclose(y, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["var"], 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-5)


def test_initialisation_leaves_the_statistics_alone():
    variables = BatchNorm().init(jax.random.key(0), X, train=True)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.zeros(5))
    np.testing.assert_array_equal(variables["batch_stats"]["var"], np.ones(5))


def test_padding_does_not_count():
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), X, train=True)
    padded = jnp.concatenate([X, jnp.full((3, 5), 99.0)])
    y, updated = apply(layer, variables, padded, train=True, mask=jnp.arange(9) < 6)
    y_alone, updated_alone = apply(layer, variables, X, train=True)
    np.testing.assert_allclose(y[:6], y_alone, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updated, updated_alone)


def test_a_single_example_gives_numbers():
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), X, train=True)
    y, updated = apply(layer, variables, X, train=True, mask=jnp.arange(6) < 1)
    assert np.all(np.isfinite(y[:1]))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(updated))


@pytest.mark.parametrize("mode", ["frozen_stats", "frozen"])
def test_frozen_modes_use_and_keep_the_running_statistics(mode):
    layer = BatchNorm(mode=mode)
    variables = layer.init(jax.random.key(0), X, train=True)
    y, updated = apply(layer, variables, X, train=True)
    np.testing.assert_allclose(y, X / np.sqrt(1 + 1e-5), rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])


@pytest.mark.parametrize(("mode", "learns"), [("train", True), ("frozen_stats", True), ("frozen", False)])
def test_what_learns(mode, learns):
    layer = BatchNorm(mode=mode)
    variables = layer.init(jax.random.key(0), X, train=True)
    loss = lambda params: jnp.sum(apply(layer, {**variables, "params": params}, X, train=True)[0] ** 3)
    gradient = jax.grad(loss)(variables["params"])
    assert (np.abs(gradient["bias"]).max() > 0) == learns


class Staged(nn.Module):
    @nn.compact
    def __call__(self, x):
        return 3 * stage(self, "middle", 2 * x)


def test_stage_can_be_read_and_differentiated_by():
    x = jnp.ones((1, 2, 2, 1))
    zeros = {"middle": jnp.zeros_like(x)}
    run = lambda p: Staged().apply({"perturbations": p}, x, mutable=["stages"])
    np.testing.assert_array_equal(run(zeros)[1]["stages"]["middle"], 2 * x)
    gradient = jax.grad(lambda p: run(p)[0].sum())(zeros)
    np.testing.assert_array_equal(gradient["middle"], 3 * x)


def test_stage_costs_nothing_where_nobody_asks():
    np.testing.assert_array_equal(Staged().apply({}, jnp.ones((1, 2, 2, 1))), jnp.full((1, 2, 2, 1), 6.0))


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (6, 3)], ids=["maps", "features"])
@pytest.mark.parametrize("counted", [6, 4, 1], ids=["all", "some", "one"])
def test_the_derivative_of_batch_norm_is_that_of_its_definition(shape, counted):
    def defined(x, scale, bias, weights):
        w = weights.reshape(-1, *[1] * (x.ndim - 1)) * jnp.ones_like(x)
        axes = tuple(range(x.ndim - 1))
        mean = (x * w).sum(axes) / w.sum(axes)
        var = ((x - mean) ** 2 * w).sum(axes) / w.sum(axes)
        return (x - mean) / jnp.sqrt(var + 1e-3) * scale + bias, mean, var

    def loss(function, x, scale, bias):
        y, mean, var = function(x, scale, bias)
        return jnp.sum(jnp.sin(y)) + jnp.sum(jnp.cos(mean)) + jnp.sum(jnp.exp(var))  # of padding's results too

    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 3)
        args = [jax.random.normal(key, size, jnp.float64) for key, size in zip(keys, (shape, 3, 3), strict=True)]
        weights = (jnp.arange(6) < counted).astype(jnp.float64)
        values, gradients = zip(
            *(
                jax.value_and_grad(lambda *a, f=f: loss(f, *a), (0, 1, 2))(*args)
                for f in (
                    lambda x, scale, bias: batch_normalised(x, scale, bias, weights, 1e-3),
                    lambda x, scale, bias: defined(x, scale, bias, weights),
                )
            ),
            strict=True,
        )
        assert float(values[0]) == pytest.approx(float(values[1]), rel=1e-12)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), *gradients)
