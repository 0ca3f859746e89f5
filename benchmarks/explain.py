"""Grad-CAM of many images: here, and by `grad-cam` for PyTorch, with the same weights and images, in turn.

From normalised images to maps scaled to [0, 1] at the size of the images. Seconds of the wall clock and of all cores
together, the best of several rounds; on a shared machine the ratio of rounds that were interleaved is what counts.

Run: python benchmarks/explain.py [--networks baseline resnet50] [--images 256] [--rounds 3] [--cores 2]
     (needs the extra `parity` with torchvision, and grad-cam with ttach and opencv-python-headless, all --no-deps)
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

TESTS = pathlib.Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS / "support"), str(TESTS / "models")]

from backbone_cases import CASES  # noqa: E402
from reference_networks import build_torch, import_torchvision  # noqa: E402
from test_parity import shapes_of, variables_of  # noqa: E402

import_torchvision()
from pytorch_grad_cam import GradCAM  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402

from fpclass.experiment import load_config  # noqa: E402
from fpclass.explain.figures import resize_map  # noqa: E402
from fpclass.explain.maps import scale_maps  # noqa: E402
from fpclass.explain.methods import METHODS  # noqa: E402
from fpclass.models.build import build_model, explainable_form  # noqa: E402

Way = Callable[[np.ndarray], np.ndarray]
PARTS = {"baseline": 256, "resnet50": 16}
"""Images that PyTorch is given at once: what it is fastest with, of 16, 32, 64 and 256."""


class TorchBaseline(nn.Module):
    """The baseline of the prints in PyTorch."""

    def __init__(self, params: dict[str, Any]):
        super().__init__()
        sizes = {name: params[name]["kernel"].shape for name in ("dense1", "dense2", "logits")}
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.relu1, self.stage, self.pool = nn.ReLU(), nn.ReLU(), nn.MaxPool2d(2)
        self.dense1, self.dense2, self.logits = (nn.Linear(*sizes[name]) for name in sizes)
        for name, layer in self.named_children():
            if name in params:
                kernel = np.asarray(params[name]["kernel"])
                layer.weight.data = torch.tensor(kernel.transpose((3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)))
                layer.bias.data = torch.tensor(np.asarray(params[name]["bias"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.relu1(self.conv1(x)))
        x = self.pool(self.stage(self.conv2(x)))
        x = x.permute(0, 2, 3, 1).flatten(1)
        return self.logits(torch.relu(self.dense2(torch.relu(self.dense1(x)))))


def baseline() -> tuple[Any, Any, Any, Any, str, tuple[int, int, int]]:
    """The network here and in PyTorch, its stage in both, and the shape of an image."""
    config = load_config("configs/footprints/baseline.py", [])
    model = build_model(explainable_form(config.model, "conv2/relu"), 2, config.data.image_size)
    shape = (*config.data.image_size, config.data.channels)
    variables = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(jnp.zeros((1, *shape)))
    variables = {"params": variables["params"]}
    torch_network = TorchBaseline(variables["params"]).eval()
    return model, variables, torch_network, torch_network.stage, "conv2/relu", shape


def resnet50() -> tuple[Any, Any, Any, Any, str, tuple[int, int, int]]:
    """As `baseline`."""
    config = load_config("configs/base.py", ["--config.model.name=resnet50", "--config.model.head=own"])
    model = build_model(config.model, 1000, (224, 224))
    case = next(case for case in CASES if case.name == "resnet50")
    torch_network, arrays = build_torch("torchvision:resnet50")
    variables = variables_of(case, shapes_of(model, (224, 224)), arrays)
    return model, variables, torch_network.eval(), torch_network.layer4[-1], "layer4_2", (224, 224, 3)


def ways(name: str) -> tuple[dict[str, Way], tuple[int, int, int]]:
    """Grad-CAM of images [n, h, w, c] for class 1 by both."""
    model, variables, torch_network, layer, stage, shape = {"baseline": baseline, "resnet50": resnet50}[name]()
    packaged = GradCAM(torch_network, [layer])

    maps_of = METHODS["grad_cam"].bind(model, variables, stage)

    def here(images: np.ndarray) -> np.ndarray:
        return resize_map(scale_maps(maps_of(images, np.ones(len(images), np.int32))), shape[:2])

    def there(images: np.ndarray) -> np.ndarray:
        parts = torch.tensor(images.transpose(0, 3, 1, 2)).split(PARTS[name])
        return np.concatenate([packaged(part, [ClassifierOutputTarget(1)] * len(part)) for part in parts])

    return {"here": here, "grad-cam": there}, shape


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["baseline", "resnet50"])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    torch.set_num_threads(args.cores)
    print(f"jax {jax.__version__}, torch {torch.__version__}; {args.images} images, seconds: wall (all cores)\n")
    print("| network | here | grad-cam | ratio wall (cores), each round |\n|---|---|---|---|")
    for name in args.networks:
        both, shape = ways(name)
        images = np.random.default_rng(0).normal(size=(args.images, *shape)).astype(np.float32)
        first = [way(images[:16]) for way in both.values()]
        apart = np.abs(first[0] - first[1]).mean()
        both["here"](images)  # compiles
        seconds = {way: [] for way in both}
        for _ in range(args.rounds):
            for way, function in both.items():
                wall, cores = time.perf_counter(), time.process_time()
                function(images)
                seconds[way].append((time.perf_counter() - wall, time.process_time() - cores))
        best = {way: np.min(of, axis=0) for way, of in seconds.items()}
        ratios = np.array(seconds["grad-cam"]) / np.array(seconds["here"])
        cells = [f"{wall:.2f} ({cores:.2f})" for wall, cores in best.values()]
        shown = ", ".join(f"{wall:.1f} ({cores:.1f})" for wall, cores in ratios)
        print(f"| {name} | {' | '.join(cells)} | {shown} |  maps differ by {apart:.3f} on average", flush=True)


if __name__ == "__main__":
    main()
