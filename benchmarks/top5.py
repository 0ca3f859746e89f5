"""The five best classes of photographs, by a network with real weights: are port and preparation right?

Images are prepared as the manifest says for the weights: resized, cropped, normalised. Without arguments it takes the
photographs that scikit-learn brings, and those of scikit-image where that is installed. Class names are torchvision's.

Run: pip install -e '.[parity]' scikit-image && pip install --no-deps torchvision==0.28.0
     python benchmarks/top5.py                                  efficientnet_lite0, fetched if it is not in the cache
     python benchmarks/top5.py --weights=resnet50.v2 IMAGE …
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "support"))

from reference_networks import import_torchvision

from fpclass.augment.intensity import normalise
from fpclass.config import base_config
from fpclass.data.resize import RESAMPLING
from fpclass.models.build import build_model
from fpclass.models.network import Network
from fpclass.models.pretrained.manifest import Weights
from fpclass.models.pretrained.pretrained import load_pretrained
from fpclass.models.pretrained.source import resolve


def shipped_photographs() -> list[pathlib.Path]:
    """Colour photographs in scikit-learn and scikit-image."""
    import sklearn

    found = sorted((pathlib.Path(sklearn.__file__).parent / "datasets" / "images").glob("*.jpg"))
    spec = importlib.util.find_spec("skimage")
    if spec and spec.origin:
        names = ("astronaut.png", "cat.png", "chelsea.png", "coffee.png", "rocket.jpg")
        folder = pathlib.Path(spec.origin).parent / "data"
        found += [folder / name for name in names if (folder / name).is_file()]
    return found


def prepare(path: pathlib.Path, entry: Weights) -> np.ndarray:
    """An image as the weights were evaluated: shorter side resized, centre cropped, uint8 [H, W, 3]."""
    image = Image.open(path).convert("RGB")
    scale = entry.resize / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], RESAMPLING[entry.interpolation])
    height, width = entry.image_size
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return np.asarray(image.crop((left, top, left + width, top + height)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=pathlib.Path)
    parser.add_argument("--weights", default="efficientnet_lite0", help="name or file; default %(default)s")
    args = parser.parse_args()
    import_torchvision()
    from torchvision.models._meta import _IMAGENET_CATEGORIES as names

    entry, _ = resolve(args.weights)
    config = base_config().model
    config.name, config.variant, config.head = entry.architecture, entry.variant, "own"
    network = build_model(config, entry.num_classes, entry.image_size)
    assert isinstance(network, Network)
    variables = load_pretrained(args.weights, network, (*entry.image_size, 3), with_head=True)
    run = jax.jit(lambda x: jax.nn.softmax(network.apply(variables, x, train=False)))
    for path in args.images or shipped_photographs():
        image = jnp.asarray(prepare(path, entry))[None]
        shares = np.asarray(run(normalise(image, entry.mean, entry.std))[0])
        best = np.argsort(-shares)[:5]
        print(f"{path.name}: " + ", ".join(f"{names[k]} {shares[k]:.2f}" for k in best))


if __name__ == "__main__":
    main()
