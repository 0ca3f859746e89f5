"""Writes backbones.npz: what the references say for weights drawn from a seed, so that no reference is needed to test.

Per case of tests/support/backbone_cases.py: names and shapes of the published arrays, logits, a digest of every stage,
and of a training step the loss, the norm of every gradient and of every updated statistic.

Run: python tests/golden/make_backbones.py          (needs the extra `parity`; half an hour on two cores)
     python tests/golden/make_backbones.py NAME …   (only these architectures; the others stay as they are)
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from backbone_cases import CASES, Case, digest, draw_images
from reference_networks import reference_outputs, reference_training

PATH = pathlib.Path(__file__).with_name("backbones.npz")
NUM_LOGITS = 16
LABELS = (1, 20, 300, 999)


def golden_of(case: Case) -> dict[str, Any]:
    """The entries of one case."""
    size = case.parity.sizes[0]
    arrays, stages, logits = reference_outputs(case, case.number(draw_images(size, 2)))
    with jax.enable_x64(True):
        images = draw_images(size, len(LABELS)).astype(np.float64)
        _, loss, gradients, statistics = reference_training(case, images, np.array(LABELS))
    norms = {name: float(np.linalg.norm(value)) for name, value in gradients.items()}
    moved = {name: float(np.linalg.norm(value)) for name, value in statistics.items() if name in arrays}
    shapes = [[name, list(array.shape), array.dtype.kind] for name, array in arrays.items()]
    return {
        "arrays": np.array(json.dumps(shapes)),
        "logits": logits[:, :NUM_LOGITS].astype(np.float32),
        "stages": np.stack([digest(stages[name]) for name in case.parity.stages.values()]).astype(np.float32),
        "loss": np.float64(loss),
        "gradients": np.array(json.dumps(norms)),
        "statistics": np.array(json.dumps(moved)),
    }


def main() -> None:
    """Writes the file."""
    chosen = sys.argv[1:]
    entries = dict(np.load(PATH)) if PATH.is_file() and chosen else {}
    for case in CASES:
        if chosen and case.name not in chosen:
            continue
        found = golden_of(case)
        entries |= {f"{case.name}.{case.variant}.{key}": value for key, value in found.items()}
        print(f"{case.name} ({case.variant}): loss {found['loss']:.4f}", flush=True)
    np.savez_compressed(PATH, **entries)


if __name__ == "__main__":
    main()
