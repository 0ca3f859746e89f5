"""How far members that train batched (`vmap`) go from the same members one after the other, and whether it matters.

Both ways see the same batches, augmentations and initial weights; batched matrix products sum in another order, and
training multiplies that rounding. Printed per epoch: the largest difference between weights, relative to the largest
weight; at the end the validation accuracies of both ways. SYNTHETIC prints, the baseline with every seed on one fold.

Run: python benchmarks/batched_drift.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import jax
import numpy as np

from fpclass.common.parallel import fetch, use_all_cores
from fpclass.experiment import load_config
from fpclass.run.prepare import Prepared, prepare
from fpclass.run.train import make_member
from fpclass.train.engine import batches_passed, fit
from fpclass.train.placement import place_members
from fpclass.train.state import TrainState


def make_config(num_images: int, num_epochs: int):
    config = load_config("configs/footprints/baseline.py")
    config.data.source = "synthetic"
    config.data.synthetic.num_images = num_images
    config.data.synthetic.image_size = (240, 160)
    config.train.num_epochs = num_epochs
    config.train.eval_every_epochs = num_epochs
    config.split.num_folds = 2
    return config


def train(config, prepared: Prepared, num_seeds: int, together: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Weights of all members after every epoch, flat, and their final validation accuracies."""
    config.hardware.together = together
    members = []
    for seed in range(num_seeds):
        config.seed = seed
        members.append(make_member(config, prepared))
    placement = place_members(config, prepared.table, prepared.images, num_seeds)
    engine, dataset = placement.engine, placement.dataset
    stacked = engine.put_members(members)
    weights, accuracies = [], np.empty(0)

    def keep_weights(state: TrainState) -> None:
        leaves = jax.tree.leaves(fetch(state.params))
        weights.append(np.concatenate([leaf[:num_seeds].reshape(num_seeds, -1) for leaf in leaves], axis=1))

    def after_epoch(record: dict) -> None:
        nonlocal accuracies
        if "validation_accuracy" in record:
            accuracies = record["validation_accuracy"][:num_seeds]

    def after_part(settled: Callable[[], TrainState]) -> bool:
        if batches_passed(settled()) == 0:
            keep_weights(settled())
        return True

    fresh = engine.init(stacked, dataset)
    keep_weights(fit(engine, fresh, stacked, dataset, config.train, after_epoch, after_part))
    return weights, accuracies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12, help="members")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, default=600, help="SYNTHETIC prints to draw")
    args = parser.parse_args()
    use_all_cores()
    config = make_config(args.images, args.epochs)
    prepared = prepare(config)
    (apart, apart_scores), (batched, batched_scores) = (
        train(config, prepared, args.seeds, together) for together in ("sequential", "vmap")
    )
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}, {args.seeds} members")
    print(f"{'epoch':>5}  {'largest difference of a weight / largest weight':<48}  median over members")
    for epoch, (one, other) in enumerate(zip(apart, batched, strict=True), start=1):
        drift = np.abs(one - other).max(axis=1) / np.abs(one).max(axis=1)
        if epoch in (1, 2, 3, 5) or epoch % 5 == 0:
            print(f"{epoch:>5}  {drift.max():<48.1e}  {np.median(drift):.1e}")
    difference = batched_scores - apart_scores
    error = difference.std(ddof=1) / np.sqrt(args.seeds)
    print(f"validation accuracy: sequential {apart_scores.mean():.3f}, sd {apart_scores.std(ddof=1):.3f}")
    print(f"                     batched    {batched_scores.mean():.3f}, sd {batched_scores.std(ddof=1):.3f}")
    print(f"batched minus sequential: {difference.mean():+.4f}, standard error {error:.4f}, paired by seed")


if __name__ == "__main__":
    main()
