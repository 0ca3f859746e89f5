r"""Self-supervised pretraining of the small network: do images without a label help it? TRANSDUCTIVE.

SimCLR (Chen et al., ICML 2020; equation 1): two augmented crops of an image are to be told from those of the other
images of a batch. Then the network of configs/from_scratch.py is judged with these weights and with random ones, on
folds of people: as a frozen network with a probe, and trained on from there. It sees the images of a fold's training
people and the rows to predict; with `--see-judged` the pixels of all images, once for all folds, the most that such
pretraining can get. Labels of judged images are never seen.

Crops keep their scale, so that what an image's frequencies say is left. Differences are from random weights, with 1.96
standard errors over people and overlapping training sets. docs/results.md has what came out: nothing that would pay,
which is why no command does this.

Run: python benchmarks/self_supervised.py --see-judged -- --config.data.source=csv --config.data.root=fingerprints \
       --config.data.label_column=SEX --config.data.group_column=ID --config.data.image_size='(103,96)' \
       --config.data.channels=1
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from self_training import FOLDS, Data, folds_of, over_people

from fpclass.augment.compose import make_augment_batch
from fpclass.config import Config
from fpclass.experiment import load_config
from fpclass.models.network import Network, moments
from fpclass.models.probe import widths
from fpclass.run.prepare import Prepared, prepare
from fpclass.run.probe import features_of_all
from fpclass.stats.metrics import image_log_losses
from fpclass.train.members import of_one_size
from fpclass.train.placement import Placement, place_run
from fpclass.train.state import Member
from fpclass.train.task import build_network
from fpclass.train.trained import Variables

CONFIG = "configs/from_scratch.py"
VIEWS = (
    "--config.augment.max_rotation_deg=20.0",
    "--config.augment.translation=(0.0,0.0)",
    "--config.augment.brightness=0.3",
    "--config.augment.contrast=0.3",
    "--config.augment.flip_probability=0.5",
    "--config.augment.erasing_probability=0.3",
)
CROP = 0.65
"""Of the height and of the width."""
TEMPERATURE = 0.2
BATCH = 128
RANDOM, PRETRAINED = "random weights", "pretrained"
WAYS = ("a probe", "trained on")


class Projection(nn.Module):
    """From features to unit vectors that are compared: [n, d] -> [n, 64]."""

    @nn.compact
    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n 64"]:
        x = nn.Dense(64)(nn.relu(nn.Dense(128)(x)))
        return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)


def contrast(z: Float[Array, "two_n k"]) -> tuple[Array, Array]:
    """The loss of unit vectors, whose second half are the other views of the first, and how often these are nearest."""
    similar = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, z @ z.T / TEMPERATURE)
    other = jnp.roll(jnp.arange(len(z)), len(z) // 2)
    return optax.softmax_cross_entropy_with_integer_labels(similar, other).mean(), (similar.argmax(1) == other).mean()


def make_views(config: Config, size: tuple[int, int]) -> Callable[[Array, Array], Array]:
    """(key, images uint8 [n, H, W, C]) -> augmented crops of this size, normalised, [n, h, w, C]."""
    augment = make_augment_batch(config.augment, mean=config.data.mean, std=config.data.std)

    def views(key: Array, images: Array) -> Array:
        of_images, of_crops = jax.random.split(key)
        seen = augment(jax.random.split(of_images, len(images)), images, jnp.zeros(len(images), jnp.int32))
        room = jnp.array(images.shape[1:3]) - jnp.array(size) + 1
        at = jax.random.randint(of_crops, (len(images), 2), 0, room)
        cut = lambda image, corner: jax.lax.dynamic_slice(image, (*corner, 0), (*size, image.shape[-1]))  # noqa: E731
        return jax.vmap(cut)(seen, at)

    return views


def pretrain(config: Config, network: Network, images: np.ndarray, epochs: int, seed: int) -> Variables:
    """Variables of a network without a head, learnt from images uint8 [N, H, W, C] alone."""
    height, width = (round(CROP * side) for side in images.shape[1:3])
    views, projection, key = make_views(config, (height, width)), Projection(), jax.random.key(seed)
    example = jnp.zeros((2, height, width, images.shape[-1]))
    variables = network.init(key, example, train=False)
    example = moments(network.apply(variables, example, train=False))
    params = {"network": variables["params"], "projection": projection.init(key, example)["params"]}
    num_batches = len(images) // BATCH
    num_steps = num_batches * epochs
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1e-3, num_steps // 20, num_steps)
    optimizer = optax.adamw(schedule, weight_decay=0.05)
    on_device = jnp.asarray(images)

    def loss_of(params: Any, statistics: Any, key: Array, rows: Array) -> Any:
        both = jnp.concatenate([views(one, on_device[rows]) for one in jax.random.split(key)])
        of_network = {"params": params["network"], "batch_stats": statistics}
        maps, changed = network.apply(of_network, both, train=True, mutable=["batch_stats"])
        loss, is_nearest = contrast(projection.apply({"params": params["projection"]}, moments(maps)))  # pyright: ignore
        return loss, (changed["batch_stats"], is_nearest)

    @jax.jit
    def step(params: Any, statistics: Any, state: Any, key: Array, rows: Array) -> Any:
        grad = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (statistics, is_nearest)), gradients = grad(params, statistics, key, rows)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), statistics, state, (loss, is_nearest)

    state, statistics = optimizer.init(params), variables["batch_stats"]
    order, began = np.random.default_rng(seed), time.perf_counter()
    for epoch in range(epochs):
        records, rows = [], order.permutation(len(images))[: num_batches * BATCH].reshape(num_batches, BATCH)
        for i, batch in enumerate(rows, start=epoch * num_batches):
            params, statistics, state, record = step(params, statistics, state, jax.random.fold_in(key, i), batch)
            records.append(record)
        if epoch % 10 == 9 or epoch + 1 == epochs:
            loss, share = np.mean(jax.device_get(records), axis=0)
            took = time.perf_counter() - began
            print(f"epoch {epoch + 1}: loss {loss:.3f}, other view nearest {share:.3f}; {took:.0f} s", flush=True)
    return jax.device_get({"params": params["network"], "batch_stats": statistics})


class Judge:
    """Predicts judged images with given weights: by a probe, and trained on."""

    def __init__(self, overrides: Sequence[str]):
        of_probe = [key for key in overrides if not key.startswith(("--config.train.", "--config.optim."))]
        self.probe_config = load_config(CONFIG, ["--config.model.head=probe", *of_probe])
        self.tuned_config = load_config(CONFIG, ["--config.train.early_stopping=none", *overrides])
        self.prepared: Prepared = prepare(self.tuned_config)
        table = self.prepared.table
        self.rows = np.flatnonzero(table.usable_mask & (table.labelled_mask | table.to_predict_mask))
        self.network: Any = build_network(self.probe_config, table.num_classes)
        units = self.prepared.splits.frame["unit"].to_numpy(str)
        labels = np.where(table.labelled_mask, table.labels, -1)[self.rows]
        self.data = Data(np.zeros((0, 0)), labels, units[self.rows], self.network)
        self.placement: Placement = place_run(self.tuned_config, table, self.prepared.images)
        self.predict = jax.jit(self.placement.engine.predict)

    def random_weights(self, seed: int) -> Variables:
        """Those of the stages, without a head."""
        shape = (1, *self.prepared.images.shape[1:])
        variables = self.network.clone(head=None).init(jax.random.key(seed), jnp.zeros(shape), train=False)
        return {kind: variables[kind] for kind in ("params", "batch_stats")}

    def probed(self, weights: Variables, train: np.ndarray, judged: np.ndarray, seed: int) -> np.ndarray:
        """Logits of the judged rows by a probe of frozen weights."""
        features = features_of_all(self.prepared, self.network, weights, self.probe_config)[self.rows]
        data = dataclasses.replace(self.data, features=features)
        ones = np.ones(len(train))
        return data.logits(data.fit(train, data.labels[train], ones, ones > 0, f"{seed}"), judged)

    def tuned(self, weights: Variables, members: Sequence[Member], fold: int, judged: np.ndarray) -> np.ndarray:
        """Logits of the judged rows by a network that is trained on from these weights; the head is random."""
        engine, dataset = self.placement.engine, self.placement.dataset.replace(pretrained=weights)
        member = engine.put_members([members[fold]])
        state = engine.init(member, dataset)
        for _ in range(self.tuned_config.train.num_epochs):
            state, _ = engine.train_epoch(state, member, dataset)
        params, statistics = state.average or (state.params, state.batch_stats)
        rows = jnp.asarray(self.rows[judged])
        return np.asarray(self.predict(params, statistics, dataset.images, rows), np.float64)

    def members(self, folds: Int[np.ndarray, " N"], seed: int) -> list[Member]:
        """Seed and rows of each fold's training; nothing is chosen by the judged rows."""
        weights, none = np.ones(self.prepared.table.num_classes, np.float32), self.rows[:0]
        trained = [self.rows[(folds >= 0) & (folds != fold)] for fold in range(FOLDS)]
        made: Any = [(np.uint32(FOLDS * seed + fold), rows, none, none, weights) for fold, rows in enumerate(trained)]
        return of_one_size([Member(*of_fold) for of_fold in made])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--epochs", type=int, default=100, help="of pretraining")
    add("--seed", type=int, default=0)
    add("--see-judged", action="store_true", help="pretrain once, on the pixels of all images")
    add("--no-tuning", action="store_true", help="probes alone")
    add("overrides", nargs="*", help="after --: of " + CONFIG)
    args = parser.parse_args()
    judge = Judge(args.overrides)
    data, views = judge.data, load_config(CONFIG, [*args.overrides, *VIEWS])
    folds = folds_of(data, args.seed)
    print(f"{np.sum(folds >= 0)} images with and {np.sum(folds < 0)} without a label; TRANSDUCTIVE", flush=True)
    print(f"the probe reads moments of {len(widths(judge.network))} stages", flush=True)
    members, headless = judge.members(folds, args.seed), judge.network.clone(head=None)
    images, weights = np.asarray(judge.prepared.images[judge.rows]), {RANDOM: judge.random_weights(args.seed)}
    ways, shape = WAYS[:1] if args.no_tuning else WAYS, (len(folds), judge.prepared.table.num_classes)
    logits = {(way, start): np.zeros(shape) for way in ways for start in (RANDOM, PRETRAINED)}
    for fold in range(FOLDS):
        train, judged = np.flatnonzero((folds >= 0) & (folds != fold)), np.flatnonzero(folds == fold)
        if not (args.see_judged and fold):
            seen = images if args.see_judged else images[folds != fold]
            weights[PRETRAINED] = pretrain(views, headless, seen, args.epochs, args.seed)
        for way, start in logits:
            if way == WAYS[0]:
                found = judge.probed(weights[start], train, judged, args.seed)
            else:
                found = judge.tuned(weights[start], members, fold, judged)
            logits[way, start][judged] = found
        print(f"fold {fold} is judged", flush=True)
    report(data, logits)


def report(data: Data, logits: dict[tuple[str, str], np.ndarray]) -> None:
    """Prints a line for each way and start: log loss and accuracy, and how they differ from random weights."""
    rows = data.labels >= 0
    labels, groups = data.labels[rows], data.groups[rows]
    scores = {key: (image_log_losses(z[rows], labels), z[rows].argmax(axis=1) == labels) for key, z in logits.items()}
    print("\n| way | weights | log loss | difference | accuracy | difference |\n|---|---|---|---|---|---|")
    for (way, start), found in scores.items():
        cells = []
        for values, of_random in zip(found, scores[way, RANDOM], strict=True):
            difference, error = over_people(values - of_random.astype(float), groups)
            cells += [f"{values.mean():.3f}", f"{difference:+.3f} ± {1.96 * error:.3f}" if start != RANDOM else ""]
        print(f"| {way} | {start} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
