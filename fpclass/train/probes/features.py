"""Pooled features: what a probe knows of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fpclass.config import Config
from fpclass.data.decode import Images
from fpclass.models.network import HEAD, Network
from fpclass.models.probe import features_of
from fpclass.train.inputs.feature_cache import FrozenStages, Views, kept_or_computed
from fpclass.train.predict import make_views


def pooled_features(
    images: Images, network: Network, variables: dict[str, Any], config: Config, folder: Path | None
) -> Float[np.ndarray, "N d"]:
    """What a probe knows of images: moments or covariances of its stages, averaged over the views of `config.predict`.

    Args:
      images: uint8 [N, H, W, C]; those on disk are read batch by batch.
      network: with a `ProbeHead`; its batch norm uses the running statistics of `variables`, whose head is not read.
      folder: of features of earlier starts, which those of this one are added to; None: nothing is kept.

    Returns:
      Features, float32.
    """
    head: Any = network.head
    stages = pooled_stages(images, network, variables, config)
    return kept_or_computed(stages, 1, f"of {', '.join(head.stages)}", folder)[:, 0]


def pooled_stages(images: Images, network: Network, variables: dict[str, Any], config: Config) -> FrozenStages:
    """What `pooled_features` puts images through."""
    model, views = features_of(network), make_views(config.predict)

    def pooled(variables: Any, plain: Any) -> Any:
        seen: Any = model.apply(variables, jnp.concatenate([view(plain) for view in views]), train=False)
        return seen.astype(jnp.float32).reshape(len(views), len(plain), -1).mean(axis=0)

    return FrozenStages(pooled, without_head(variables), Views(images, None, config), config.model.compute_dtype)


def without_head(variables: dict[str, Any]) -> dict[str, Any]:
    """The variables of a network but for its head's: those that a probe's features depend on."""
    return {
        kind: {stage: tree for stage, tree in of_kind.items() if stage != HEAD} for kind, of_kind in variables.items()
    }
