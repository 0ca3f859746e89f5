"""Writes maps.npz: what `grad-cam` and `captum` for PyTorch make of the networks of tests/support/map_cases.py.

Raw maps of three images by case, method and target, before any scaling. Where a package departs from the paper, as
docs/explain.md says, that is put right here, each time with a comment.

Run: python tests/golden/make_maps.py
     (needs torch and torchvision of the extra `parity`, and grad-cam==1.5.7, captum==0.9.0 with ttach and
     opencv-python-headless, installed with --no-deps)
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients, Occlusion, Saliency
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from reference_networks import import_torchvision

import_torchvision()
import pytorch_grad_cam as packaged  # noqa: E402
import pytorch_grad_cam.base_cam  # noqa: E402
from map_cases import CASES, CLASSES, NOISE, OTHERS, SAMPLES, STEPS, STRIDE, WINDOW, Case  # noqa: E402

from fpclass.explain.pixels import noise_draws  # noqa: E402

PATH = pathlib.Path(__file__).with_name("maps.npz")


class UndividedAblationCAM(packaged.AblationCAM):
    """Ablation-CAM without the division by the target, which turns the map round where that is negative."""

    def get_cam_weights(self, input_tensor: Any, layer: Any, targets: Any, activations: Any, grads: Any) -> np.ndarray:
        """Weights of channels, [n, c]."""
        values = [float(target(row.detach())) for target, row in zip(targets, self.outputs, strict=True)]
        weights = super().get_cam_weights(input_tensor, layer, targets, activations, grads)
        return weights * np.array(values)[:, None]


PACKAGED = {
    "grad_cam": packaged.GradCAM,
    "grad_cam_plus_plus": packaged.GradCAMPlusPlus,
    "hires_cam": packaged.HiResCAM,
    "layer_cam": packaged.LayerCAM,
    "xgrad_cam": packaged.XGradCAM,
    "score_cam": packaged.ScoreCAM,
    "ablation_cam": UndividedAblationCAM,
}


def weight(layer: Any, kernel: np.ndarray, bias: np.ndarray) -> Any:
    """A layer of PyTorch with the weights of one of Flax."""
    order = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
    layer.weight = nn.Parameter(torch.tensor(np.transpose(kernel, order)))
    layer.bias = nn.Parameter(torch.tensor(bias))
    return layer


class TorchCNN(nn.Module):
    """The CNN of the case, rectified maps as modules of their own."""

    def __init__(self, params: dict[str, Any]):
        super().__init__()
        for name in ("conv1", "conv2"):
            kernel = params[name]["kernel"]
            setattr(self, name, weight(nn.Conv2d(kernel.shape[2], kernel.shape[3], 5), **params[name]))
        self.relu1, self.stage, self.pool = nn.ReLU(), nn.ReLU(), nn.MaxPool2d(2)
        self.dense1, self.logits = (weight(nn.Linear(1, 1), **params[name]) for name in ("dense1", "logits"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of images [n, c, h, w]."""
        x = self.pool(self.relu1(self.conv1(x)))
        x = self.pool(self.stage(self.conv2(x)))
        return self.logits(torch.relu(self.dense1(x.permute(0, 2, 3, 1).flatten(1))))


class Block(nn.Module):
    """A block of the transformer of the case."""

    def __init__(self, params: dict[str, Any]):
        super().__init__()
        self.norm1, self.norm2 = (norm(params[name]) for name in ("norm1", "norm2"))
        attention, mlp = params["attention"], params["mlp"]
        self.qkv, self.project = (weight(nn.Linear(1, 1), **attention[name]) for name in ("qkv", "project"))
        self.expand, self.back = (weight(nn.Linear(1, 1), **mlp[name]) for name in ("expand", "project"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens [n, t, c]."""
        n, t, c = x.shape
        query, key, value = self.qkv(self.norm1(x)).reshape(n, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        x = x + self.project(mixed.transpose(1, 2).reshape(n, t, c))
        return x + self.back(nn.functional.gelu(self.expand(self.norm2(x))))


class TorchViT(nn.Module):
    """The transformer of the case."""

    def __init__(self, params: dict[str, Any]):
        super().__init__()
        stem = params["stem"]
        self.patches = weight(nn.Conv2d(2, 8, 4, 4), **stem["patches"])
        self.first, self.positions = (torch.tensor(stem[name]) for name in ("class_token", "position_embedding"))
        self.stage, self.last = (Block(params[f"block_{i}"]) for i in range(2))
        self.norm = norm(params["norm"]["norm"])
        self.logits = weight(nn.Linear(1, 1), **params["head"]["logits"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of images [n, c, h, w]."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.logits(self.norm(self.last(self.stage(x)))[:, 0])


def norm(params: dict[str, Any]) -> nn.LayerNorm:
    """A layer norm with the weights of one of Flax."""
    layer = nn.LayerNorm(len(params["scale"]), eps=1e-6)
    layer.weight, layer.bias = (nn.Parameter(torch.tensor(params[name])) for name in ("scale", "bias"))
    return layer


def target_of(kind: str, row: int) -> Any:
    """The function of the logits of an image that its map is about."""
    own, other = int(CLASSES[row]), int(OTHERS[row])
    if kind == "loss":
        return lambda logits: -torch.log_softmax(logits, -1)[..., own]
    return lambda logits: logits[..., own] - (logits[..., other] if kind == "margin" else 0)


def packaged_cam(name: str, network: Any, case: Case, images: torch.Tensor, kind: str) -> np.ndarray:
    """Raw maps of grad-cam."""

    def as_image(tokens: torch.Tensor) -> torch.Tensor:
        side = [size // 4 for size in case.shape[:2]]
        return tokens[:, 1:].reshape(len(tokens), *side, -1).permute(0, 3, 1, 2)

    options = {"reshape_transform": as_image} if case.name == "vit" else {}
    targets = [target_of(kind, row) for row in range(len(images))]
    return PACKAGED[name](network, [network.stage], **options)(images, targets)


def pixel_maps(network: Any, images: torch.Tensor) -> dict[str, np.ndarray]:
    """Raw maps of captum."""
    draws = torch.tensor(np.asarray(noise_draws(0, SAMPLES, tuple(images.permute(0, 2, 3, 1).shape[1:]))))
    found: dict[str, list[np.ndarray]] = {"integrated_gradients": [], "smooth_grad": [], "occlusion": []}
    for row, image in enumerate(images):
        of, one, channels = target_of("class", row), image[None], len(image)
        score = lambda x, of=of: of(network(x))
        integrated = IntegratedGradients(score).attribute(one, n_steps=STEPS)
        found["integrated_gradients"].append(integrated.detach().numpy()[0].sum(axis=0))
        noisy = image + NOISE * (image.max() - image.min()) * draws.permute(0, 3, 1, 2)
        gradients = Saliency(score).attribute(noisy, abs=False).numpy()
        found["smooth_grad"].append(np.abs(gradients.mean(axis=0)).max(axis=0))
        window, stride = (channels, WINDOW, WINDOW), (channels, STRIDE, STRIDE)
        covered = Occlusion(score).attribute(one, sliding_window_shapes=window, strides=stride)
        found["occlusion"].append(covered.detach().numpy()[0, 0])
    return {name: np.stack(maps) for name, maps in found.items()}


def main() -> None:
    """Writes the file."""
    pytorch_grad_cam.base_cam.scale_cam_image = lambda cam, size=None: cam  # raw maps, at the stage's size
    # The authors' own code enlarges masks so that the corners of pixels meet, not their middles as the package does.
    torch.nn.UpsamplingBilinear2d = lambda size: torch.nn.Upsample(size=size, mode="bilinear", align_corners=False)
    entries = {}
    for case in CASES:
        network = (TorchCNN if case.name == "cnn" else TorchViT)(case.variables()["params"]).eval()
        images = torch.tensor(case.images()).permute(0, 3, 1, 2)
        entries[f"{case.name}.logits"] = network(images).detach().numpy()
        # Of tokens, which are not rectified, some others are something else: docs/explain.md.
        names = PACKAGED if case.name == "cnn" else ("grad_cam", "score_cam")
        for name in names:
            entries[f"{case.name}.{name}.class"] = packaged_cam(name, network, case, images, "class")
        entries |= {f"{case.name}.{name}.class": maps for name, maps in pixel_maps(network, images).items()}
        if case.name == "cnn":
            for kind in ("margin", "loss"):
                entries[f"cnn.grad_cam.{kind}"] = packaged_cam("grad_cam", network, case, images, kind)
    np.savez_compressed(PATH, **{name: values.astype(np.float32) for name, values in entries.items()})
    for name, values in entries.items():
        print(f"{name:35} {values.shape!s:14} largest {values.max():.4g}")


if __name__ == "__main__":
    main()
