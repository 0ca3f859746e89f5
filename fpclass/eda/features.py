"""Features to compare images by: simple ones of the picture, or those of a frozen pretrained network."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from fpclass.common.console import progress
from fpclass.common.threads import in_threads
from fpclass.config import Config
from fpclass.data.decode import Images

MAX_COMPONENTS = 256

_SIDE, _CELL, _NUM_ANGLES, _THUMBNAIL, _LEVELS = 64, 8, 9, 12, 4
_CHUNK = 256


@dataclasses.dataclass(frozen=True)
class Features:
    """Vectors by which images are compared, float32.

    Attributes:
      values: principal components, in falling order of their variance, in one unit; the mean square length is 1.
      statistics: brightness, contrast, sharpness, colours and layout of the pictures.
      description: what `values` were made of, for the page.
    """

    values: Float[np.ndarray, "n d"]
    statistics: Float[np.ndarray, "n s"]
    description: str
    is_pretrained: bool


def make_features(config: Config, images: Images, rows: Int[np.ndarray, " n"]) -> Features:
    """The features of some images: of the config's pretrained network if it has one, else simple ones.

    No label has any influence on them; it takes two rows.

    Raises:
      WeightsError: the weights cannot be had.
      ConfigError: the images are too small for the network, or a stage does not exist.
    """
    statistics = _in_chunks(rows, lambda chunk: [picture_statistics(images[chunk])], "statistics")[0]
    if config.model.weights:
        raw, what = _network_features(config, images, rows)
        return Features(_principal_components(raw), statistics, what, True)
    what = "gradient directions, a small picture, and a histogram of the " + (
        "colours" if images.shape[-1] == 3 else "greys"
    )
    return Features(_principal_components(simple_features(images, rows)), statistics, what, False)


def simple_features(images: Images, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
    """Gradient histograms, a small picture and a histogram of colours of each image, each block of unit mean length.

    Source: Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005, for the gradients:
      unsigned angles, cells of 8 pixels, blocks of 2 x 2 cells, L2 norm; votes are not interpolated between cells.
    """
    blocks = _in_chunks(rows, lambda chunk: _blocks(images[chunk]), "features")
    return np.concatenate([_unit_length(block) for block in blocks], axis=1)


def picture_statistics(images: UInt8[np.ndarray, "n H W C"]) -> Float[np.ndarray, "n s"]:
    """Ten numbers about the greys of each picture, and for colour pictures three about its colours, float32.

    Brightness, contrast, edges, sharpness, sharpness of the edges, entropy, saturation, upper minus lower half, centre
    minus whole, skewness of the greys, and each colour minus grey.
    """
    grey = images.mean(axis=-1, dtype=np.float32)
    height, width = grey.shape[1:]
    middle = grey[:, height // 4 : height - height // 4, width // 4 : width - width // 4]
    mean = grey.mean(axis=(1, 2))
    edges = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2)) if height > 1 else np.zeros_like(mean)
    edges = edges + (np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2)) if width > 1 else 0)
    bends = np.abs(np.diff(grey, 2, axis=1)).mean(axis=(1, 2)) if height > 2 else np.zeros_like(mean)
    bends = bends + (np.abs(np.diff(grey, 2, axis=2)).mean(axis=(1, 2)) if width > 2 else 0)
    level = (grey / 16).astype(np.int32).reshape(len(images), -1) + 16 * np.arange(len(images))[:, None]
    shares = np.bincount(level.ravel(), minlength=16 * len(images)).reshape(-1, 16) / level.shape[1]
    upper, lower = grey[:, : (height + 1) // 2], grey[:, height // 2 :]
    columns = [
        mean,
        grey.std(axis=(1, 2)),
        np.log1p(edges),
        np.log1p(bends),
        np.log1p(bends) - np.log1p(edges),
        -(shares * np.log(np.maximum(shares, 1e-9))).sum(axis=1),
        (images.max(axis=-1).astype(np.float32) - images.min(axis=-1)).mean(axis=(1, 2)),
        upper.mean(axis=(1, 2)) - lower.mean(axis=(1, 2)),
        middle.mean(axis=(1, 2)) - mean,
        np.cbrt(((grey - mean[:, None, None]) ** 3).mean(axis=(1, 2))),
    ]
    if images.shape[-1] == 3:
        columns += list((images.mean(axis=(1, 2), dtype=np.float32) - mean[:, None]).T)
    return np.stack(columns, axis=1).astype(np.float32)


def _in_chunks(
    rows: Int[np.ndarray, " n"], compute: Callable[[np.ndarray], list[np.ndarray]], what: str
) -> list[np.ndarray]:
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    with contextlib.closing(in_threads(lambda i: compute(chunks[i]), len(chunks))) as results:
        parts = list(progress(results, len(chunks), f"{what}, {_CHUNK} at a time"))
    return [np.concatenate(block) for block in zip(*parts, strict=True)]


def _blocks(images: UInt8[np.ndarray, "n H W C"]) -> list[Float[np.ndarray, "n d"]]:
    grey = np.stack([_resized(image, _SIDE, "L") for image in images]).astype(np.float32)
    mode = "RGB" if images.shape[-1] == 3 else "L"
    small = np.stack([_resized(image, _THUMBNAIL, mode) for image in images]).reshape(len(images), -1)
    return [_gradient_histograms(grey), small.astype(np.float32) / 255, _colour_histogram(images)]


def _resized(image: UInt8[np.ndarray, "H W C"], side: int, mode: str) -> UInt8[np.ndarray, "side side ..."]:
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert(mode)
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))


def _gradient_histograms(grey: Float[np.ndarray, "n s s"]) -> Float[np.ndarray, "n d"]:
    """Histograms of gradient directions in cells, normalised in blocks of 2 x 2 cells; square root of the counts."""
    num_images, cells = len(grey), _SIDE // _CELL
    dy, dx = np.gradient(grey, axis=(1, 2))
    strength = np.hypot(dy, dx)
    angle = (np.arctan2(dy, dx) % np.pi) * (_NUM_ANGLES / np.pi)
    bins = np.minimum(angle.astype(np.int32), _NUM_ANGLES - 1)
    cell = np.arange(_SIDE) // _CELL
    place = (cell[:, None] * cells + cell[None, :]) * _NUM_ANGLES
    index = np.arange(num_images)[:, None, None] * (cells * cells * _NUM_ANGLES) + place + bins
    counts = np.bincount(index.ravel(), strength.ravel(), num_images * cells * cells * _NUM_ANGLES)
    counts = np.sqrt(counts).reshape(num_images, cells, cells, _NUM_ANGLES).astype(np.float32)
    corners = (slice(None, -1), slice(1, None))
    blocks = np.concatenate([counts[:, y, x] for y in corners for x in corners], axis=-1)
    # The constant keeps blank paper at zero instead of blowing up its noise.
    return (blocks / np.sqrt((blocks**2).sum(axis=-1, keepdims=True) + 100.0)).reshape(num_images, -1)


def _colour_histogram(images: UInt8[np.ndarray, "n H W C"]) -> Float[np.ndarray, "n d"]:
    """Square roots of the shares of the colours in a cube of 4 x 4 x 4, or of 32 greys."""
    num_images, is_colour = len(images), images.shape[-1] == 3
    num_bins = _LEVELS**3 if is_colour else 32
    level = (images // (256 // (_LEVELS if is_colour else 32))).astype(np.int32)
    code = (level[..., 0] * _LEVELS + level[..., 1]) * _LEVELS + level[..., 2] if is_colour else level[..., 0]
    index = np.arange(num_images)[:, None] * num_bins + code.reshape(num_images, -1)
    counts = np.bincount(index.ravel(), minlength=num_images * num_bins).reshape(num_images, num_bins)
    return np.sqrt(counts / index.shape[1]).astype(np.float32)


def _unit_length(block: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """The block about its mean, scaled so that the mean square length of its rows is 1 (or 0, if all are alike)."""
    block = block - block.mean(axis=0)
    scale = np.sqrt(np.mean(np.einsum("nd,nd->n", block, block)))
    return block / scale if scale > 1e-6 else np.zeros_like(block)


def _principal_components(raw: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d2"]:
    from sklearn.decomposition import PCA

    if not raw.any():  # all images are alike
        return raw[:, :1]
    size = min(MAX_COMPONENTS, len(raw) - 1, raw.shape[1])
    solver = "randomized" if min(raw.shape) > 2 * MAX_COMPONENTS else "full"
    return _unit_length(PCA(size, svd_solver=solver, random_state=0).fit_transform(raw).astype(np.float32))


def _network_features(
    config: Config, images: Images, rows: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "n d"], str]:
    """Output of the pretrained network's stages, averaged over the image."""
    import jax
    import jax.numpy as jnp

    from fpclass.augment.intensity import normalise
    from fpclass.errors import ConfigError
    from fpclass.models.build import build_model
    from fpclass.models.network import Network
    from fpclass.train.task import pretrained_variables

    data = config.data
    model = build_model(config.model, 2, data.image_size)
    if not isinstance(model, Network):
        raise ConfigError(f"config.model.name is {config.model.name!r}: expected a backbone where model.weights is set")
    stages = model.prefix(len(model.stage_names))
    variables = jax.device_put(pretrained_variables(config, model))

    @jax.jit
    def vectors_of(variables: dict, part: jax.Array) -> jax.Array:
        maps: Any = stages.apply(variables, normalise(part, data.mean, data.std), train=False)
        return jnp.asarray(maps).reshape(len(part), -1, maps.shape[-1]).mean(axis=1)  # maps, tokens or a vector

    chunks = [rows[start : start + 32] for start in range(0, len(rows), 32)]
    vectors = []
    for chunk in progress(chunks, len(chunks), "features, 32 at a time"):
        padded = np.pad(chunk, (0, 32 - len(chunk)), mode="edge")
        vectors.append(np.asarray(vectors_of(variables, images[padded]))[: len(chunk)])
    values = np.concatenate(vectors).astype(np.float32)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.maximum(lengths, 1e-6), f"{config.model.weights}, pretrained and frozen, averaged over the image"
