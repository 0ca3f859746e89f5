"""Fitting probes on folds: strengths and parts of the inner cross-validation together, and by scikit-learn in turn.

Both try the same strengths on the same parts, each regression from where the last one ended, and give the last word to
scikit-learn. The first round of the one compiles and does not count. docs/performance.md has what came out.

Run: python benchmarks/probe_fit.py -- --config.data.root=flowers '--config.data.image_size=(128,128)'
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
from self_training import FOLDS, folds_of, load
from sklearn.linear_model import LogisticRegression

from fpclass.models.probe import widths
from fpclass.train.probes import fit as fitting
from fpclass.train.probes.logistic import TOLERANCE, Fits, Rows, fit_all
from fpclass.train.probes.self_training import ProbeData


def one_after_the_other(rows: Rows, labels: Any, weights: Any, judged: Any, strengths: Any, start: Any = None) -> Fits:
    """What `fit_all` does, by scikit-learn; `start` are its regressions, and what each learns from and judges."""
    if start is None:
        x, start = np.asarray(rows.x, np.float64)[: rows.num, :-1] * rows.scale, []
        for of_part, others in zip(judged, weights > 0, strict=True):
            regression = LogisticRegression(tol=TOLERANCE, max_iter=10_000, warm_start=True)
            start.append((regression, (x[others], labels[others], weights[len(start), others]), x[of_part]))
    logits = np.zeros((len(strengths), labels.max() + 1 if labels.max() > 1 else 1, rows.num))
    for i, strength in enumerate(strengths):
        for (regression, learnt, unseen), of_part in zip(start, judged, strict=True):
            regression.set_params(C=strength).fit(*learnt)
            logits[i][:, of_part] = regression.decision_function(unseen).T
    return Fits(start, logits, 0)


def fit_folds(data: ProbeData) -> tuple[float, list[fitting.Probe]]:
    """Seconds that the probes of all folds take, and the probes."""
    folds, began = folds_of(data, seed=0), time.perf_counter()
    head: Any = data.network.head
    probes = []
    for fold in range(FOLDS):
        train = (folds >= 0) & (folds != fold)
        of_train = data.features[train], data.labels[train], data.groups[train]
        probes.append(fitting.fit_probe(head, *of_train, seed=str(fold), widths=widths(data.network)))
    return time.perf_counter() - began, probes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="after --: of configs/transfer/probe.py")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # where rounding ends a line search
    data, _ = load(args.overrides)
    print(f"{np.sum(data.labels >= 0)} images, {data.features.shape[1]} features, {FOLDS} folds", flush=True)
    seconds: dict[str, list[float]] = {}
    for i in range(args.rounds + 1):
        for name, way in (("together", fit_all), ("one after the other", one_after_the_other)):
            fitting.fit_all = way  # pyright: ignore
            if i or name == "together":
                took, probes = fit_folds(data)
                seconds.setdefault(name, []).append(took)
                best = ", ".join(f"C={probe.best.strength:g} {probe.best.loss:.4f}" for probe in probes)
                print(f"round {i}, {name}: {took:.2f} s; {best}", flush=True)
    together, alone = min(seconds["together"][1:]), min(seconds["one after the other"])
    print(f"together {together:.2f} s, one after the other {alone:.2f} s, ratio {together / alone:.2f}; "
          f"the first time, compiling included, {seconds['together'][0]:.2f} s")  # fmt: skip


if __name__ == "__main__":
    main()
