r"""Averaged weights of trainings that start from the same probe (soups): better than one of them, or than an ensemble?

Of every fold the configs of a study that train on from one probe (configs/transfer/tuned_probe.py and variants of it,
same seed, so that the probe is the same) are averaged weight by weight, statistics of batch norm too, and judged on the
fold's images beside each of them, their ensemble (mean of their log-probabilities) and the probe. A greedy soup
(Wortsman et al., ICML 2022) would choose on images set aside, of which a few hundred leave none. Differences are
paired, over groups and overlapping training sets, from the first config that is named. docs/results.md has what came
out.

Run: python benchmarks/soup.py runs/lpft probe lpft_plain lpft_smooth lpft_randaug lpft_mixup
     (the first is what the others are compared with; the others are averaged)
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fpclass.data.splits import VALIDATION
from fpclass.report.text_tables import markdown_table
from fpclass.run.best import BestModel
from fpclass.run.prepare import Prepared, prepare_again
from fpclass.stats.cohort import Cohort
from fpclass.stats.comparison.scores import resample_configs
from fpclass.stats.comparison.verdicts import compare_all
from fpclass.stats.intervals import Bootstrap
from fpclass.stats.metrics import log_softmax
from fpclass.study.study import Study

METRICS = ("accuracy", "log_loss")


def log_probabilities_of(best: BestModel, prepared: Prepared) -> np.ndarray:
    return log_softmax(best.predict_once(prepared, VALIDATION).astype(np.float64))


def of_fold(study: Study, names: Sequence[str], fold: int) -> tuple[dict[str, np.ndarray], Any]:
    """Log-probabilities of a fold's images by each config, their soup and their ensemble; and the fold's splits."""
    runs = {name: next(m.run for m in study.members(name) if (m.fold, m.seed) == (fold, 0)) for name in names}
    prepared = {name: prepare_again(run) for name, run in runs.items()}
    num_classes = prepared[names[0]].table.num_classes
    models = {name: BestModel(run, num_classes) for name, run in runs.items()}
    said = {name: log_probabilities_of(model, prepared[name]) for name, model in models.items()}
    first, *averaged = names
    weights = [models[name].variables for name in averaged]
    soup = models[averaged[0]].of_member(runs[averaged[0]])
    soup.__dict__["variables"] = jax.tree.map(lambda *leaves: np.mean(np.stack(leaves), axis=0), *weights)
    said["soup"] = log_probabilities_of(soup, prepared[averaged[0]])
    said["ensemble"] = log_softmax(np.mean([said[name] for name in averaged], axis=0))
    data = prepared[first]
    return said, data.splits.frame.iloc[data.splits.rows(VALIDATION)].assign(
        label=data.table.labels[data.splits.rows(VALIDATION)]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=pathlib.Path, help="its folder")
    parser.add_argument("names", nargs="+", help="configs: the one to compare with, then those to average")
    args = parser.parse_args()
    study = Study.open(args.study)
    folds = [of_fold(study, args.names, fold) for fold in range(study.num_splits)]
    said = {name: np.concatenate([each[name] for each, _ in folds])[None] for name in folds[0][0]}
    labels, units = (np.concatenate([frame[key].to_numpy() for _, frame in folds]) for key in ("label", "unit"))
    cohort = Cohort(labels, units, np.repeat(np.arange(len(folds)), [len(frame) for _, frame in folds]))
    cells = {name: [name] for name in said}
    for metric in METRICS:
        resampled = resample_configs(said, cohort, metric, Bootstrap(2000, 0.95))
        compared = compare_all(resampled, args.names[0], margin=0.02)
        for name in said:
            difference = f"{compared[name].difference:+}" if name in compared else ""
            cells[name] += [str(resampled[name].score.mean), difference]
    print("\n".join(markdown_table([["way", *(x for m in METRICS for x in (m, "difference"))], *cells.values()])))


if __name__ == "__main__":
    main()
