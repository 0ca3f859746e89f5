import numpy as np
import pytest

from fpclass.errors import DataError
from fpclass.stats.cohort import Cohort, group_codes


def test_unknown_groups_are_one_image_each():
    codes = group_codes(["", "p", "", "p", float("nan"), None, 0])
    assert codes.tolist() == [0, 1, 2, 1, 3, 4, 5]
    assert group_codes(np.array(["x", "y", "x"])).tolist() == [0, 1, 0]
    assert group_codes(np.array(["", "y", ""])).tolist() == [0, 1, 2]


def test_groups_are_people_or_images():
    labels = np.array([0, 1, 0])
    cohort = Cohort(labels, ["b", "a", "b"])
    assert (len(cohort), cohort.num_groups, cohort.groups_are, cohort.num_folds) == (3, 2, "people", 1)
    for alone in (Cohort(labels), Cohort(labels, ["", "", ""]), Cohort(labels, "abc")):
        assert (alone.groups.tolist(), alone.groups_are) == ([0, 1, 2], "images")
    copies = Cohort(labels, ["image a.png", "image a.png", "image b.png"])
    assert copies.groups_are == copies.with_folds(np.array([0, 0, 1])).groups_are == "independent images"
    some = Cohort(labels, ["image a.png", "ann", "ann"])
    assert some.groups_are == some.with_folds(np.array([0, 1, 1])).groups_are == "people"


def test_some_of_the_images():
    cohort = Cohort(np.array([0, 1, 0, 1]), ["a", "", "a", ""], np.array([0, 1, 0, 1]), ["x", "y"])
    part = cohort.take(np.array([3, 1, 1]))
    assert (part.labels.tolist(), part.groups.tolist(), part.num_folds) == ([1, 1, 1], [0, 1, 1], 1)
    assert part.class_names == ("x", "y")
    other = cohort.with_folds(np.array([2, 1, 0, 0]))
    assert (other.num_folds, other.groups.tolist()) == (3, cohort.groups.tolist())


def test_what_is_not_about_the_same_images_is_refused():
    labels = np.array([0, 1])
    with pytest.raises(ValueError, match="3 groups for 2 images"):
        Cohort(labels, "abc")
    with pytest.raises(ValueError, match="folds of shape"):
        Cohort(labels, "ab", np.zeros(3, int))
    for gap in ([0, 2], [-1, 0]):
        with pytest.raises(ValueError, match="without a gap"):
            Cohort(labels, "ab", np.array(gap))
    with pytest.raises(DataError, match="distinct names"):
        Cohort(labels, class_names=["a", "a"]).check(np.zeros((2, 2)))
    with pytest.raises(DataError, match="no labelled image"):
        Cohort(np.zeros(0, int)).check(np.zeros((0, 2)))


def test_each_fold_gets_what_was_fitted_on_the_others():
    values = np.array([1.0, 2, 4, 8, 16])
    cohort = Cohort(np.zeros(5, int), folds=np.array([0, 1, 0, 2, 1]))
    out, by_fold, final = cohort.cross_fit(
        lambda rows: values[rows].sum(), lambda total, rows: total - values[rows], np.empty(5)
    )
    assert by_fold == {0: 26, 1: 13, 2: 23}
    assert out.tolist() == [25, 11, 22, 15, -3]
    assert final == 31
    with pytest.raises(DataError, match="at least two folds"):
        Cohort(np.zeros(5, int)).cross_fit(lambda rows: 0, lambda zero, rows: values[rows], np.empty(5))
