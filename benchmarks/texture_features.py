r"""Texture by hand beside a probe: do ridges' frequencies and orientations say what a pretrained network does not see?

Of grey prints: local binary patterns (Ojala et al., TPAMI 2002; 8 neighbours at 1, 2 and 3 pixels), power spectra by
frequency in 3 x 3 windows, by frequency and direction of the whole print, and histograms of gradients' orientations
(Dalal and Triggs, CVPR 2005; 4 x 4 cells, 8 bins, without their blocks). Each is judged by the regression of probes
(`train.probes`), on folds of people: alone, joined with the features of configs/transfer/probe.py, and its logits
averaged with that probe's. Differences are from the probe, with 1.96 standard errors over people and overlapping
training sets. docs/results.md has what came out.

Run: python benchmarks/texture_features.py --seeds 2 -- --config.data.source=csv --config.data.root=fingerprints \
       --config.data.label_column=SEX --config.data.group_column=ID
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from self_training import FOLDS, folds_of, load, over_people

from fpclass.experiment import load_config
from fpclass.models.probe import widths
from fpclass.run.prepare import prepare
from fpclass.stats.metrics import image_log_losses
from fpclass.train.probes.fit import fit_probe, logits_of
from fpclass.train.probes.self_training import ProbeData

NETWORK_SIZE = "--config.data.image_size=(128,128)"
PRINT_SIZE = (103, 96)
"""Pixels of a print as scanned, so that frequencies are those of ridges."""
NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
HIGHEST = 0.35
"""Cycles a pixel: finer is noise."""


def patterns(image: Float[np.ndarray, "h w"]) -> Float[np.ndarray, " 768"]:
    """Square roots of the shares of the 256 local binary patterns, of each radius."""
    height, width = image.shape
    found = []
    for radius in (1, 2, 3):
        centre = image[radius:-radius, radius:-radius]
        code = np.zeros(centre.shape, int)
        for bit, (down, right) in enumerate(NEIGHBOURS):
            top, left = radius * (1 + down), radius * (1 + right)
            other = image[top : top + height - 2 * radius, left : left + width - 2 * radius]
            code += (other > centre).astype(int) << bit
        found.append(np.sqrt(np.bincount(code.ravel(), minlength=256) / code.size))
    return np.concatenate(found)


def spectrum(image: Float[np.ndarray, "h w"], rings: int, directions: int) -> Float[np.ndarray, " d"]:
    """Logarithms of the shares of the power by frequency and direction, and of all of it."""
    height, width = image.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    down, right = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    frequency, angle = np.hypot(down, right), np.mod(np.arctan2(down, right), np.pi)
    ring = (frequency / HIGHEST * rings).astype(int)
    direction = np.minimum((angle / np.pi * directions).astype(int), directions - 1)
    counts = (ring < rings) & (frequency > 0.02)
    sums = np.bincount((ring * directions + direction)[counts], power[counts], rings * directions)
    return np.append(np.log(sums / (sums.sum() + 1e-12) + 1e-6), np.log(sums.sum() + 1e-9))


def local_spectra(image: Float[np.ndarray, "h w"]) -> Float[np.ndarray, " d"]:
    """Of nine windows of half the side: power by frequency, mean and deviation."""
    height, width = (side // 2 for side in image.shape)
    windows = [
        image[top : top + height, left : left + width]
        for top in (0, height // 2, height)
        for left in (0, width // 2, width)
    ]
    return np.concatenate([[*spectrum(part, 12, 1), part.mean(), part.std()] for part in windows])


def orientations(image: Float[np.ndarray, "h w"]) -> Float[np.ndarray, " 128"]:
    """Logarithms of the sums of gradients' magnitudes by orientation, of each cell."""
    down, right = np.gradient(image)
    size = np.hypot(down, right)
    bins = np.minimum((np.mod(np.arctan2(down, right), np.pi) / np.pi * 8).astype(int), 7)
    rows, columns = (np.array_split(np.arange(side), 4) for side in image.shape)
    found = [
        np.bincount(bins[np.ix_(r, c)].ravel(), size[np.ix_(r, c)].ravel(), minlength=8) for r in rows for c in columns
    ]
    return np.log(np.concatenate(found) + 1e-2)


FEATURES = {
    "local binary patterns": patterns,
    "local spectra": local_spectra,
    "spectrum by direction": lambda image: spectrum(image, 20, 8),
    "orientations of gradients": orientations,
}


class Judge:
    """Logits out of fold, and what they score beside the probe of the network."""

    def __init__(self, data: ProbeData, seeds: int):
        self.data, self.seeds = data, seeds
        self.rows = data.labels >= 0
        self.probe: tuple[np.ndarray, ...] = ()

    def logits(self, features: Float[np.ndarray, "N d"], parts: Sequence[int]) -> Float[np.ndarray, "s N K"]:
        """Of each division into folds; `parts` are the numbers of features that get a weight of their own."""
        data, head = self.data, self.data.network.head
        found = np.zeros((self.seeds, len(data.labels), data.labels.max() + 1))
        for seed in range(self.seeds):
            folds = folds_of(data, seed)
            for fold in range(FOLDS):
                train, judged = np.flatnonzero((folds >= 0) & (folds != fold)), np.flatnonzero(folds == fold)
                of_train = features[train], data.labels[train], data.groups[train]
                probe = fit_probe(head, *of_train, seed=f"{seed}/{fold}", widths=parts)
                found[seed, judged] = logits_of(head, probe.params, features[judged])
        return found

    def show(self, name: str, logits: Float[np.ndarray, "s N K"]) -> None:
        """Prints a line: log loss and accuracy, and how they differ from those of the first that was shown."""
        labels, groups = self.data.labels[self.rows], self.data.groups[self.rows]
        losses = np.mean([image_log_losses(z[self.rows], labels) for z in logits], axis=0)
        correct = np.mean([z[self.rows].argmax(axis=1) == labels for z in logits], axis=0)
        cells = []
        for values, of_probe in zip((losses, correct), self.probe or (None, None), strict=True):
            cells += [f"{values.mean():.3f}", ""]
            if of_probe is not None:
                difference, error = over_people(values - of_probe, groups)
                cells[-1] = f"{difference:+.3f} ± {1.96 * error:.3f}"
        self.probe = self.probe or (losses, correct)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2, help="divisions into folds")
    parser.add_argument("overrides", nargs="*", help="after --: of configs/transfer/probe.py, but for the size")
    args = parser.parse_args()
    data, _ = load([*args.overrides, NETWORK_SIZE])
    as_scanned = [f"--config.data.image_size={PRINT_SIZE}", "--config.data.channels=1"]
    prints = prepare(load_config("configs/footprints/baseline.py", [*args.overrides, *as_scanned]))
    usable = prints.table.usable_mask & (prints.table.labelled_mask | prints.table.to_predict_mask)
    images = np.asarray(prints.images[np.flatnonzero(usable)])[..., 0] / 255.0
    by_hand = {name: np.float32([of(image) for image in images]) for name, of in FEATURES.items()}
    by_hand["all four"] = np.concatenate(list(by_hand.values()), axis=1)
    of_each = {name: (features.shape[1],) for name, features in by_hand.items()}
    of_each["all four"] = tuple(by_hand[name].shape[1] for name in FEATURES)
    judge, of_network = Judge(data, args.seeds), widths(data.network)
    print(f"{np.sum(judge.rows)} prints of {len(np.unique(data.groups[judge.rows]))} people", flush=True)
    print("| features | log loss | difference | accuracy | difference |\n|---|---|---|---|---|")
    judge.show("the network's (the probe)", probe := judge.logits(data.features, of_network))
    for name, features in by_hand.items():
        judge.show(name, alone := judge.logits(features, of_each[name]))
        both = np.concatenate([data.features, features], axis=1)
        judge.show(f"{name}, joined with the network's", judge.logits(both, (*of_network, *of_each[name])))
        judge.show(f"{name}, logits averaged with the probe's", (alone + probe) / 2)


if __name__ == "__main__":
    main()
