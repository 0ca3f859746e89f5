"""Features of frozen stages, computed once for every image and a few augmented views of it."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from fpclass.augment.compose import make_augment_batch
from fpclass.augment.intensity import normalise
from fpclass.augment.settings import is_augmented
from fpclass.config import Config
from fpclass.console import progress, say
from fpclass.data.decode import Images
from fpclass.errors import ConfigError
from fpclass.models.network import Network
from fpclass.train.finetune import compute_in
from fpclass.train.keys import view_keys

BATCH = 32
"""Images that go through the frozen stages at once."""


def num_cached_views(config: Config) -> int:
    """Augmented views of each image whose features are cached, beside the plain one."""
    return config.finetune.cache_views if is_augmented(config.augment) else 0


def feature_shape(prefix: Network, config: Config) -> jax.ShapeDtypeStruct:
    """What the frozen stages make of one image, [1, …] in the type that the network computes in."""
    dtype = jnp.dtype(config.model.compute_dtype)
    image = jax.ShapeDtypeStruct((1, *config.data.image_size, config.data.channels), dtype)

    def apply(image: Any) -> Any:
        variables = prefix.init(jax.random.key(0), image, train=False)
        return prefix.apply(compute_in(variables, config.model.compute_dtype), image, train=False)

    return jax.eval_shape(apply, image)


def size_gb(prefix: Network, config: Config, num_images: int) -> float:
    """Size of the features of so many images in all their views, in 10**9 bytes."""
    shape = feature_shape(prefix, config)
    return math.prod(shape.shape[1:]) * shape.dtype.itemsize * num_images * (1 + num_cached_views(config)) / 1e9


def is_cached(prefix: Network, config: Config, num_images: int) -> bool:
    """Whether the features of frozen stages are computed once: where they are asked for and, if need be, fit.

    With `augment.fixed_views` training sees the same views without them, and what is too large is no error.
    """
    if not config.finetune.cache_views:
        return False
    return not config.augment.fixed_views or size_gb(prefix, config, num_images) <= config.finetune.cache_gb


def compute_features(
    prefix: Network, variables: dict[str, Any], images: Images, labels: Int[np.ndarray, " N"], config: Config
) -> np.ndarray:
    """Puts every image through the frozen stages once: as it is, and as many augmented views as are asked for.

    The views are the same for every member, whatever its seed; labels may decide about an image's augmentation.

    Returns:
      Features [N, 1 + views, …] in the type that the network computes in, view 0 of the images as they are.

    Raises:
      ConfigError: they would be larger than finetune.cache_gb.
    """
    data, dtype, batch = config.data, config.model.compute_dtype, BATCH
    num_views = num_cached_views(config)
    augment = make_augment_batch(config.augment, mean=data.mean, std=data.std)
    variables = {**variables, "params": compute_in(variables["params"], dtype)}

    @jax.jit
    def features_of(variables: Any, part: Any, classes: Any, rows: Any, view: Any) -> Any:
        keys = view_keys(jnp.full_like(rows, view), rows)
        plain = normalise(part, data.mean, data.std)
        inputs = jnp.where(view == 0, plain, augment(keys, part, classes)) if num_views else plain
        return prefix.apply(variables, compute_in(inputs, dtype), train=False)

    rows = np.arange(len(images), dtype=np.int32)
    shape = feature_shape(prefix, config)
    size = size_gb(prefix, config, len(images))
    if size > config.finetune.cache_gb:
        raise ConfigError(
            f"the features of {len(images)} images in {1 + num_views} views take {size:.1f} GB, and finetune.cache_gb "
            f"is {config.finetune.cache_gb:g}: freeze to a later stage, set fewer views, or raise the limit"
        )
    say(f"features behind {prefix.stage_names[-1]}: {len(images)} images, {1 + num_views} views, {size:.2f} GB")
    features = np.empty((len(images), 1 + num_views, *shape.shape[1:]), shape.dtype)
    on_device = jax.device_put(variables)
    parts = [(view, start) for view in range(1 + num_views) for start in range(0, len(images), batch)]
    for view, start in progress(parts, len(parts), "features"):
        taken = rows[start : start + batch]
        padded = np.pad(taken, (0, batch - len(taken)), mode="edge")
        part = (jnp.asarray(array) for array in (images[padded], labels[padded], padded))
        result = features_of(on_device, *part, jnp.int32(view))
        features[taken, view] = np.asarray(result)[: len(taken)]
    return features
