r"""Looks at images for a probe: moments, covariances or both, of the whole or of the middle, and averages of two looks.

The regression of probes on the moments that configs/transfer/probe.py reads, on covariances between channels
(model.probe_pooling=covariances), on both together, and on the same of the middle of the images (data.crop=centre), on
folds of groups; logits of two looks averaged. Differences are from the first, with 1.96 standard errors over groups and
overlapping training sets. docs/results.md has what came out.

Run: python benchmarks/looks.py --seeds 4 -- --config.data.root=flowers '--config.data.image_size=(128,128)'
"""

from __future__ import annotations

import argparse

import numpy as np
from self_training import load
from texture_features import Judge

from fpclass.models.probe import widths

COVARIANCES, MIDDLE = "--config.model.probe_pooling=covariances", "--config.data.crop=centre"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="divisions into folds")
    parser.add_argument("overrides", nargs="*", help="after --: of configs/transfer/probe.py")
    args = parser.parse_args()
    data, _ = load(args.overrides)
    judge, of_moments = Judge(data, args.seeds), widths(data.network)
    print(f"{np.sum(judge.rows)} images, {len(np.unique(data.groups[judge.rows]))} groups", flush=True)
    print("| features of | log loss | difference | accuracy | difference |\n|---|---|---|---|---|")
    looks = {}
    for place, flags in {"whole images": [], "their middle": [MIDDLE]}.items():
        moments = load([*args.overrides, *flags])[0].features
        others, _ = load([*args.overrides, *flags, COVARIANCES])
        of_others = widths(others.network)
        both = np.concatenate([moments, others.features], axis=1)
        for pooling, features, parts in (
            ("moments", moments, of_moments),
            ("covariances", others.features, of_others),
            ("both", both, [*of_moments, *of_others]),
        ):
            looks[pooling, place] = judge.logits(features, parts)
            judge.show(f"{place}: {pooling}", looks[pooling, place])
    for pooling in ("moments", "both"):
        averaged = (looks[pooling, "whole images"] + looks[pooling, "their middle"]) / 2
        judge.show(f"whole and middle, averaged: {pooling}", averaged)


if __name__ == "__main__":
    main()
