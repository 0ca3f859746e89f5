"""What ConvNeXt V2 adds: global response normalisation, by hand and where there is nothing to normalise."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fpclass.models.architectures.convnext import GlobalResponseNorm

RNG = np.random.default_rng(0)


def test_channels_are_weighed_by_their_norm_over_the_image():
    """Each image by itself, relative to the mean norm of its channels."""
    images = RNG.standard_normal((2, 3, 5, 4)).astype(np.float32) * [1, 2, 3, 4]
    scale, bias = RNG.standard_normal((2, 4))
    ours = GlobalResponseNorm().apply({"params": {"scale": scale, "bias": bias}}, images)
    for image, result in zip(images, ours, strict=True):
        norms = np.linalg.norm(image.reshape(15, 4), axis=0)
        np.testing.assert_allclose(result, image + bias + scale * image * norms / norms.mean(), rtol=1e-5, atol=1e-5)


def test_an_empty_image_leaves_the_gradient_of_the_others_alone():
    """It fills up a last batch, and does not count: a gradient that is no number would count."""
    images = jnp.zeros((2, 3, 5, 4)).at[0].set(1.0)
    params = {"scale": jnp.ones(4), "bias": jnp.ones(4)}
    loss = lambda params, images: (GlobalResponseNorm().apply({"params": params}, images)[0] ** 2).sum()
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, images)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert np.abs(gradients[1][0]).min() > 0
