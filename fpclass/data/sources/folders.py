"""What the folders of a data set mean: one per class, perhaps below folders that hold its splits.

Splits go by many names: `train/` and `val/`, `training_set/` and `test_set/`, `Training/`, `seg_train/`,
`horse-or-human/` beside `validation-horse-or-human/`; above the classes or below them; in folders that hold nothing
else. What cannot be told apart is an error: neither a split nor a folder of classes is ever taken for a class.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from fpclass.data.files import image_files, is_folder, some_of
from fpclass.data.table import canonical_label
from fpclass.errors import DataError

TRAIN, VALIDATION, TEST = "train", "validation", "test"

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_a-zA-Z]+")
"""The words of a name, whether they are divided by signs, numbers or capitals: testSet, TRAIN_2017, seg_val."""
_WHAT = r"(sets?|data|datasets?|images?|imgs?|splits?|folder|dir)?"
_SPLIT_WORDS = {
    TRAIN: re.compile(r"(train|training|trainval)" + _WHAT),
    VALIDATION: re.compile(r"(val|valid|validate|validation)" + _WHAT),
    TEST: re.compile(r"(test|testing|evaluation)" + _WHAT),
}
_EXPECTED = "expected DIR/class/images, or DIR/train/class/images beside DIR/validation/… and DIR/test/…"


@dataclasses.dataclass(frozen=True)
class ClassFolder:
    """The images of a class, or of a class in a split: "", `TRAIN`, `VALIDATION` or `TEST`; sorted."""

    split: str
    name: str
    images: tuple[Path, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a folder holds.

    Attributes:
      top: the folder that the classes or splits stand in: the one that was given, or one below it.
      classes: split by split, each sorted by name.
      to_predict: images of `TEST` that have no class.
    """

    top: Path
    classes: tuple[ClassFolder, ...]
    to_predict: tuple[Path, ...] = ()


def split_of(name: str) -> str:
    """The split that a folder's name speaks of, or ""."""
    words = _words(name)
    return next((split for split, word in _SPLIT_WORDS.items() if any(map(word.fullmatch, words))), "")


def read_layout(root: Path, named: Collection[object] = ()) -> Layout:
    """Finds the classes and splits below a folder.

    Args:
      named: classes that the config names: folders called so are classes, whatever they look like and hold.

    Raises:
      OSError: a folder cannot be listed.
      DataError: what is what cannot be told; the message says how to give it.
    """
    top = _Folder.read(root)
    names = {canonical_label(value) for value in named}
    while True:
        splits = _splits(top, names)
        if splits:
            return _divided(top, splits, names)
        if _holds_splits_by_class(top, names):
            return _divided_by_class(top)
        if not _is_wrapping(top, names):
            return Layout(top.path, tuple(_classes(top, "", names)))
        (top,) = top.folders.values()


@dataclasses.dataclass
class _Folder:
    """A folder with the images directly in it, and the folders in it that hold images at any depth, sorted by name."""

    path: Path
    images: list[Path] = dataclasses.field(default_factory=list)
    folders: dict[str, _Folder] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, root: Path) -> _Folder:
        top = cls(root)
        for file in image_files(root):
            folder = top
            for part in file.relative_to(root).parts[:-1]:
                folder = folder.folders.setdefault(part, cls(folder.path / part))
            folder.images.append(file)
        return top

    def all_images(self) -> tuple[Path, ...]:
        below = (image for folder in self.folders.values() for image in folder.all_images())
        return tuple(sorted([*self.images, *below]))


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _other_words(name: str) -> list[str]:
    """The words of a name but those that make it one of a split."""
    what = re.compile(_WHAT)
    return [word for word in _words(name) if not split_of(word) and not what.fullmatch(word)]


def _is_wrapping(folder: _Folder, names: set[str]) -> bool:
    """Whether a folder has nothing but one folder, which has folders: archives are packed like that."""
    if folder.images or len(folder.folders) != 1:
        return False
    ((name, child),) = folder.folders.items()
    return bool(child.folders) and canonical_label(name) not in names


def _splits(top: _Folder, names: set[str]) -> dict[str, _Folder]:
    """Split -> its folder; {} where the folders are not those of splits."""
    # Folders of folders; a folder of images may be a class that is called "train" (vehicles).
    nested = {
        name: child for name, child in top.folders.items() if child.folders and canonical_label(name) not in names
    }
    given = {name: split_of(name) for name in nested}
    if not any(given.values()):
        return {}
    for name, child in top.folders.items():
        if not child.folders and split_of(name):
            given[name] = split_of(name)
    if TRAIN not in given.values():
        given |= dict.fromkeys(_unnamed_train(top, given), TRAIN)
    splits: dict[str, _Folder] = {}
    for split in (TRAIN, VALIDATION, TEST):
        those = [name for name in given if given[name] == split]
        if len(those) > 1:
            raise DataError(f"{top.path}: {some_of(those)} are all {split} folders; keep one of them")
        if those:
            splits[split] = top.folders[those[0]]
    if TRAIN not in splits:
        name = next(iter(splits.values())).path.name
        raise DataError(f"{top.path}: {name}/ without train/; expected one folder per class in each")
    return splits


def _unnamed_train(top: _Folder, given: dict[str, str]) -> list[str]:
    """The folder that is called like the others but for their split: rps/ beside rps-test-set/, data/ beside val/."""
    others = [name for name, child in top.folders.items() if name not in given or not given[name]]
    of_splits = [_other_words(name) for name, split in given.items() if split]
    if len(others) == 1 and top.folders[others[0]].folders:
        words = _other_words(others[0])
        return others if all(of in ([], words) for of in of_splits) else []
    return []


def _divided(top: _Folder, splits: dict[str, _Folder], names: set[str]) -> Layout:
    classes: list[ClassFolder] = []
    to_predict: list[Path] = []
    for split, folder in splits.items():
        while _is_wrapping(folder, names) or (split == TEST and _repeats(folder)):
            (folder,) = folder.folders.values()
        if folder.folders:
            classes += _classes(folder, split, names, is_split=True)
        elif split != TEST:
            raise DataError(f"{folder.path}: no sub-folders; expected one per class, with its images in it")
        if split == TEST:
            to_predict = folder.images
    return Layout(top.path, tuple(classes), tuple(to_predict))


def _repeats(folder: _Folder) -> bool:
    """Whether a folder has nothing but one that is called like it, or like a split: test/test/, test1/test/."""
    if folder.images or len(folder.folders) != 1:
        return False
    (name,) = folder.folders
    return name == folder.path.name or bool(split_of(name) and not _other_words(name))


def _holds_splits_by_class(top: _Folder, names: set[str]) -> bool:
    """Whether every folder is a class that holds its splits: cats/train/, cats/test/, dogs/train/, ...."""
    if len(top.folders) < 2 or names & set(map(canonical_label, top.folders)):
        return False
    inside = [list(map(split_of, child.folders)) for child in top.folders.values()]
    return all(TRAIN in splits and all(splits) and len(splits) == len(set(splits)) for splits in inside) and not any(
        child.images for child in top.folders.values()
    )


def _divided_by_class(top: _Folder) -> Layout:
    classes = [
        ClassFolder(split_of(inner), name, folder.all_images())
        for name, child in top.folders.items()
        for inner, folder in child.folders.items()
    ]
    order = (TRAIN, VALIDATION, TEST)
    return Layout(top.path, tuple(sorted(classes, key=lambda folder: order.index(folder.split))))


def _classes(folder: _Folder, split: str, names: set[str], *, is_split: bool = False) -> list[ClassFolder]:
    """The folders of a folder, one per class."""
    there = sorted(path.name for path in folder.path.iterdir() if is_folder(path))
    if not there:
        raise DataError(f"{folder.path}: no sub-folders; expected one per class, with its images in it")
    for value, count in Counter(map(canonical_label, there)).items():
        if count > 1:
            raise DataError(f"{folder.path}: {count} folders mean class {value!r}; put their images into one")
    unnamed = {name: child for name, child in folder.folders.items() if canonical_label(name) not in names}
    for child in unnamed.values():
        if child.folders:
            raise DataError(
                f"{child.path}: a class folder that holds folders ({some_of(list(child.folders), 4)}); {_EXPECTED}: "
                "give this DIR with data.root, or, if all images in it are of one class, name all classes in "
                "data.classes"
            )
    if not is_split:
        _check_no_splits(folder, unnamed)
    for name in there:
        if name not in folder.folders:
            raise DataError(f"{folder.path / name}: no image in this class folder; fill it or remove it")
    return [ClassFolder(split, name, child.all_images()) for name, child in sorted(folder.folders.items())]


def _check_no_splits(folder: _Folder, unnamed: dict[str, _Folder]) -> None:
    """Folders of images that are called like splits are no classes, unless the config says so.

    Raises:
      DataError: there are such folders.
    """
    splits = {name: split_of(name) for name in unnamed if split_of(name)}
    # "testA" and "trainB", where nothing else is there, or "test" beside "cats"; but not "test tube" beside "flask".
    are_all = len(splits) == len(folder.folders) and TRAIN in splits.values() and len(set(splits.values())) > 1
    suspect = [name for name in splits if are_all or not _other_words(name)]
    if suspect:
        raise DataError(
            f"{folder.path}: {some_of([f'{name}/' for name in suspect])} named like splits, but with images directly "
            f"in them; {_EXPECTED}; if they are classes, name all classes in data.classes; if the file names have the "
            "classes, list them in a CSV (data.source=csv)"
        )
