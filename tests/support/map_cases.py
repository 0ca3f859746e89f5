"""Networks and images of which golden maps are kept: a small CNN and a small transformer, weights from a seed."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fpclass.explain.targets import Target, class_logit, loss, margin
from fpclass.models.architectures.cnn import CNN
from fpclass.models.architectures.vit import vit
from fpclass.models.network import DenseHead, Network
from fpclass.models.positions import cubic_between_corners

CLASSES, OTHERS = np.array([2, 0, 1]), np.array([0, 1, 2])
WINDOW, STRIDE, STEPS, SAMPLES, NOISE = 6, 4, 12, 5, 0.1


@dataclasses.dataclass(frozen=True)
class Case:
    """A network that classifies into three, the stage to look at, and the shape of its images."""

    name: str
    model: Any
    stage: str
    shape: tuple[int, int, int]

    def images(self) -> np.ndarray:
        """Three normalised images, float32 [3, h, w, c], which are not square."""
        return np.random.RandomState(1).normal(size=(3, *self.shape)).astype(np.float32)

    def variables(self) -> dict[str, Any]:
        """Weights as large as those of a trained network, so that logits are far from each other."""
        images = jnp.zeros((1, *self.shape))
        shapes = jax.eval_shape(lambda x: self.model.init(jax.random.key(0), x, train=False), images)["params"]
        rng = np.random.RandomState(0)
        drawn = {}
        for path, leaf in sorted(flatten_dict(shapes).items()):
            size = 2 / np.sqrt(np.prod(leaf.shape[:-1])) if path[-1] == "kernel" else 0.2
            drawn[path] = (rng.normal(size=leaf.shape) * size + (path[-1] == "scale")).astype(np.float32)
        return {"params": unflatten_dict(drawn)}


def _vit() -> Network:
    backbone = vit(patch_size=4, num_blocks=2, num_heads=2, features=8, resampling=cubic_between_corners)
    stages = (*backbone.features, *backbone.classifier)
    head = DenseHead(3, pool="none", name="head", parent=None)
    return Network(stages, head, patch_size=4, prefix_tokens=backbone.prefix_tokens)


SMALL_CNN = CNN(3, (34, 26), conv_features=(4, 6), dense_features=(10,), conv_form="direct")
CASES = (Case("cnn", SMALL_CNN, "conv2/relu", (34, 26, 2)), Case("vit", _vit(), "block_0", (16, 24, 2)))
TARGETS: dict[str, Target] = {
    "class": class_logit(jnp.asarray(CLASSES)),
    "margin": margin(jnp.asarray(CLASSES), jnp.asarray(OTHERS)),
    "loss": loss(jnp.asarray(CLASSES)),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"num_steps": STEPS},
    "smooth_grad": {"num_samples": SAMPLES, "noise": NOISE},
    "occlusion": {"window": WINDOW, "stride": STRIDE},
}
