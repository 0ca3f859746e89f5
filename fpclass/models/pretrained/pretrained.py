"""Published weights as the variables of a network of ours."""

from __future__ import annotations

from typing import Any

from fpclass.errors import ConfigError
from fpclass.models.network import HEAD, Network, variable_shapes
from fpclass.models.pretrained.load import load_weights, resized_for
from fpclass.models.pretrained.source import open_arrays
from fpclass.models.registry import published


def load_pretrained(
    weights: str,
    network: Network,
    input_shape: tuple[int, int, int],
    *,
    own: tuple[str, str] = ("", ""),
    new_stem: bool = False,
    with_head: bool = False,
) -> dict[str, Any]:
    """Loads a set of published weights for a network.

    Args:
      weights: name in the manifest, or a file.
      network: of the architecture and variant of these weights; it may end earlier, and have another head.
      input_shape: (height, width, channels) of its images; one channel gets the sum of the first kernel over colours.
      own: architecture and variant, "" for the usual one, of a file of the user's own, which says nothing of itself.
      new_stem: leave the first kernel out.
      with_head: load the published classifier too; its classes must be those of the network.

    Returns:
      params and batch_stats, without the head (unless asked for) and without what was left out.

    Raises:
      ConfigError: the file lacks hidden layers of the classifier that this network has.
      WeightsError: the weights cannot be had, or do not fit.
    """
    entry, arrays = open_arrays(weights)
    name, variant_name = (entry.architecture, entry.variant) if entry else own
    architecture = published(name)
    variant = architecture.variant(variant_name or architecture.variants[0].name)
    backbone = architecture.stages(variant.name)
    lacking = [name for name in network.stage_names if name in entry.left_out] if entry else []
    if lacking:
        raise ConfigError(
            f"model.weights {weights} has no {', '.join(lacking)}: give the network a head of its own, "
            "model.head=gap or model.head=flatten"
        )
    absent = [name for name in backbone.stage_names if name not in network.stage_names]
    left_out = [*absent, *([] if with_head else [HEAD]), *(["/".join(backbone.stem_kernel)] if new_stem else [])]
    return load_weights(
        arrays,
        variant.rules_for(arrays),
        variable_shapes(network, input_shape),
        where=f"{weights} ({name})" if weights != name else weights,
        left_out=left_out,
        stem_kernel=backbone.stem_kernel,
        is_bgr=entry.is_bgr if entry else False,
        resize=resized_for(backbone, input_shape[:2]),
    )
