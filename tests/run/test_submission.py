"""The submission: every row to predict once, in the order of the source, in its own coding."""

from __future__ import annotations

import dataclasses
import io
import pathlib

import numpy as np
import pandas as pd
import pytest

from fpclass.data.table import Table, canonical_label, make_rows
from fpclass.errors import DataError
from fpclass.run.decisions.submission import check_submission, make_submission
from fpclass.run.predictions import Predictions

# Labelled and unlabelled rows alternate and are in no order: neither a sort nor a slice gives the right rows.
NAMES = ["img_9", "img_1", "007", "img_3", "NA", "img_2", "img_8", "img_0"]
LABELS = ["0", "1", "", "1", "", "", "1", ""]
TO_PREDICT = ["007", "NA", "img_2", "img_0"]


def make_table(classes: tuple[str, ...] = ("0", "1"), labels: list[str] | None = None, broken: str = "") -> Table:
    raw = [canonical_label(value) for value in labels or LABELS]
    rows = make_rows(NAMES, NAMES, raw, classes)
    rows.loc[rows["filename"] == broken, "quarantine"] = "truncated file"
    return Table(rows, classes, classes, read=lambda i: b"", source="all_labels.csv")


def predictions(table: Table, answers: dict[str, str]) -> Predictions:
    """Predictions in an order of their own, the answer by a small margin."""
    names = sorted(answers)
    logits = np.array([[0.1 if value == answers[name] else 0.0 for value in table.classes] for name in names])
    frame = pd.DataFrame({"filename": names, "group": "", "label": -1, "member": "seed-0", "split": "predict"})
    for k, value in enumerate(table.classes):
        frame[f"logit_{value}"] = logits[:, k] if len(names) else np.zeros(0)
    return Predictions(frame, table.classes)


def submit(table: Table, answers: dict[str, str], fill_unreadable: bool = False) -> pd.DataFrame:
    return make_submission(
        table,
        predictions(table, answers),
        filename_column="filename",
        label_column="SEX",
        fill_unreadable=fill_unreadable,
    )


ANSWERS = {"img_0": "0", "img_2": "1", "007": "0", "NA": "1"}


def as_csv(submission: pd.DataFrame) -> str:
    text = io.StringIO()
    submission.to_csv(text, index=False)
    return text.getvalue()


def test_every_row_to_predict_once_in_the_order_of_the_source() -> None:
    submission = submit(make_table(), ANSWERS)
    assert submission.columns.tolist() == ["filename", "SEX"]
    assert submission["filename"].tolist() == TO_PREDICT
    assert submission["SEX"].tolist() == [0, 1, 1, 0]
    assert as_csv(submission) == "filename,SEX\n007,0\nNA,1\nimg_2,1\nimg_0,0\n"


def test_integers_where_the_source_has_floats() -> None:
    """`SEX` is 0.0 and 1.0 in the file because of its gaps; a 0.0 would be another class to a strict grader."""
    table = make_table(labels=["0.0", "1.0", "", "1.0", "", "", "1.0", ""])
    submission = submit(table, ANSWERS)
    assert submission["SEX"].dtype == np.int64
    assert "0.0" not in as_csv(submission)


def test_leading_zeros_stay() -> None:
    table = make_table(("01", "02"))
    raw = ["01", "02", "", "02", "", "", "02", ""]
    table = dataclasses.replace(table, rows=make_rows(NAMES, NAMES, raw, ("01", "02")))
    submission = submit(table, {"img_0": "01", "img_2": "02", "007": "01", "NA": "02"})
    assert submission["SEX"].tolist() == ["01", "02", "02", "01"]


def test_text_stays_text() -> None:
    labels = ["f", "m", "", "m", "", "", "m", ""]
    submission = submit(make_table(("f", "m"), labels), {"img_0": "f", "img_2": "m", "007": "f", "NA": "m"})
    assert submission["SEX"].tolist() == ["f", "m", "m", "f"]


def test_one_class_that_is_no_number_keeps_all_of_them_text() -> None:
    for classes in (("1", "x"), ("--1", "2"), ("²", "3"), ("1.5", "2")):
        first, second = classes
        labels = [first, second, "", second, "", "", second, ""]
        answers = {"img_0": first, "img_2": second, "007": first, "NA": second}
        assert submit(make_table(classes, labels), answers)["SEX"].tolist() == [first, second, second, first]


def test_the_order_of_the_classes_is_that_of_the_config() -> None:
    """Class index 0 is label 1 here: the index must never be handed in for the label."""
    table = make_table(classes=("1", "0"))
    assert submit(table, ANSWERS)["SEX"].tolist() == [0, 1, 1, 0]


def test_an_image_that_could_not_be_read_is_an_error_that_names_it() -> None:
    table = make_table(broken="img_2")
    answers = {name: value for name, value in ANSWERS.items() if name != "img_2"}
    with pytest.raises(DataError) as caught:
        submit(table, answers)
    message = str(caught.value)
    assert "1 of 4 images to predict could not be read: img_2 (truncated file)" in message
    assert "--config.submit.fill_unreadable=True" in message
    assert len(message.splitlines()) == 1


def test_many_unreadable_images_stay_one_readable_line() -> None:
    with pytest.raises(DataError, match=r"4 of 4 .*007 \(no prediction\).*img_2") as caught:
        submit(make_table(), {})
    assert "img_0" not in str(caught.value)


def test_asked_for_it_gets_the_majority_class_of_the_labelled_images() -> None:
    table = make_table(broken="img_2")
    answers = {"img_0": "0", "007": "0", "NA": "0"}
    filled = submit(table, answers, fill_unreadable=True)
    assert filled["filename"].tolist() == TO_PREDICT
    assert filled["SEX"].tolist() == [0, 0, 1, 0], "three of four labelled rows are 1, whatever was predicted"
    assert submit(table, {}, fill_unreadable=True)["SEX"].tolist() == [1, 1, 1, 1]


def test_images_in_quarantine_do_not_vote_for_the_majority() -> None:
    table = make_table(labels=["1", "0", "", "0", "", "", "1", ""], broken="img_1")
    assert submit(table, {}, fill_unreadable=True)["SEX"].tolist() == [1, 1, 1, 1]


def test_nothing_to_predict_is_an_error() -> None:
    """Of folders with the way to predict files, as they have no rows."""
    table = make_table(labels=["0", "1"] * 4)
    with pytest.raises(DataError, match=r"all_labels\.csv: nothing to predict.* a label; files are .* predict FILES"):
        submit(table, {})
    with pytest.raises(DataError, match="nothing to predict: every row has a label; leave it empty in such rows"):
        submit(dataclasses.replace(table, listed_in=pathlib.Path("all_labels.csv")), {})


def test_two_predictions_for_a_file_are_an_error() -> None:
    table = make_table()
    once = predictions(table, ANSWERS)
    twice = Predictions(pd.concat([once.frame, once.frame.iloc[:1]], ignore_index=True), table.classes)
    with pytest.raises(DataError, match="hold a file twice"):
        make_submission(table, twice, filename_column="filename", label_column="SEX", fill_unreadable=False)


def test_a_diverged_model_hands_nothing_in() -> None:
    """The largest of NaN, NaN is the first one: without a check everybody would be class 0."""
    table = make_table()
    said = predictions(table, ANSWERS)
    said.frame.loc[0, "logit_0"] = np.nan
    with pytest.raises(DataError, match="not finite"):
        make_submission(table, said, filename_column="filename", label_column="SEX", fill_unreadable=True)


def test_columns_of_one_name_are_an_error() -> None:
    table = make_table()
    said = predictions(table, ANSWERS)
    with pytest.raises(DataError, match="submission has"):
        make_submission(table, said, filename_column="SEX", label_column="SEX", fill_unreadable=False)


def test_what_check_submission_refuses() -> None:
    good = pd.DataFrame({"filename": ["a", "b", "c"], "SEX": [0, 1, 0]})
    wanted = ["a", "b", "c"]
    check_submission(good, wanted, {0, 1})
    for bad in (
        good.iloc[[1, 0, 2]],  # another order
        good.iloc[:2],  # a row missing
        pd.concat([good, good.iloc[:1]]),  # a row twice
        good.iloc[[0, 0, 2]],  # one for another
        good.assign(more=1),  # a third column
        good[["filename"]],
    ):
        with pytest.raises(DataError, match="not the 3 wanted ones"):
            check_submission(bad, wanted, {0, 1})
    for label in (2, "0", np.nan, None):
        with pytest.raises(DataError, match="not among the classes"):
            check_submission(good.assign(SEX=pd.Series([0, 1, label], dtype=object)), wanted, {0, 1})
