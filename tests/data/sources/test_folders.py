import os

import pytest

from fpclass.data.sources.folders import read_layout, split_of
from fpclass.errors import DataError


def make_files(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def rows_of(root, named=()):
    """Split, class and path of every image."""
    layout = read_layout(root, named)
    found = {f.relative_to(root).as_posix(): (part.split, part.name) for part in layout.classes for f in part.images}
    return found | {f.relative_to(root).as_posix(): ("test", "") for f in layout.to_predict}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(
            (name, "train")
            for name in ("train", "TRAIN", "Training", "training_set", "trainset", "train2017", "seg_train")
        ),
        *(
            (name, "validation")
            for name in ("val", "VAL", "Validation", "valid", "val2017", "validation-horse-or-human")
        ),
        *((name, "test") for name in ("test", "Testing", "test_set", "TestSet", "rps-test-set", "test1", "evaluation")),
        *((name, "") for name in ("trainers", "valley", "testudo", "contest", "Trainee", "cats", "value", "")),
    ],
)
def test_split_of(name, split):
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "validation", "test"),
        ("Train", "", "Test"),
        ("training_set", "", "test_set"),
        ("training_set/training_set", "", "test_set/test_set"),
        ("Training", "Validation", ""),
        ("TRAIN", "VAL", ""),
        ("seg_train/seg_train", "", "seg_test/seg_test"),
        ("horse-or-human", "validation-horse-or-human", ""),
        ("rps", "", "rps-test-set"),
        ("images", "val", ""),
        ("a/b/train", "a/b/dev_val", ""),
        ("data/train/x", "data/valid", "data/test/y"),
    ],
)
def test_splits_of_every_spelling_at_every_depth(tmp_path, train, validation, test):
    folders = {"train": train, "validation": validation, "test": test}
    expected = {
        f"{folder}/{name}/1.png": (split, name)
        for split, folder in folders.items()
        if folder
        for name in ("cats", "dogs")
    }
    make_files(tmp_path, *expected)
    assert rows_of(tmp_path) == expected


def test_splits_below_the_classes(tmp_path):
    expected = {f"{name}/{s}/1.png": (s, name) for s in ("train", "test") for name in ("cats", "dogs")}
    make_files(tmp_path, *expected)
    assert rows_of(tmp_path) == expected


@pytest.mark.parametrize("test", ["test", "test1/test1", "test/test"])
def test_images_without_a_class(tmp_path, test):
    make_files(tmp_path, "train/a/1.png", "train/b/1.png", f"{test}/9.png")
    assert rows_of(tmp_path)[f"{test}/9.png"] == ("test", "")


def test_folders_around_the_classes(tmp_path):
    make_files(tmp_path, "PetImages/Cat/1.png", "PetImages/Dog/1.png", "readme.txt")
    (tmp_path / "empty").mkdir()
    assert rows_of(tmp_path) == {"PetImages/Cat/1.png": ("", "Cat"), "PetImages/Dog/1.png": ("", "Dog")}
    assert read_layout(tmp_path).top == tmp_path / "PetImages"


@pytest.mark.parametrize(
    "names",
    [
        ("train/1.png", "test/1.png"),
        ("Train/1.png", "Test/1.png"),
        ("trainA/1.png", "trainB/1.png", "testA/1.png", "testB/1.png"),
        ("train_cats/1.png", "train_dogs/1.png", "test_cats/1.png", "test_dogs/1.png"),
        ("cats/1.png", "dogs/1.png", "test/1.png"),
        ("train/1.png", "plane/1.png", "ship/1.png"),
    ],
)
def test_folders_of_images_that_are_called_like_splits(tmp_path, names):
    make_files(tmp_path, *names)
    with pytest.raises(DataError, match=r"named like splits.*data\.classes.*source=csv") as error:
        read_layout(tmp_path)
    assert "\n" not in str(error.value)
    classes = [os.path.dirname(name) for name in names]
    assert rows_of(tmp_path, named=classes) == {name: ("", os.path.dirname(name)) for name in names}


def test_words_that_only_sound_like_splits_are_classes(tmp_path):
    names = ("test tube/1.png", "flask/1.png", "train station/1.png", "valley/1.png")
    make_files(tmp_path, *names)
    assert {name for _, name in rows_of(tmp_path).values()} == {os.path.dirname(name) for name in names}


@pytest.mark.parametrize(
    "names",
    [
        ("cats/1.png", "cats/more/2.png", "dogs/1.png"),
        ("cats/2020/1.png", "cats/2021/1.png", "dogs/1.png"),
        ("train/cats/young/1.png", "train/dogs/1.png"),
        ("cats/train/1.png", "cats/more/1.png", "dogs/train/1.png"),
    ],
)
def test_a_class_folder_that_holds_folders(tmp_path, names):
    make_files(tmp_path, *names)
    with pytest.raises(
        DataError, match=r"/cats: a class folder that holds folders .*data\.root.*data\.classes"
    ) as error:
        read_layout(tmp_path)
    assert "\n" not in str(error.value)
    assert {name for _, name in rows_of(tmp_path, named=("cats", "dogs")).values()} == {"cats", "dogs"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("val/a/1.png", "b/1.png"), "val/ without train/"),
        (("val/a/1.png", "x/a/1.png", "y/a/1.png"), "val/ without train/"),
        (("test_tube/red/1.png", "flask/red/1.png"), "test_tube/ without train/"),
        (("train/a/1.png", "val/a/1.png", "VALID/a/1.png"), "VALID, val are all validation folders"),
        (("train/a/1.png", "val/1.png"), "/val: no sub-folders"),
    ],
)
def test_what_cannot_be_told(tmp_path, names, message):
    make_files(tmp_path, *names)
    with pytest.raises(DataError) as error:
        read_layout(tmp_path)
    assert message in str(error.value)
