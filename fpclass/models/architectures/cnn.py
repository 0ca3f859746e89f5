"""The footprint CNN and its variants: one module whose fields are the ideas of the ten experiments."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from fpclass.config import Config
from fpclass.errors import ConfigError
from fpclass.models.architecture import Architecture
from fpclass.models.layers import BatchNorm, ConvReluPool, Logits, SqueezeExcitation, conv_form, dense
from fpclass.models.network import Path, hidden_dense


class CNN(nn.Module):
    """Convolutions with ReLU and max-pool, then dense layers.

    With its defaults on (120, 80) x 1 this is the baseline: 894,306 parameters.

    Attributes:
      image_size: (height, width) in pixels of the images it accepts.
      dropout_rate: share of the features that is dropped in training, before the first dense layer.
      batch_norm: normalise after the ReLU of the first hidden dense layer.
      head: "flatten" or "gap" (global average pooling: the dense layers see channels only).
      squeeze_excitation: reduction ratio of the channel weights after each convolution with its pool; 0 for none.
      conv_form: "polyphase" or "direct", see `ConvReluPool`; or "last_direct": the last one alone is direct.

    Stages: conv1/conv, conv1/relu, conv1/pool, squeeze_excitation1/scaled, conv2/conv, … (conv and relu in the direct
    form only).

    Source: LeNet-5's layout (LeCun et al., Proc. IEEE 1998).
    """

    num_classes: int
    image_size: tuple[int, int]
    conv_features: tuple[int, ...] = (6, 16)
    kernel_size: int = 5
    dense_features: tuple[int, ...] = (120, 84)
    dropout_rate: float = 0.0
    batch_norm: bool = False
    head: str = "flatten"
    squeeze_excitation: int = 0
    conv_form: str = "polyphase"
    output: str = "softmax"
    subclasses: tuple[int, ...] = ()

    @property
    def cam_stage(self) -> str:
        """The stage that Grad-CAM looks at unless told otherwise: the last convolution, rectified.

        Before the ReLU the maps of this network are mostly empty: large negative activations, which go no further,
        would outweigh what the class was decided on.
        """
        return f"conv{len(self.conv_features)}/relu"

    @property
    def hidden_dense(self) -> tuple[Path, ...]:
        """Paths, below `params`, of the kernels of the hidden dense layers."""
        return hidden_dense(self.dense_features)

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool, mask: Bool[Array, " n"] | None = None
    ) -> Float[Array, "n k"]:
        """Computes logits; (h, w) must be `image_size`: 80 x 120 would flatten to the same length as 120 x 80.

        Raises:
          ValueError: images of another size.
        """
        if x.shape[1:3] != self.image_size:
            raise ValueError(f"images of (height, width) {x.shape[1:3]} in a CNN for {self.image_size}")
        for i, features in enumerate(self.conv_features, start=1):
            form = self.conv_form
            if form == "last_direct":
                form = "direct" if i == len(self.conv_features) else "polyphase"
            x = ConvReluPool(features, self.kernel_size, form=form, name=f"conv{i}")(x)
            if self.squeeze_excitation:
                x = SqueezeExcitation(self.squeeze_excitation, name=f"squeeze_excitation{i}")(x)
        x = x.mean(axis=(1, 2)) if self.head == "gap" else x.reshape(x.shape[0], -1)
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        for i, features in enumerate(self.dense_features, start=1):
            x = nn.relu(dense(features, f"dense{i}")(x))
            if self.batch_norm and i == 1:
                x = BatchNorm(name="batch_norm")(x, train=train, mask=mask)
        return Logits(self.num_classes, self.output, self.subclasses, name="logits")(x, train=train)


def build(model_config: Config, num_classes: int, image_size: tuple[int, int]) -> CNN:
    """The footprint CNN with the variant that the config describes.

    Raises:
      ConfigError: images so small that nothing is left after the convolutions, or a head that it does not have.
    """
    if model_config.head == "moments":
        raise ConfigError("model.head is 'moments': that is for networks of stages; the cnn takes flatten or gap")
    smallest = min(image_size)
    for _ in model_config.conv_features:
        smallest = (smallest - model_config.kernel_size + 1) // 2
    if smallest < 1:
        raise ConfigError(
            f"data.image_size is {tuple(image_size)}: too small for the {len(model_config.conv_features)} convolutions "
            "of model.conv_features, each of which halves it"
        )
    return CNN(
        num_classes=num_classes,
        image_size=(image_size[0], image_size[1]),
        conv_features=tuple(model_config.conv_features),
        kernel_size=model_config.kernel_size,
        dense_features=tuple(model_config.dense_features),
        dropout_rate=model_config.dropout_rate,
        batch_norm=model_config.batch_norm,
        head="flatten" if model_config.head == "own" else model_config.head,
        squeeze_excitation=model_config.squeeze_excitation,
        conv_form=conv_form(model_config.conv_form),
        output=model_config.output,
    )


ARCHITECTURES = (
    Architecture(
        "cnn",
        build,
        unread=("variant", "weights", "last_stage", "convs_per_block", "block_dropout_rate"),
        has_matrix_form=True,
    ),
)
