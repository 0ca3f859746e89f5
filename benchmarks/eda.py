"""Does `launch.py eda` find what is wrong? Flips labels, or mixes in images of another set, and counts what is found.

Labels: a share of the labels is changed to another class, drawn at random; the suspicions are then compared with what
was changed. Outliers: some images of another set are mixed in, or spoilt ones of the same. All in memory: no file is
changed.

  python benchmarks/eda.py labels --root=DIR [--config=FILE] [--images=N] [--size 64 64] [--flip=0.05] [--repeats=5]
  python benchmarks/eda.py outliers --root=DIR [--others=DIR] [--plant=20] …

The set's own label errors and outliers count as false alarms, so the precision is a lower bound. Intervals: 95 %,
Student's t over the repeats.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import numpy as np
from scipy import stats

from fpclass import experiment
from fpclass.data import splits
from fpclass.data.audit import audit_table
from fpclass.data.decode import decode_table
from fpclass.data.resize import Decoding
from fpclass.data.sources import load_table
from fpclass.eda.features import make_features, picture_statistics
from fpclass.eda.judgement import quick_judgement
from fpclass.eda.label_errors import find_label_errors
from fpclass.eda.outliers import find_strange


def load(args, root):
    overrides = [f"--config.data.root={root}", f"--config.data.image_size=({args.size[0]},{args.size[1]})"]
    config = experiment.load_config(args.config, [*overrides, *args.overrides])
    table = load_table(config.data)
    if args.images and args.images < len(table):
        chosen = np.sort(np.random.default_rng(0).choice(len(table), args.images, replace=False))
        read = table.read
        table = dataclasses.replace(
            table, rows=table.rows.iloc[chosen].reset_index(drop=True), read=lambda row: read(int(chosen[row]))
        )
    images, facts = decode_table(
        table,
        Decoding.of(config.data),
        cache_dir=None,
    )
    return config, audit_table(table, facts).table, images


def with_interval(values):
    mean, error = np.mean(values), stats.sem(values) if len(values) > 1 else np.nan
    half = error * stats.t.ppf(0.975, len(values) - 1) if len(values) > 1 else np.nan
    return f"{mean:.2f} [{max(0, mean - half):.2f}, {min(1, mean + half):.2f}]"


def labels(args):
    config, table, images = load(args, args.root)
    rows = np.flatnonzero(table.labelled_mask)
    started = time.perf_counter()
    features = make_features(config, images, rows)
    units = splits.find_groups(table, grouped=True)[rows]
    truth, num_classes = table.labels, table.num_classes
    num_planted = round(args.flip * len(rows))
    found = {"at the number planted": [], "suspected: precision": [], "suspected: recall": []}
    accuracies, counts = [], []
    for repeat in range(args.repeats):
        rng = np.random.default_rng(repeat)
        planted = rng.choice(len(rows), num_planted, replace=False)
        given = truth.copy()
        given[rows[planted]] = (given[rows[planted]] + rng.integers(1, num_classes, num_planted)) % num_classes
        judgement = quick_judgement(
            features.values, table.with_columns(label=given), rows, units, features.description, repeat
        )
        errors = find_label_errors(given[judgement.rows], judgement.probabilities)
        is_planted = given[judgement.rows] != truth[judgement.rows]
        worst = errors.order[: is_planted.sum()]
        found["at the number planted"].append(is_planted[worst].mean())
        found["suspected: precision"].append(is_planted[errors.is_suspected].mean() if errors.num_suspected else 0)
        found["suspected: recall"].append(errors.is_suspected[is_planted].mean())
        accuracies.append(np.mean(judgement.log_probabilities.argmax(axis=1) == truth[judgement.rows]))
        counts.append(errors.num_suspected)
    print(f"{args.root}: {len(rows)} images, {num_classes} classes, {num_planted} labels flipped, x {args.repeats}")
    print(f"  features                 {features.description}")
    print(f"  accuracy (true labels)   {with_interval(accuracies)}")
    for name, values in found.items():
        print(f"  {name:<24} {with_interval(values)}")
    print(f"  number suspected         {np.mean(counts):.0f}")
    print(f"  took                     {time.perf_counter() - started:.1f} s")


def spoil(images, rng):
    """A third of the images as a negative, a third cut off and black below, a third in heavy noise."""
    spoilt = images.copy()
    spoilt[::3] = 255 - spoilt[::3]
    spoilt[1::3, images.shape[1] // 3 :] = 0
    spoilt[2::3] = np.clip(spoilt[2::3] + rng.normal(0, 80, spoilt[2::3].shape), 0, 255).astype(np.uint8)
    return spoilt


def outliers(args):
    _, table, images = load(args, args.root)
    others = load(args, args.others)[2] if args.others else None
    rows = np.flatnonzero(table.usable_mask)
    found = {"at the number planted": [], "suspected: precision": [], "suspected: recall": []}
    for repeat in range(args.repeats):
        rng = np.random.default_rng(repeat)
        pool = images[rows] if others is None else others
        planted = pool[rng.choice(len(pool), args.plant, replace=False)]
        if others is None:
            planted = spoil(planted, rng)
        mixed = np.concatenate([images[rows], planted])
        is_planted = np.arange(len(mixed)) >= len(rows)
        strange = find_strange(picture_statistics(mixed))
        found["at the number planted"].append(is_planted[strange.order[: args.plant]].mean())
        suspected = strange.is_suspected
        found["suspected: precision"].append(is_planted[suspected].mean() if suspected.any() else 0)
        found["suspected: recall"].append(suspected[is_planted].mean())
    print(f"{args.root}: {len(rows)} images and {args.plant} of {args.others or 'them, spoilt'}, x {args.repeats}")
    for name, values in found.items():
        print(f"  {name:<24} {with_interval(values)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("labels", "outliers"))
    parser.add_argument("--root", required=True)
    parser.add_argument("--others", help="outliers: folder of the other set; none: spoilt images of this one")
    parser.add_argument("--config", default="configs/base.py")
    parser.add_argument("--images", type=int, default=0, help="so many of them, drawn at random; 0: all")
    parser.add_argument("--size", type=int, nargs=2, default=(96, 96), metavar=("H", "W"))
    parser.add_argument("--flip", type=float, default=0.05)
    parser.add_argument("--plant", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    args, args.overrides = parser.parse_known_args()
    (labels if args.what == "labels" else outliers)(args)


if __name__ == "__main__":
    main()
