"""A package of a user's, as text, with a network, an augmentation, a source and a metric, and wrong ones of each."""

from __future__ import annotations

import pathlib

PACKAGE = {
    "__init__": "",
    "nets": """
import flax.linen as nn
from fpclass.models.layers import stage
from fpclass.models.network import DenseHead, Network


class Net(nn.Module):
    num_classes: int
    is_staged: bool = False

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(4, (3, 3), strides=2)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.5)(x))
        x = stage(self, "maps", x) if self.is_staged else x
        x = nn.Dropout(0.2, deterministic=not train)(x.mean(axis=(1, 2)))
        return nn.Dense(self.num_classes)(x)


def staged(num_classes):
    return Net(num_classes, is_staged=True)


class Block(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, mode):
        return nn.relu(nn.Conv(self.features, (3, 3), strides=2)(x))


def network(num_classes):
    stages = tuple(Block(4, name=name, parent=None) for name in ("first", "second"))
    return Network(stages, DenseHead(num_classes, name="head"), cam_stage="second")


class WithMemory(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x, train):
        self.variable("memory", "count", lambda: 0.0)
        return nn.Dense(self.num_classes)(x.mean(axis=(1, 2)))


class WithNoise(WithMemory):
    @nn.compact
    def __call__(self, x, train):
        x = x + self.make_rng("noise")[0] if train else x
        return nn.Dense(self.num_classes)(x.mean(axis=(1, 2)))


class WithoutTrain(WithMemory):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes)(x.mean(axis=(1, 2)))


def too_many(num_classes):
    return Net(num_classes + 1)


def no_module(num_classes):
    return num_classes


def failing(num_classes):
    raise RuntimeError("out of ideas")


NUMBER = 3
""",
    "augment": """
import jax
import jax.numpy as jnp


def streak(key, image):
    return image.at[jax.random.randint(key, (), 0, image.shape[0])].set(1.0)


def cropped(key, image):
    return image[1:]


def rounded(key, image):
    return jnp.round(image).astype(int)
""",
    "data": """
import pandas as pd


def load(root):
    table = pd.read_csv(root / "all_labels.csv")
    return pd.DataFrame({
        "filename": "processed/processed/" + table["filename"] + ".png",
        "label": table["SEX"].map({0: "small", 1: "large"}),
        "group": table["ID"],
        "foot": ["left", "right"] * (len(table) // 2),
    })


def without_labels(root):
    return load(root)[["filename"]]


def twice(root):
    return pd.concat([load(root)] * 2)


def in_other_splits(root):
    return load(root).assign(split="dev")


def no_frame(root):
    return load(root).to_dict()
""",
    "metrics": """
def cost(labels, probabilities):
    return ((probabilities.argmax(axis=1) != labels) * (1 + 4 * labels)).mean()


cost.lower_is_better = True


def text(labels, probabilities):
    return "good"


def two_classes(labels, probabilities):
    if len(set(labels)) < 2:
        raise ValueError("one class only")
    return float(probabilities[labels == 1, 1].mean() - probabilities[labels == 0, 1].mean())
""",
    "broken": "import nothing_of_that_name\n",
}

CONFIG = """
import pathlib
from configs import base
import sizes

def get_config():
    config = base.get_config()
    config.name = pathlib.Path(__file__).stem
    config.data.source = "mypackage.data:load"
    config.data.image_size = sizes.SIZE
    config.model.name = "mypackage.nets:Net"
    config.augment.custom = "mypackage.augment:streak"
    config.study.metric = "mypackage.metrics:cost"
    config.evaluate.subgroups = ("foot",)
    config.evaluate.num_resamples = 50
    config.train.num_epochs = 2
    return config
"""


def write_project(folder: pathlib.Path) -> pathlib.Path:
    """A folder with the package, a config, and a module beside it."""
    (folder / "mypackage").mkdir(parents=True)
    for name, text in PACKAGE.items():
        (folder / "mypackage" / f"{name}.py").write_text(text)
    (folder / "mine.py").write_text(CONFIG)
    (folder / "sizes.py").write_text("SIZE = (24, 20)\n")
    return folder
