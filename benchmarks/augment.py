"""What augmentation adds to an epoch of the footprint baseline: 1,258 images of 120 x 80, batches of 32 under `scan`.

Run: python benchmarks/augment.py                                             all operations, on grey 120 x 80
     python benchmarks/augment.py --only rotation zoom --shape 224 224 3      some, on other images
     python benchmarks/augment.py --list

Every variant, normalising alone included, runs in one process in turn, several times; the least time of each counts.
A small matrix product stands for the network, so that the images have to be written out as a network needs them. What
an operation adds to flip and jitter is compared with a whole training epoch of the baseline, timed in the same turns;
limit for rotation and for elastic deformation: 25 %.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from engine import make_dataset, make_members

from fpclass.augment.compose import make_augment
from fpclass.config import base_config
from fpclass.experiment import load_config
from fpclass.models.build import build_model
from fpclass.train.device_engine import make_engine

NUM_IMAGES, BATCH_SIZE = 1258, 32
PLAIN, USUAL, BASELINE = "normalise only", "flip + jitter", "training epoch of the baseline"
OFF: dict[str, Any] = {"flip_probability": 0.0, "brightness": 0.0, "contrast": 0.0}
# What each adds to flip and jitter.
VARIANTS: dict[str, dict[str, Any]] = {
    "rotation": {"max_rotation_deg": 10.0},
    "scale": {"scale": (0.9, 1.1)},
    "elastic": {"elastic_alpha_px": 1.5},
    "erasing": {"erasing_probability": 0.4},
    "cutout": {"cutout_px": 16},
    "vertical flip": {"vertical_flip_probability": 0.5},
    "rotation, reflect, bilinear": {"max_rotation_deg": 72.0, "fill_mode": "reflect"},
    "zoom": {"zoom": (0.2,)},
    "translation": {"translation": (0.1, 0.1)},
    "translation, nearest": {"translation": (0.1, 0.1), "interpolation": "nearest"},
    "shear": {"shear": (0.2, 0.2)},
    "perspective": {"perspective": 0.3},
    "rotation + translation + shear + zoom + perspective": {
        "max_rotation_deg": 10.0,
        "translation": (0.1, 0.1),
        "shear": (0.2, 0.2),
        "zoom": (0.2,),
        "perspective": 0.3,
    },
    "height and width": {"height_width": (0.2, 0.2)},
    "shift of brightness": {"brightness_shift": 0.1},
    "shift of channels": {"channel_shift": 0.1},
    "saturation and hue": {"saturation": 0.2, "hue": 0.1},
    "sharpness": {"sharpness": 0.5},
    "blur": {"blur_sigma_px": 1.0},
    "noise": {"noise": 0.05},
    "RandAugment, 2 operations": {"policy_operations": 2},
}


def make_epoch(changes: dict[str, Any], images: jax.Array) -> Callable[[jax.Array], jax.Array]:
    config = base_config().augment
    with config.unlocked():
        config.update(changes)
    augment = make_augment(config, mean=0.5, std=0.5)
    weights = jnp.ones((int(np.prod(images.shape[1:])), 8))

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


def make_baseline() -> Callable[[jax.Array], jax.Array]:
    """The epoch that `train` calls; it takes no notice of the key."""
    config = load_config("configs/footprints/baseline.py")
    training = make_engine(build_model(config.model, 2, (120, 80)), config)
    dataset, member = make_dataset(), jax.tree.map(lambda x: x[0], make_members(1))
    state = [training.init(member, dataset)]

    def epoch(key: jax.Array) -> jax.Array:
        del key
        state[0], record = training.train_epoch(state[0], member, dataset)
        return record["loss"]

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME", help="see --list"
    )
    parser.add_argument("--shape", nargs=3, type=int, default=(120, 80, 1), metavar=("H", "W", "C"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--list", action="store_true", help="the names for --only")
    args = parser.parse_args()
    if args.list:
        print("\n".join(VARIANTS))
        return
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, *args.shape), dtype=np.uint8))
    fits = [name for name in args.only if args.shape[2] == 3 or name != "saturation and hue"]
    epochs = {PLAIN: make_epoch(OFF, images), USUAL: make_epoch({}, images)}
    epochs |= {name: make_epoch(VARIANTS[name], images) for name in fits} | {BASELINE: make_baseline()}
    key = jax.random.key(0)
    seconds = dict.fromkeys(epochs, float("inf"))
    for epoch in epochs.values():
        epoch(key).block_until_ready()
    for _ in range(args.rounds):
        for name, epoch in epochs.items():
            start = time.perf_counter()
            epoch(key).block_until_ready()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}, {NUM_IMAGES} images of {tuple(args.shape)}")
    print(f"{BASELINE} (120 x 80): {seconds[BASELINE] * 1e3:.1f} ms")
    print(f"{'epoch of augmenting':52s} {'ms':>7s} {'added':>7s}  of the baseline's")
    for name in (PLAIN, USUAL, *fits):
        added = seconds[name] - seconds[USUAL if name in VARIANTS else PLAIN]
        print(f"{name:52s} {seconds[name] * 1e3:7.1f} {added * 1e3:7.1f}  {added / seconds[BASELINE]:6.1%}")


if __name__ == "__main__":
    main()
