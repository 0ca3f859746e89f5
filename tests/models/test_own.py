"""Convolutions of the user's own networks: the sums of Flax, with gradients that a compiled loop does not slow down."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpclass.models.own import OwnNetwork


class Net(nn.Module):
    conv: tuple

    @nn.compact
    def __call__(self, x, train):
        options = dict(self.conv)
        return nn.Conv(6, (3, 3), **options)(x).mean((1, 2))


@pytest.mark.parametrize(
    ("options", "is_ours"),
    [
        ({}, True),
        ({"strides": 2, "padding": "VALID"}, True),
        ({"padding": ((0, 1), (2, 1)), "use_bias": False}, True),
        ({"feature_group_count": 6}, True),
        ({"feature_group_count": 3}, False),
        ({"kernel_dilation": 2}, False),
        ({"strides": (1, 2)}, False),
    ],
    ids=str,
)
def test_a_convolution_of_ones_own_has_our_gradients_where_they_can_be_had(options, is_ours):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 6))
    net = Net(tuple(options.items()))
    own = OwnNetwork(net)
    variables = net.init(jax.random.key(1), x, train=True)
    assert jax.tree.structure(own.init(jax.random.key(1), x, train=True)) == jax.tree.structure(variables)

    def loss_of(model):
        return lambda variables, x: jnp.sum(jnp.sin(model.apply(variables, x, train=True)))

    ours, plain = (jax.value_and_grad(loss_of(model), (0, 1)) for model in (own, net))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours(variables, x), plain(variables, x)
    )
    assert ("custom_vjp" in str(jax.make_jaxpr(loss_of(own))(variables, x))) == is_ours
