"""Writes backbones.npz: what the references say for weights drawn from a seed, so that no reference is needed to test.

Per case of tests/support/backbone_cases.py: names and shapes of the published arrays, logits, a digest of every stage;
of one of them, of a training step, the loss and the norms of all gradients and updated statistics.

Run: python tests/golden/make_backbones.py          (needs the extra `parity`)
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

from backbone_cases import CASES, LABELS, RESNET18, Case, digest, draw_images
from reference_networks import reference_outputs, reference_training

PATH = pathlib.Path(__file__).with_name("backbones.npz")
NUM_LOGITS = 16


def golden_of(case: Case) -> dict[str, Any]:
    """The entries of one case."""
    size = case.parity.sizes[0]
    arrays, stages, logits = reference_outputs(case, case.number(draw_images(size, 2)))
    shapes = [[name, list(array.shape), array.dtype.kind] for name, array in arrays.items()]
    found = {
        "arrays": np.array(json.dumps(shapes)),
        "logits": logits[:, :NUM_LOGITS].astype(np.float32),
        "stages": np.stack([digest(stages[name]) for name in case.parity.stages.values()]).astype(np.float32),
    }
    return found | (golden_step() if case == RESNET18 else {})


def golden_step() -> dict[str, Any]:
    """What a step of training leaves in the one case of which it is kept."""
    with jax.enable_x64(True):
        images = draw_images(RESNET18.training_size, len(LABELS)).astype(np.float64)
        arrays, loss, gradients, statistics = reference_training(RESNET18, images, LABELS)
    moved = [value for name, value in statistics.items() if name in arrays and value.ndim]
    norms = sorted(np.linalg.norm(leaf) for leaf in (*gradients.values(), *moved))
    return {"loss": np.float64(loss), "norms": np.array(norms)}


def main() -> None:
    """Writes the file."""
    chosen = sys.argv[1:]
    entries = dict(np.load(PATH)) if PATH.is_file() and chosen else {}
    for case in CASES:
        if chosen and case.name not in chosen:
            continue
        found = golden_of(case)
        entries |= {f"{case.name}.{case.variant}.{key}": value for key, value in found.items()}
        print(f"{case.name} ({case.variant})", flush=True)
    np.savez_compressed(PATH, **entries)


if __name__ == "__main__":
    main()
