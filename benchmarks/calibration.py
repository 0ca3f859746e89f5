"""What temperature scaling is worth to the log loss, by the number of images and by how far it is needed.

Simulated with known truth: margins of two classes, normal with a standard deviation of 2 or 4 nats, too large by a
known factor T; labels are drawn by the margins divided by T. The temperature is fitted in five folds on the images of
the other four, as a study does. Printed is the log loss after calibration less that before it, averaged over studies,
by the weight of the prior (`fit_temperature`'s ridge); negative is better. docs/statistics.md has what came out.

Run: python benchmarks/calibration.py
"""

from __future__ import annotations

import argparse

import numpy as np

from fpclass.stats.metrics import image_log_losses, log_softmax
from fpclass.stats.probabilities.calibration import TEMPERATURE_RIDGE, fit_temperature

RIDGES = (0.0, 1.0, TEMPERATURE_RIDGE, 10.0, 30.0)
NUM_FOLDS = 5


def gains(rng: np.random.Generator, num_images: int, spread: float, temperature: float) -> list[float]:
    """Log loss of one study after calibration less that before, by ridge."""
    margins = rng.normal(0, spread, num_images)
    labels = (rng.random(num_images) < 1 / (1 + np.exp(-margins / temperature))).astype(int)
    logits = np.stack([np.zeros(num_images), margins], axis=1)
    folds, before = np.arange(num_images) % NUM_FOLDS, image_log_losses(log_softmax(logits), labels)
    found = []
    for ridge in RIDGES:
        after = np.empty(num_images)
        for fold in range(NUM_FOLDS):
            others, rows = folds != fold, folds == fold
            fitted = fit_temperature(logits[others], labels[others], ridge)
            after[rows] = image_log_losses(log_softmax(logits[rows] / fitted), labels[rows])
        found.append(float(np.mean(after - before)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100)
    args = parser.parse_args()
    print("| images | margins | T | " + " | ".join(f"ridge {ridge:g}" for ridge in RIDGES) + " |")
    print("|---" * (3 + len(RIDGES)) + "|")
    for num_images in (40, 100, 300):
        for spread in (2.0, 4.0):
            for temperature in (0.7, 1.0, 1.5, 2.5):
                rng = np.random.default_rng(0)
                studies = [gains(rng, num_images, spread, temperature) for _ in range(args.studies)]
                shown = " | ".join(f"{gain:+.4f}" for gain in np.mean(studies, axis=0))
                print(f"| {num_images} | {spread:g} | {temperature:g} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
