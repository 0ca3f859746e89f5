r"""A probe of the middle of images beside a probe of the whole: what their average brings, and what one of both would.

The regression of probes on the features of configs/transfer/probe.py, of whole images and of their middle
(data.crop=centre), on folds of groups: each alone, logits averaged, and one regression on both. Differences are from
the probe of whole images, with 1.96 standard errors over groups and overlapping training sets. docs/results.md has what
came out.

Run: python benchmarks/middle.py --seeds 4 -- --config.data.root=flowers '--config.data.image_size=(128,128)'
"""

from __future__ import annotations

import argparse

import numpy as np
from self_training import load
from texture_features import Judge

from fpclass.models.probe import widths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="divisions into folds")
    parser.add_argument("overrides", nargs="*", help="after --: of configs/transfer/probe.py")
    args = parser.parse_args()
    data, _ = load(args.overrides)
    middle, _ = load([*args.overrides, "--config.data.crop=centre"])
    judge, of_network = Judge(data, args.seeds), widths(data.network)
    both = [np.split(features, np.cumsum(of_network)[:-1], axis=1) for features in (data.features, middle.features)]
    joined = [part for parts in zip(*both, strict=True) for part in parts]
    print(f"{np.sum(judge.rows)} images, {len(np.unique(data.groups[judge.rows]))} groups", flush=True)
    print("| features of | log loss | difference | accuracy | difference |\n|---|---|---|---|---|")
    judge.show("whole images", whole := judge.logits(data.features, of_network))
    judge.show("their middle", part := judge.logits(middle.features, of_network))
    judge.show("both, logits averaged", (whole + part) / 2)
    judge.show(
        "both, one regression", judge.logits(np.concatenate(joined, axis=1), [w for w in of_network for _ in both])
    )


if __name__ == "__main__":
    main()
