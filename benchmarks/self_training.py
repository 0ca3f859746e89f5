r"""Self-training of probes: do images without a label help? TRANSDUCTIVE: it learns from images that it predicts.

A probe is fitted to the labelled images of a fold, labels images that have none where it is sure, and is fitted again
to both. How sure it is says a temperature that is fitted to its own predictions out of fold; a person's
images may answer together. Without a label are the rows to predict and, of the labelled people of a fold, all but a
share, whose labels are then not used. What is judged are the other folds' images, on folds of people; their pixels are
learnt from with `--see-judged` only, their labels never.

The strength of the regression is chosen by labelled images alone, before and after the labels were made up.
Differences are from the probe without, with 1.96 standard errors over people and overlapping training sets.
As an experiment of a study it is configs/transductive/self_trained.py; this script draws smaller shares of labels and
judges several ways at once. docs/results.md has what came out: nothing that would pay.

Run: python benchmarks/self_training.py --shares 1 0.5 0.2 -- --config.data.source=csv --config.data.root=fingerprints \
       --config.data.label_column=SEX --config.data.group_column=ID --config.data.image_size='(128,128)'
     python benchmarks/self_training.py --shares 0.2 0.05 -- --config.data.root=photos
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from fpclass.data.splits import partition
from fpclass.experiment import load_config
from fpclass.experiment.unlabelled import IMAGES, PEOPLE, WEIGHTED
from fpclass.run.prepare import Prepared, prepare
from fpclass.run.probe import features_of_all
from fpclass.stats.comparison.scores import overlap_of
from fpclass.stats.metrics import image_log_losses
from fpclass.train.probes.self_training import ProbeData
from fpclass.train.task import build_network, pretrained_variables

CONFIG = "configs/transfer/probe.py"
MOMENTS = "--config.model.probe_pooling=moments"
"""What probes are compared by, unless told otherwise: quicker to fit than with covariances."""
FOLDS = 5


WAYS = {
    "sure of the image, 0.9": (IMAGES, 0.9),
    "sure of the person, 0.8": (PEOPLE, 0.8),
    "people, weighted": (WEIGHTED, 0.0),
}
"""How images without a label take part: the way, and the least confidence."""


def load(overrides: Sequence[str]) -> tuple[ProbeData, Prepared]:
    """What probes are fitted to, of all images with a label or to be predicted, whose label is then -1."""
    config = load_config(CONFIG, [MOMENTS, *overrides])
    prepared = prepare(config)
    network: Any = build_network(config, prepared.table.num_classes)
    features = features_of_all(prepared, network, pretrained_variables(config, network), config)
    table = prepared.table
    usable = table.usable_mask & (table.labelled_mask | table.to_predict_mask)
    labels = np.where(table.labelled_mask, table.labels, -1)[usable]
    groups, people = prepared.splits.frame["unit"].to_numpy(str)[usable], table.rows["group"].to_numpy(str)[usable]
    copies, ones = table.copy_mask[usable], np.ones(table.num_classes)
    return ProbeData(network, features[usable], labels, groups, people, copies, ones), prepared


def folds_of(data: ProbeData, seed: int) -> Int[np.ndarray, " N"]:
    """Fold of each labelled image, of whole people, -1 of the others."""
    labelled = np.flatnonzero(data.labels >= 0)
    folds = np.full(len(data.labels), -1)
    groups, labels, names = data.groups[labelled], data.labels[labelled], tuple(map(str, range(data.labels.max() + 1)))
    folds[labelled] = partition(groups, labels, [1 / FOLDS] * FOLDS, f"{seed}/fold", names)
    return folds


def judge(data: ProbeData, share: float, seeds: int, *, sees_judged: bool) -> None:
    """Prints a line for each way: log loss and accuracy, and how they differ from the probe's, over people."""
    losses: dict[str, Any] = {name: np.zeros(len(data.labels)) for name in ("probe", *WAYS)}
    correct = {name: np.zeros(len(data.labels)) for name in losses}
    for seed in range(seeds):
        folds = folds_of(data, seed)
        for fold in range(FOLDS):
            train, judged = np.flatnonzero((folds >= 0) & (folds != fold)), np.flatnonzero(folds == fold)
            keep = part_of(data, train, share, seed)
            unknown = np.concatenate([train[~keep], np.flatnonzero(folds < 0), judged if sees_judged else judged[:0]])
            known, named = train[keep], f"{seed}/{fold}"
            probes = {"probe": data.fit(known, named)}
            for name, how in WAYS.items():
                made_up = data.make_up(probes["probe"], known, unknown, *how)
                probes[name] = data.fit(known, named, made_up)
            for name, probe in probes.items():
                logits = data.logits(probe, judged).astype(np.float64)
                losses[name][judged] += image_log_losses(logits, data.labels[judged]) / seeds
                correct[name][judged] += (logits.argmax(axis=1) == data.labels[judged]) / seeds
    rows = data.labels >= 0
    print(f"\n{share:g} of the people of a fold have labels; {seeds} divisions into {FOLDS} folds", flush=True)
    print("| way | log loss | difference | accuracy | difference |\n|---|---|---|---|---|")
    for name in losses:
        cells = []
        for values in (losses, correct):
            difference, error = over_people((values[name] - values["probe"])[rows], data.groups[rows])
            shown = f"{difference:+.3f} ± {1.96 * error:.3f}" if name in WAYS else ""
            cells += [f"{values[name][rows].mean():.3f}", shown]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def part_of(data: ProbeData, rows: np.ndarray, share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Which rows have a label: those of a share of the people, of every class alike."""
    keep = np.zeros(len(rows), bool)
    for label in range(data.labels.max() + 1):
        groups = np.unique(data.groups[rows][data.labels[rows] == label])
        drawn = np.random.default_rng(seed).permutation(groups)[: max(round(share * len(groups)), 2)]
        keep |= np.isin(data.groups[rows], drawn)
    return keep


def over_people(differences: Float[np.ndarray, " n"], groups: np.ndarray) -> tuple[float, float]:
    """The mean, and its standard error over people and overlapping training sets (Nadeau and Bengio)."""
    _, codes = np.unique(groups, return_inverse=True)
    sums = np.bincount(codes, weights=differences - differences.mean())
    return differences.mean(), math.sqrt(overlap_of(FOLDS) * np.sum(sums**2)) / len(codes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--shares", type=float, nargs="+", default=[1.0], help="of the people of a fold that have labels")
    add("--seeds", type=int, default=3, help="divisions into folds")
    add("--see-judged", action="store_true", help="learn from the pixels of the images that are judged")
    add("overrides", nargs="*", help="after --: of " + CONFIG)
    args = parser.parse_args()
    data, _ = load(args.overrides)
    print(f"{np.sum(data.labels >= 0)} images with and {np.sum(data.labels < 0)} without a label; TRANSDUCTIVE")
    for share in args.shares:
        judge(data, share, args.seeds, sees_judged=args.see_judged)


if __name__ == "__main__":
    main()
