"""Stochastic depth of EfficientNet: from block to block, and of the blocks that V2 adds."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from fpclass.models.architectures import efficientnet
from fpclass.models.architectures.efficientnet import STYLES, FusedMBConv
from fpclass.models.network import Mode


@pytest.mark.parametrize("name", ["B0", "B2", "V2_S"])
def test_stochastic_depth_grows_by_one_step_from_block_to_block(name):
    layout = getattr(efficientnet, name)
    features = efficientnet.efficientnet(layout, STYLES["torchvision"]).features
    rates = [m.stochastic_depth_rate for m in features if hasattr(m, "stochastic_depth_rate")]
    assert len(rates) == {"B0": 16, "B2": 23, "V2_S": 40}[name]
    np.testing.assert_allclose(rates, np.arange(len(rates)) * 0.2 / len(rates))


@pytest.mark.parametrize("expansion", [1, 4])
def test_a_fused_block_drops_its_branch_image_by_image(expansion):
    """What is left keeps the expectation: with a rate of a half the branch counts twice, or not at all."""
    images = np.random.default_rng(0).standard_normal((16, 5, 7, 8)).astype(np.float32)
    block = FusedMBConv(8, 3, 1, expansion, STYLES["torchvision V2"], 0.5)
    variables = block.init(jax.random.key(0), images[:1], Mode())
    branch = np.asarray(block.apply(variables, images, Mode())) - images
    mode = Mode(train=True, batch_norm="frozen_stats")
    trained = np.asarray(block.apply(variables, images, mode, rngs={"dropout": jax.random.key(1)})) - images
    kept = [not np.allclose(one, 0) for one in trained]
    assert 0 < sum(kept) < len(kept)
    np.testing.assert_allclose(trained, 2 * branch * np.reshape(kept, (-1, 1, 1, 1)), atol=1e-5)
