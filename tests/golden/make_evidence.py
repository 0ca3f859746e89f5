"""Makes evidence.npz: likelihood ratios and what the package lir of the Netherlands Forensic Institute says of them.

Run: pip install lir==1.3.1 (into an environment of its own) && python tests/golden/make_evidence.py
Of lir 1.3.1: cllr, cllr_min, elub, the isotonic calibrator, calculate_ece, and the logistic calibrator, no penalty.
"""

import pathlib

import numpy as np
from lir.algorithms.bayeserror import elub
from lir.algorithms.isotonic_regression import IsotonicCalibrator
from lir.algorithms.logistic_regression import LogitCalibrator
from lir.data.models import LLRData
from lir.metrics import cllr, cllr_min
from lir.plotting.expected_calibration_error import calculate_ece

PRIORS = np.array([0.01, 0.1, 0.5, 0.8, 0.99])


def main() -> None:
    rng, saved = np.random.default_rng(0), {}
    for name, (num_h1, num_h2, shift, spread) in {
        "overconfident": (60, 90, 0.6, 1.2),
        "good": (400, 250, 1.0, 0.9),
        "useless": (30, 30, 0.0, 0.5),
        "few": (12, 9, 0.5, 0.4),
    }.items():
        labels = np.concatenate([np.ones(num_h1, int), np.zeros(num_h2, int)])
        drawn = rng.normal(size=len(labels)) * spread + np.where(labels == 1, shift, -shift)
        log10 = np.round(drawn, 2) + 0.004  # ties among them, but none with the steps in which elub searches
        data = LLRData(features=log10, labels=labels)
        logit = LogitCalibrator(C=np.inf, tol=1e-10, max_iter=10_000)
        saved |= {
            f"{name}_labels": labels,
            f"{name}_log10": log10,
            f"{name}_cllr": cllr(data),
            f"{name}_cllr_min": cllr_min(data),
            f"{name}_elub": elub(log10.copy(), labels),
            f"{name}_pav": IsotonicCalibrator().fit_transform(log10, labels),
            f"{name}_ece": calculate_ece(10**log10, labels, PRIORS),
            f"{name}_logit": logit.fit(log10 * np.log(10), labels).transform(log10 * np.log(10)),
        }
    path = pathlib.Path(__file__).with_name("evidence.npz")
    np.savez_compressed(path, priors=PRIORS, **saved)


if __name__ == "__main__":
    main()
