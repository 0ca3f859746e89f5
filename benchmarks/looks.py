r"""Other looks at images beside the probe of moments of the whole: what averages with them bring, and one regression.

The regression of probes on the moments that configs/transfer/probe.py reads, on those of the middle of the images
(data.crop=centre), and on covariances between channels (model.probe_pooling=covariances), on folds of groups: each
alone, logits averaged with the first, and one regression on both. Differences are from the first, with 1.96 standard
errors over groups and overlapping training sets. docs/results.md has what came out.

Run: python benchmarks/looks.py --seeds 4 -- --config.data.root=flowers '--config.data.image_size=(128,128)'
"""

from __future__ import annotations

import argparse

import numpy as np
from self_training import load
from texture_features import Judge

from fpclass.models.probe import widths

OTHERS = {
    "their middle": ["--config.data.crop=centre"],
    "covariances": ["--config.model.probe_pooling=covariances"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="divisions into folds")
    parser.add_argument("overrides", nargs="*", help="after --: of configs/transfer/probe.py")
    args = parser.parse_args()
    data, _ = load(args.overrides)
    judge, of_network = Judge(data, args.seeds), widths(data.network)
    print(f"{np.sum(judge.rows)} images, {len(np.unique(data.groups[judge.rows]))} groups", flush=True)
    print("| features of | log loss | difference | accuracy | difference |\n|---|---|---|---|---|")
    judge.show("whole images", whole := judge.logits(data.features, of_network))
    looks = [whole]
    for name, flags in OTHERS.items():
        other, _ = load([*args.overrides, *flags])
        looks.append(judge.logits(other.features, widths(other.network)))
        judge.show(name, looks[-1])
        judge.show(f"{name} and the first, averaged", (whole + looks[-1]) / 2)
        both = np.concatenate([data.features, other.features], axis=1)
        judge.show(f"{name} and the first, one regression", judge.logits(both, [*of_network, *widths(other.network)]))
    judge.show("all, averaged", np.mean(looks, axis=0))


if __name__ == "__main__":
    main()
