"""The Predictions table: each row keeps its own name, person, label and logits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpclass.data.splits import Splits
from fpclass.data.table import Table, make_rows
from fpclass.run.predictions import Predictions

CLASSES = ("f", "m", "x")
LABELS = ["f", "m", "", "x", "m", "f"]
NAMES = [f"img_{i}" for i in range(6)]
GROUPS = [f"person {i // 2}" for i in range(6)]
ROLES = ["validation", "train", "predict", "test", "validation", "train"]
LOGITS = np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0], [-5.0, 1.0, 0.5], [30.0, -30.0, 0.0]], np.float32)
ROWS = np.array([4, 0, 2, 3], np.int32)


def predictions() -> Predictions:
    rows = make_rows(NAMES, NAMES, LABELS, CLASSES, GROUPS)
    table = Table(rows, CLASSES, ("female", "male", "other"), read=lambda i: b"", source="a test")
    splits = Splits(pd.DataFrame({"filename": NAMES, "group": GROUPS, "unit": GROUPS, "role": ROLES}))
    return Predictions.make(table, splits, ROWS, LOGITS, "seed-7")


def test_a_row_keeps_what_belongs_to_it() -> None:
    frame = predictions().frame
    assert frame.columns.tolist() == ["filename", "group", "label", "member", "split", "logit_f", "logit_m", "logit_x"]
    assert frame["filename"].tolist() == [NAMES[row] for row in ROWS]
    assert frame["group"].tolist() == [GROUPS[row] for row in ROWS]
    assert frame["split"].tolist() == [ROLES[row] for row in ROWS]
    assert frame["label"].tolist() == [1, 0, -1, 2]
    assert set(frame["member"]) == {"seed-7"}
    np.testing.assert_array_equal(predictions().logits, LOGITS)
    assert predictions().logits.dtype == np.float64


def test_select_takes_the_rows_of_a_split_in_their_order() -> None:
    chosen = predictions().select("validation")
    assert chosen.frame["filename"].tolist() == ["img_4", "img_0"]
    assert predictions().select("test").frame.index.tolist() == [0]
    assert chosen.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(chosen.logits, LOGITS[:2])
    assert chosen.classes == CLASSES
    nobody = predictions().select("excluded")
    assert nobody.logits.shape == (0, 3)
    assert nobody.losses.shape == (0,)


def test_probabilities_and_losses() -> None:
    found = predictions()
    expected = np.exp(LOGITS.astype(np.float64))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-12)
    np.testing.assert_allclose(found.losses[:2], -np.log(expected[[0, 1], [1, 0]]), rtol=1e-12)
    assert found.losses[3] == pytest.approx(30.0, rel=1e-9)
    assert np.isnan(found.losses[2]), "a row without a label has no loss, least of all that of the last class"


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3))
def test_probabilities_are_probabilities_however_large_the_logits(logits: list[float]) -> None:
    frame = pd.DataFrame({"filename": ["a"], "label": [0], "split": ["test"]})
    for value, logit in zip(CLASSES, logits, strict=True):
        frame[f"logit_{value}"] = [logit]
    found = Predictions(frame, CLASSES)
    assert found.probabilities.sum() == pytest.approx(1.0)
    assert np.isfinite(found.losses).all()
    assert found.losses[0] >= 0


def test_logits_come_in_class_order_whatever_the_order_of_the_columns() -> None:
    found = predictions()
    backwards = Predictions(found.frame[found.frame.columns[::-1]], CLASSES)
    np.testing.assert_array_equal(backwards.logits, found.logits)
