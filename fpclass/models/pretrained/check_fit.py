"""Whether the arrays of a file fit the network that they are said to be of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fpclass.models.network import HEAD, DenseHead, Network, variable_shapes
from fpclass.models.pretrained.load import load_weights, resized_for
from fpclass.models.pretrained.manifest import Weights
from fpclass.models.registry import published


def check_fit(arrays: Mapping[str, np.ndarray], entry: Weights, where: str) -> None:
    """Loads arrays into the whole network of an entry, at its published image size.

    Raises:
      WeightsError: lists what does not fit.
    """
    architecture = published(entry.architecture)
    backbone, variant = architecture.stages(entry.variant), architecture.variant(entry.variant)
    head = DenseHead(entry.num_classes or 1, pool="none", name=HEAD)
    network = Network(stages=(*backbone.features, *backbone.classifier), head=head)
    load_weights(
        arrays,
        variant.rules_for(arrays),
        variable_shapes(network, (*entry.image_size, 3)),
        where=f"{where} as {entry.name}",
        left_out=(*entry.left_out, *(() if entry.num_classes else (HEAD,))),
        stem_kernel=backbone.stem_kernel,
        is_bgr=entry.is_bgr,
        resize=resized_for(backbone, entry.image_size),
    )
