"""`train` does each thing once: restores the best weights, predicts the validation images, hashes the data."""

from __future__ import annotations

import collections
import hashlib
import pathlib
import types
from typing import Any

import numpy as np
import pytest

from fpclass import cli
from fpclass.data.splits import PREDICT, VALIDATION
from fpclass.run import best, prepare
from fpclass.run.folder import Run
from fpclass.run.predictions import Predictions

SMALL = (
    "--config=configs/footprints/baseline.py",
    "--config.data.image_size=(60,40)",
    "--config.model.conv_features=(4,)",
    "--config.model.dense_features=(8,6)",
    "--config.train.num_epochs=1",
    "--config.evaluate.num_resamples=20",
    "--config.explain.num_images=2",
)


@pytest.mark.promise
def test_train_does_each_thing_once(
    blobs: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: collections.Counter[str] = collections.Counter()
    restore, predict_rows = best.checkpoints.restore, best.BestModel.predict_rows

    def counted_restore(*args: Any) -> Any:
        calls["restore"] += 1
        return restore(*args)

    def counted_predict(self: Any, prepared: Any, roles: tuple[str, ...], *others: Any) -> Any:
        calls.update(roles)
        return predict_rows(self, prepared, roles, *others)

    def counted_hash(data: bytes) -> Any:
        calls["hash"] += 1
        return hashlib.sha256(data)

    monkeypatch.setattr(best.checkpoints, "restore", counted_restore)
    monkeypatch.setattr(best.BestModel, "predict_rows", counted_predict)
    monkeypatch.setattr(prepare, "hashlib", types.SimpleNamespace(sha256=counted_hash))
    folder = tmp_path / "run"
    assert cli.main(["train", *SMALL, f"--config.data.root={blobs}", f"--workdir={folder}"]) == 0
    assert (calls["restore"], calls[VALIDATION], calls[PREDICT], calls["hash"]) == (1, 1, 1, 1)
    calls.clear()
    assert cli.main(["explain", f"--workdir={folder}"]) == 0
    assert (calls["restore"], calls[VALIDATION]) == (1, 0), "explain reads predictions.csv"
    (folder / "predictions.csv").unlink()
    assert cli.main(["explain", f"--workdir={folder}"]) == 0
    assert calls[VALIDATION] == 1


def test_predictions_are_read_as_they_were_computed(tmp_path: pathlib.Path) -> None:
    """Float32 logits come back to the bit."""
    import pandas as pd

    logits = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    frame = pd.DataFrame(
        {"filename": [f"{i}" for i in range(50)], "group": "", "label": 0, "member": "a", "split": "x"}
    )
    frame["logit_0"], frame["logit_1"] = logits.T
    run = Run(tmp_path, None)
    run.write_csv("predictions.csv", frame)
    again = Predictions.read(run, "predictions.csv", ("0", "1"))
    np.testing.assert_array_equal(again.logits, logits.astype(np.float64))
