"""Members that predict together: one program where only their heads differ, and the numbers of each alone."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from fpclass.config import base_config
from fpclass.models.network import HEAD, variable_shapes
from fpclass.train import trained
from fpclass.train.trained import Siblings, TrainedNetwork, split_head

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def probe() -> TrainedNetwork:
    """A probe of a small network."""
    config = base_config()
    config.model.name, config.model.head, config.model.conv_features = "blocks", "probe", (4, 8)
    config.data.channels, config.data.image_size = 3, (32, 32)
    return TrainedNetwork(config, 2, dict)


def drawn(network: TrainedNetwork, seed: int, seed_of_head: int) -> dict:
    """Variables of a network: random, not negative, small."""
    shapes = variable_shapes(network.model, (32, 32, 3))
    like = {kind: shapes.get(kind, {}) for kind in ("params", "batch_stats")}

    def draw(path, leaf):
        is_head = any(getattr(key, "key", "") == HEAD for key in path)
        rng = np.random.default_rng([seed_of_head if is_head else seed, len(str(path)), leaf.size])
        return rng.uniform(0, 0.1, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, like)


def logits_of(siblings: Siblings) -> np.ndarray:
    """Of the images, [M, n, K]."""
    found = np.zeros((len(siblings.networks), len(IMAGES), 2), np.float32)
    for which, batches in siblings.launch(IMAGES, 4):
        found[which] = np.concatenate(batches, axis=1)[:, : len(IMAGES)]
    return found


def test_probes_of_one_network_are_one_program(probe):
    members = [probe.with_weights(lambda i=i: drawn(probe, 0, i)) for i in range(3)]
    together = Siblings(members)
    found = logits_of(together)
    (launched,) = together.launch(IMAGES, 4)
    assert launched[0] == slice(None)
    alone = np.concatenate([logits_of(Siblings([member])) for member in members])
    np.testing.assert_allclose(found, alone, rtol=1e-5)
    assert np.ptp(found, axis=0).min() > 1e-3, "heads that differ"
    rest, _ = split_head(members[0].variables)
    assert together.joined is not None
    assert all(a is b for a, b in zip(jax.tree.leaves(together.joined[0]), jax.tree.leaves(rest), strict=True))
    members = [members[0], probe.with_weights(lambda: drawn(probe, 1, 1))]
    assert [which for which, _ in Siblings(members).launch(IMAGES)] == [slice(0, 1), slice(1, 2)]


@pytest.mark.parametrize("num_members", [1, 3])
def test_rows_of_decoded_images_are_predicted_in_turns(probe, monkeypatch, num_members):
    """By all members, in the order of the rows, which may name an image twice; and the images pass the network once."""
    monkeypatch.setattr(trained, "IN_TURN", 3)
    together = Siblings([probe.with_weights(lambda i=i: drawn(probe, 0, i)) for i in range(num_members)])
    rows, seen = np.array([4, 0, 2, 2, 1, 3, 0]), []

    class Decoded:
        def __getitem__(self, rows):
            seen.extend(rows.tolist())
            return IMAGES[rows]

    found = together.predict(Decoded(), rows)
    assert (found.shape, found.dtype) == ((num_members, len(rows), 2), np.float32)
    np.testing.assert_allclose(found, logits_of(together)[:, rows], rtol=1e-5)
    assert seen == rows.tolist()
    assert together.predict(IMAGES, rows[:0]).shape == (num_members, 0, 2)
