"""The architectures by name. A builder takes the section `model` of the config and what the data decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from fpclass.config import Config
from fpclass.errors import ConfigError
from fpclass.models.cnn import CNN
from fpclass.models.layers import fast_conv_form


def build_cnn(model_config: Config, num_classes: int, image_size: tuple[int, int]) -> nn.Module:
    """The footprint CNN with the variant that the config describes.

    Raises:
      ConfigError: images so small that nothing is left after the convolutions.
    """
    form = model_config.conv_form
    smallest = min(image_size)
    for _ in model_config.conv_features:
        smallest = (smallest - 4) // 2
    if smallest < 1:
        raise ConfigError(
            f"data.image_size is {tuple(image_size)}: too small for the {len(model_config.conv_features)} convolutions "
            "of model.conv_features, each of which halves it"
        )
    return CNN(
        num_classes=num_classes,
        image_size=(image_size[0], image_size[1]),
        conv_features=tuple(model_config.conv_features),
        dense_features=tuple(model_config.dense_features),
        dropout_rate=model_config.dropout_rate,
        batch_norm=model_config.batch_norm,
        head=model_config.head,
        squeeze_excitation=model_config.squeeze_excitation,
        conv_form=fast_conv_form() if form == "auto" else form,
    )


MODELS: dict[str, Callable[[Any, int, tuple[int, int]], nn.Module]] = {"cnn": build_cnn}


def build_model(model_config: Config, num_classes: int, image_size: tuple[int, int]) -> nn.Module:
    """Builds the architecture that `model.name` names.

    Args:
      model_config: the section `model` of the config.
      num_classes: K.
      image_size: (height, width) in pixels.

    Raises:
      ConfigError: no such architecture.
    """
    if model_config.name not in MODELS:
        raise ConfigError(f"model.name is {model_config.name!r}: expected one of {', '.join(MODELS)}")
    return MODELS[model_config.name](model_config, num_classes, image_size)
