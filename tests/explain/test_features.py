"""Features: what the last layer reads, the nearest by their angle, an embedding, the first filters."""

import jax
import numpy as np
import pytest

from fpclass.errors import ConfigError
from fpclass.explain.features.embedding import MIN_TSNE, embed, first_filters, last_features, nearest
from fpclass.models.architectures.cnn import CNN


def test_features_are_what_the_logits_are_made_of():
    model = CNN(num_classes=3, image_size=(20, 20), conv_features=(4,), dense_features=(7,), conv_form="direct")
    images = jax.random.normal(jax.random.key(1), (2, 20, 20, 1))
    variables = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(images)
    features = np.asarray(jax.jit(lambda x: last_features(model, variables, x))(images))
    of_logits = variables["params"]["logits"]
    assert features.shape == (2, 7)
    logits = jax.jit(lambda x: model.apply(variables, x, train=False))(images)
    np.testing.assert_allclose(features @ of_logits["kernel"] + of_logits["bias"], logits, rtol=1e-4, atol=1e-6)
    name, filters = first_filters(model, variables, 1)
    assert name == "conv1"
    assert filters.shape == (4, 5, 5, 1)
    assert first_filters(model, variables, 3) is None


def test_a_network_without_a_dense_layer_is_told_so():
    import flax.linen as nn

    class Sums(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return x.sum(axis=(1, 2))

    with pytest.raises(ConfigError, match="Sums has no dense layer"):
        last_features(Sums(), {}, np.zeros((1, 4, 4, 2)))


def test_nearest_is_by_the_angle():
    features = np.array([[1.0, 0], [3, 0.1], [-4, 0], [0, -0.1]])
    found = nearest(np.array([[9.0, 0.0]]), features, 2)
    assert found.positions.tolist() == [[0, 1]]
    assert found.similarities[0] == pytest.approx([1, 1], abs=0.01)


def test_an_embedding_keeps_groups_apart():
    """By its principal components; t-SNE takes more images, as of a whole run (test_map_commands.py)."""
    features = np.random.default_rng(0).normal(0, 1, (MIN_TSNE - 1, 6))
    features[:9] += 20
    ((name, plane),) = embed(features).items()
    assert name.startswith("PCA (")
    assert np.linalg.norm(plane[:9].mean(axis=0) - plane[9:].mean(axis=0)) > 40
    assert list(embed(features[:5, :1])) == ["PCA (100% of the variance)"]
