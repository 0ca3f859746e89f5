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


def one_after_the_other(rows: Rows, labels: Any, weights: Any, strengths: Any, start: Any = None) -> Fits:
    """What `fit_all` does, by scikit-learn: `start` are its regressions, one for each part."""
    regressions = start or [LogisticRegression(tol=TOLERANCE, max_iter=10_000, warm_start=True) for _ in weights]
    x = np.asarray(rows.x, np.float64)[: rows.num, :-1] * rows.scale
    logits = []
    for strength in strengths:
        for regression, of_part in zip(regressions, weights, strict=True):
            used = of_part > 0
            regression.set_params(C=strength).fit(x[used], labels[used], of_part[used])
            found = regression.decision_function(x)
            logits.append(found.T if found.ndim == 2 else found[None])
    shape = (len(strengths), len(weights), *logits[0].shape)
    of_parts: Any = regressions
    return Fits(of_parts, np.stack(logits).reshape(shape))


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
