"""What augmentation adds to an epoch of the footprint baseline: 1,258 images of 120 x 80, batches of 32 under `scan`.

Run: python benchmarks/augment.py

Every variant, normalising alone included, runs in one process in turn, several times; the least time of each counts.
A small matrix product stands for the network, so that the images have to be written out as a network needs them.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import base
from fpclass.augment import make_augment

NUM_IMAGES, BATCH_SIZE, IMAGE_SHAPE = 1258, 32, (120, 80, 1)
REPEATS = 9

VARIANTS: dict[str, dict[str, Any]] = {
    "normalise only": {"flip_probability": 0.0, "brightness": 0.0, "contrast": 0.0},
    "flip + jitter": {},
    "flip + jitter + erasing": {"erasing_probability": 0.4},
    "flip + jitter + rotation": {"max_rotation_deg": 10.0},
    "flip + jitter + scale": {"scale": (0.9, 1.1)},
    "flip + jitter + elastic": {"elastic_alpha_px": 1.5},
}


def make_epoch(changes: dict[str, Any], images: jax.Array) -> Callable[[jax.Array], jax.Array]:
    config = base.get_config().augment
    with config.unlocked():
        config.update(changes)
    augment = make_augment(config, mean=0.5, std=0.5)
    weights = jnp.ones((int(np.prod(IMAGE_SHAPE)), 8))

    def step(total: jax.Array, batch: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        ids, keys = batch
        augmented = jax.vmap(augment)(keys, images[ids])
        return total + (augmented.reshape(BATCH_SIZE, -1) @ weights).sum(), None

    @jax.jit
    def epoch(key: jax.Array) -> jax.Array:
        order = jax.random.permutation(key, NUM_IMAGES)
        batches = jnp.resize(order, (-(-NUM_IMAGES // BATCH_SIZE), BATCH_SIZE))
        keys = jax.vmap(jax.vmap(lambda example: jax.random.fold_in(key, example)))(batches)
        return jax.lax.scan(step, jnp.float32(0), (batches, keys))[0]

    return epoch


def main() -> None:
    shape = (NUM_IMAGES, *IMAGE_SHAPE)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    epochs = {name: make_epoch(changes, images) for name, changes in VARIANTS.items()}
    key = jax.random.key(0)
    seconds = dict.fromkeys(epochs, float("inf"))
    for epoch in epochs.values():
        epoch(key).block_until_ready()
    for _ in range(REPEATS):
        for name, epoch in epochs.items():
            start = time.perf_counter()
            epoch(key).block_until_ready()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    print(f"{jax.devices()[0].device_kind}, {NUM_IMAGES} images of {IMAGE_SHAPE}, ms per epoch")
    for name, least in seconds.items():
        print(f"{name:26s} {least * 1e3:7.1f}  (+{(least - seconds['normalise only']) * 1e3:.1f})")


if __name__ == "__main__":
    main()
