"""The reference implementations, with random weights from a seed: what the ports are compared with.

Needs the extra `parity` (PyTorch, Keras), and torchvision and timm, which are installed with --no-deps.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import numpy as np
from backbone_cases import draw_array

os.environ.setdefault("KERAS_BACKEND", "jax")


def import_torchvision() -> Any:
    """torchvision beside a PyTorch without its compiled operators, of which no network here has need."""
    import torch

    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for signature in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", "qnms(Tensor a) -> Tensor"):
            library.define(signature)
        globals()["_library"] = library  # it undoes its definitions when it goes
    import torchvision

    return torchvision


def build_torch(reference: str, **options: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """A PyTorch network with drawn weights and without random behaviour in training, and its arrays by name."""
    import torch

    origin, _, name = reference.partition(":")
    torch.manual_seed(0)
    network = BUILDERS[origin](name, **options)
    arrays = {
        # What a position's index is follows from the window: it is no weight.
        key: value.numpy() if key.endswith("position_index") else draw_array(key, tuple(value.shape))
        for key, value in network.state_dict().items()
    }
    network.load_state_dict({key: torch.tensor(array) for key, array in arrays.items()})
    for module in network.modules():
        if "Dropout" in type(module).__name__ or "StochasticDepth" in type(module).__name__:
            module.p = 0.0
            module.eval()
            module.train = lambda mode=True, module=module: module  # stays as it is
    return network, arrays


def _torchvision(name: str, image_size: tuple[int, int] | None = None, **options: Any) -> Any:
    if image_size:
        options["image_size"] = image_size[0]  # ViT takes squares only
    return import_torchvision().models.get_model(name, weights=None, **options)


def import_timm() -> Any:
    """timm, which wants torchvision."""
    import_torchvision()
    import timm

    return timm


def _timm(name: str, image_size: tuple[int, int] | None = None, **options: Any) -> Any:
    """A network of timm with 1000 classes, and the details that its original has and timm leaves open."""
    if image_size:
        options["img_size"] = image_size
    if "siglip" in name:
        options["act_layer"] = "gelu_tanh"
    network = import_timm().create_model(name, num_classes=1000, **options)
    return with_class_position(network) if "reg4_dinov2" in name else network


def with_class_position(network: Any) -> Any:
    """DINOv2 with registers as Meta has it: the class token's position is among the positions, not added to the token.

    It is what timm's `_convert_dinov2` undoes when it reads Meta's files; test_vit.py compares with that.
    """
    import torch

    class DinoV2(type(network)):
        def _pos_embed(self, x: Any) -> Any:
            class_token = self.cls_token.expand(len(x), -1, -1)
            x = torch.cat([class_token, x], dim=1) + self.pos_embed
            return torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], dim=1)

    network.__class__ = DinoV2
    network.register_tokens = network.reg_token
    del network.reg_token
    _, t, c = network.pos_embed.shape
    network.pos_embed = torch.nn.Parameter(torch.zeros(1, 1 + t, c))
    return network


def _efficientnet_lite(name: str, **options: Any) -> Any:
    from efficientnet_lite_pytorch import EfficientNet

    # Without a size it pads as TensorFlow does, at any size; its stochastic depth is no module that could be silenced.
    return EfficientNet.from_name(name, image_size=None, drop_connect_rate=0.0, **options)


def _torchvision_inception(name: str, **options: Any) -> Any:
    """Inception-V3 whose auxiliary classifier has its arrays, but gives nothing: it needs 299 x 299 pixels to run."""
    network = _torchvision(name, transform_input=False, aux_logits=True, init_weights=False, **options)
    network.AuxLogits.forward = lambda x: None
    return network


BUILDERS: dict[str, Callable[..., Any]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "efficientnet-lite": _efficientnet_lite,
    "torchvision-inception": _torchvision_inception,
}


def torch_outputs(network: Any, images: np.ndarray, modules: list[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Outputs of the named modules as [n, h, w, c] (tokens as they are), and the logits, in evaluation mode.

    In the precision of the images.
    """
    import torch

    recorded: dict[str, np.ndarray] = {}
    hooks = []
    is_channels_last = type(network).__name__ == "SwinTransformer"
    as_maps = (lambda output: output.numpy().copy()) if is_channels_last else channels_last
    for name in modules:
        hook = lambda module, args, output, name=name: recorded.__setitem__(name, as_maps(output))
        hooks.append(network.get_submodule(name).register_forward_hook(hook))
    inputs = torch.tensor(images.transpose(0, 3, 1, 2).copy())
    network.to(inputs.dtype).eval()
    with torch.no_grad():
        logits = network(inputs)
    for hook in hooks:
        hook.remove()
    return recorded, logits.numpy()


def channels_last(output: Any) -> np.ndarray:
    """A module's output as an array [n, h, w, c], or as it is where it is not a batch of maps."""
    array = output.detach().numpy().copy()  # later modules may work in place
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def torch_training(
    network: Any, images: np.ndarray, labels: np.ndarray
) -> tuple[float, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """One forward and backward pass in training mode: loss, gradients by name, and the updated buffers by name.

    In double precision: behind a ReLU that flips on the last digit, single precision proves little.
    """
    import torch

    network.double().train()
    network.zero_grad()
    output = network(torch.tensor(images.transpose(0, 3, 1, 2).astype(np.float64)))
    logits = output[0] if isinstance(output, tuple) else output
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
    loss.backward()
    gradients = {k: v.grad.numpy().copy() for k, v in network.named_parameters() if v.grad is not None}
    buffers = {k: v.numpy().copy() for k, v in network.named_buffers()}
    return float(loss.detach()), gradients, buffers


def build_keras(reference: str, size: tuple[int, int], dtype: str = "float32") -> tuple[Any, dict[str, np.ndarray]]:
    """A network of keras.applications with drawn weights and without random behaviour, and its arrays by name."""
    import keras

    keras.backend.clear_session()  # its automatic names count on from model to model
    keras.config.set_floatx(dtype)
    # On JAX it computes batch norm in single precision whatever the others do, unless this table is told better.
    keras.src.backend.common.dtypes.BIT64_TO_BIT32_DTYPE["float64"] = dtype
    name = reference.partition(":")[2]
    options = KERAS_OPTIONS.get(name, {})
    build = KERAS_BUILDERS.get(name) or getattr(keras.applications, name)
    # Its own draws, each a program to compile, are replaced at once.
    zeros = lambda initializer, shape, dtype=None: np.zeros(shape, dtype)
    with mock.patch.object(keras.initializers.VarianceScaling, "__call__", zeros):
        network = build(weights=None, input_shape=(*size, 3), **({"classifier_activation": None} | options))
    arrays = {variable.path: draw_array(variable.path, tuple(variable.shape)) for variable in network.weights}
    for variable in network.weights:
        variable.assign(arrays[variable.path])
    for layer in network.layers:
        if "Dropout" in type(layer).__name__:
            layer.rate = 0.0
        if "Rescaling" in type(layer).__name__:
            layer.scale = 1.0  # images come normalised
    return network, arrays


KERAS_OPTIONS: dict[str, dict[str, Any]] = {
    "MobileNetV3Large": {"include_preprocessing": False},
}
"""Arguments of the builders of keras.applications beside the usual ones, by name."""


def _vgg16_of_any_size(*, input_shape: tuple[int, int, int], **options: Any) -> Any:
    """VGG16 with its top behind adaptive pooling, which at its own 224 x 224 pixels is the identity."""
    import keras

    def clone(layer: Any) -> Any:
        if layer.name == "flatten":
            return keras.Sequential(
                [keras.layers.AdaptiveAveragePooling2D((7, 7)), keras.layers.Flatten()], name=layer.name
            )
        return type(layer).from_config(layer.get_config())

    whole = keras.applications.VGG16(input_shape=(224, 224, 3), **options)
    return keras.models.clone_model(whole, keras.Input(input_shape), clone)


KERAS_BUILDERS: dict[str, Callable[..., Any]] = {"VGG16": _vgg16_of_any_size}
"""Builders of our own in place of those of keras.applications, by their names."""


def keras_outputs(network: Any, images: np.ndarray, layers: list[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Outputs of the named layers and the logits, in evaluation mode."""
    import keras

    tapped = keras.Model(network.inputs[0], [*(network.get_layer(name).output for name in layers), network.output])
    state = [[variable.value for variable in variables] for variables in
             (tapped.trainable_variables, tapped.non_trainable_variables)]  # fmt: skip
    # As arguments: constants of a program, of hundreds of millions of numbers, take minutes to compile.
    run = jax.jit(lambda state, x: tapped.stateless_call(*state, x, training=False)[0])
    *outputs, logits = [np.asarray(output) for output in run(state, images)]
    return dict(zip(layers, outputs, strict=True)), logits


def keras_training(
    network: Any, images: np.ndarray, labels: np.ndarray
) -> tuple[float, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """As `torch_training`; the network must have been built in double precision, and x64 be enabled in JAX."""
    import optax

    trainable = [variable.value for variable in network.trainable_variables]
    others = [variable.value for variable in network.non_trainable_variables]

    def loss_fn(trainable: list[Any]) -> Any:
        logits, updated = network.stateless_call(trainable, others, images, training=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updated

    (loss, updated), gradients = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(trainable)
    by_name = {v.path: np.asarray(g) for v, g in zip(network.trainable_variables, gradients, strict=True)}
    pairs = zip(network.non_trainable_variables, updated, strict=True)
    statistics = {v.path: np.asarray(u) for v, u in pairs if "seed_generator" not in v.path}
    return float(loss), by_name, statistics


def reference_outputs(case: Any, images: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Published arrays by name, outputs of the stages that the case names, and logits."""
    names = list(dict.fromkeys(case.parity.stages.values()))
    if case.parity.original.startswith("keras:"):
        network, arrays = build_keras(case.parity.original, images.shape[1:3])
        return arrays, *keras_outputs(network, images, names)
    network, arrays = build_torch(case.parity.original, **case.options_for(images.shape[1:3]))
    return arrays, *torch_outputs(network, images, names)


def reference_training(
    case: Any, images: np.ndarray, labels: np.ndarray
) -> tuple[dict[str, np.ndarray], float, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Published arrays, loss, gradients and updated statistics, by published name."""
    if case.parity.original.startswith("keras:"):
        network, arrays = build_keras(case.parity.original, images.shape[1:3], "float64")
        return arrays, *keras_training(network, images, labels)
    network, arrays = build_torch(case.parity.original, **case.options_for(images.shape[1:3]))
    return arrays, *torch_training(network, images, labels)
