r"""Self-supervised pretraining of the small network: do images without a label help it? TRANSDUCTIVE.

SimCLR, as `fpclass.train.contrastive` has it. Then the network of configs/from_scratch.py is judged with these weights
and with random ones, on folds of people: as a frozen network with a probe, and trained on from there. It sees the
images of a fold's training people and the rows to predict; with `--see-judged` the pixels of all images, once for all
folds, the most that such pretraining can get. Labels of judged images are never seen.

Differences are from random weights, with 1.96 standard errors over people and overlapping training sets.
docs/results.md has what came out: nothing that would pay. As an experiment of a study it is
configs/transductive/pretrained.py, where each fold has its own pretraining.

Run: python benchmarks/self_supervised.py --see-judged -- --config.data.source=csv --config.data.root=fingerprints \
       --config.data.label_column=SEX --config.data.group_column=ID --config.data.image_size='(103,96)' \
       --config.data.channels=1
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from self_training import FOLDS, folds_of, over_people

from fpclass.experiment import load_config
from fpclass.models.probe import widths
from fpclass.run.prepare import Prepared, prepare
from fpclass.run.probe import features_of_all
from fpclass.stats.metrics import image_log_losses
from fpclass.train.contrastive import pretrain
from fpclass.train.members import of_one_size
from fpclass.train.placement import Placement, place_run
from fpclass.train.probes.self_training import ProbeData
from fpclass.train.state import Member
from fpclass.train.task import build_network
from fpclass.train.trained import Variables

CONFIG = "configs/from_scratch.py"
RANDOM, PRETRAINED = "random weights", "pretrained"
WAYS = ("a probe", "trained on")


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
        people, copies, ones = table.rows["group"].to_numpy(str), table.copy_mask, np.ones(table.num_classes)
        of_rows = (part[self.rows] for part in (units, people, copies))
        self.data = ProbeData(self.network, np.zeros((0, 0)), labels, *of_rows, ones)
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
        return data.logits(data.fit(train, f"{seed}"), judged).astype(np.float64)

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


def after_epoch(epoch: int, loss: float, share: float) -> None:
    """Says every ten epochs how far pretraining is."""
    if epoch % 10 == 0:
        print(f"epoch {epoch}: loss {loss:.3f}, other view nearest {share:.3f}", flush=True)


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
    data, config = (
        judge.data,
        load_config(CONFIG, [*args.overrides, f"--config.unlabelled.pretrain_epochs={args.epochs}"]),
    )
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
            seen = np.flatnonzero(args.see_judged | (folds != fold))
            begun = judge.random_weights(args.seed)
            weights[PRETRAINED] = pretrain(headless, begun, images, seen, config, args.seed, after_epoch)
        for way, start in logits:
            if way == WAYS[0]:
                found = judge.probed(weights[start], train, judged, args.seed)
            else:
                found = judge.tuned(weights[start], members, fold, judged)
            logits[way, start][judged] = found
        print(f"fold {fold} is judged", flush=True)
    report(data, logits)


def report(data: ProbeData, logits: dict[tuple[str, str], np.ndarray]) -> None:
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
