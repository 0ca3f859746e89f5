"""What a folder of images is taken for, where nobody said."""

import csv
import itertools
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pictures import draw_picture

from fpclass.config import base_config
from fpclass.data.recognise import Recognised, recognise
from fpclass.errors import ConfigError, DataError


def recognised(root: Path, *given: str, **values: Any) -> Recognised:
    """What is found, by a user who gave these values (`given`: only their keys)."""
    data = base_config().data
    data.update({"root": str(root), **values})
    return recognise(data, {*given, *values})


def draw(folder: Path, names: list[str], *, channels: int = 3, size: tuple[int, int] = (40, 60)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        draw_picture(seed, size, channels).save(folder / name)


def listed(folder: Path, columns: dict[str, list[Any]], separator: str = ",", name: str = "list.csv") -> Path:
    """Images in a folder, and a CSV of these columns; `file` holds their names."""
    draw(folder / "images", columns["file"], channels=1)
    with (folder / name).open("w", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return folder


FILES = [f"{i}.png" for i in range(8)]
PEOPLE = ["ada", "ada", "bob", "bob", "cleo", "cleo", "dan", "dan"]


def test_a_folder_per_class(tmp_path: Path) -> None:
    draw(tmp_path / "cat", FILES)
    draw(tmp_path / "dog", FILES[:4])
    found = recognised(tmp_path)
    assert found.keys == {"source": "folder"}
    assert "12 images in folders of 2 classes (cat 8, dog 4)" in found.found
    assert (found.image_size, found.is_colour) == ((40, 60), True)
    assert (found.num_labelled, found.num_to_predict) == (12, 0)


def test_what_is_learnt_from_is_counted(tmp_path: Path) -> None:
    """Not images of a test set, of classes that are not wanted, or that are not there."""
    for split, name in itertools.product(("train", "test"), ("cat", "dog", "owl")):
        draw(tmp_path / "pets" / split / name, FILES[:4])
    assert recognised(tmp_path / "pets").num_labelled == 12
    assert recognised(tmp_path / "pets", classes=("cat", "dog")).num_labelled == 8
    sex = ["f", "f", "m", "m", "x", "x", "", "f"]
    folder = listed(tmp_path / "list", {"ID": PEOPLE, "file": FILES, "SEX": sex})
    (folder / "images" / FILES[-1]).unlink()
    assert recognised(folder).num_labelled == 6
    assert recognised(folder, classes=("f", "m")).num_labelled == 4


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_csv_by_any_separator(tmp_path: Path, separator: str) -> None:
    """File, label and person by what their cells are and how they are called; empty labels are to be predicted."""
    sex = ["f", "f", "m", "m", "f", "f", "", "NA"]
    found = recognised(listed(tmp_path, {"ID": PEOPLE, "file": FILES, "SEX": sex}, separator))
    assert found.keys == {"source": "csv", "filename_column": "file", "label_column": "SEX", "group_column": "ID"}
    assert "8 rows of list.csv" in found.found
    assert "(f 4, m 2), group 'ID' (4), 2 to predict; grey" in found.found
    assert (found.num_labelled, found.num_to_predict) == (6, 2)


def test_of_several_labels_all_are_named(tmp_path: Path) -> None:
    columns = {"file": FILES, "hand": ["l", "r"] * 4, "shoe": ["a"] * 3 + ["b"] * 5}
    listed(tmp_path, columns)
    with pytest.raises(ConfigError, match=r"hand \(2 values\), shoe \(2 values\); say which: --label=NAME"):
        recognised(tmp_path)
    assert recognised(tmp_path, label_column="shoe").keys["label_column"] == "shoe"
    with pytest.raises(ConfigError, match=r"--label=Shoe: .* did you mean shoe\?"):
        recognised(tmp_path, label_column="Shoe")


def test_a_column_that_could_be_the_label_as_well_is_mentioned(tmp_path: Path) -> None:
    """Where one is called like a label; of that it is taken, and of two like it somebody is asked."""
    species, mood = ["cat", "cat", "dog", "dog"] * 2, ["glad", "sad"] * 4
    folder = listed(tmp_path, {"file": FILES, "species": species, "mood": mood})
    found = recognised(folder)
    assert found.keys["label_column"] == "species"
    assert found.notes == ("the label could also be 'mood': --label=NAME takes it",)
    assert not recognised(folder, label_column="species").notes


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("split", ["train", "train", "validation", "test"]),
        ("used", ["TRAIN", "TRAIN", "val_set", ""]),
        ("Split", ["a", "b"] * 2),
        ("fold", ["0", "1"] * 2),
    ],
)
def test_a_column_of_splits_is_no_label(tmp_path: Path, name: str, values: list[str]) -> None:
    """Neither beside one that is called like one, nor beside another, nor alone; who names it has it."""
    files, mood = {"file": FILES}, {"mood": ["glad", "sad"] * 4}
    found = recognised(listed(tmp_path / "species", files | {"species": ["cat", "dog"] * 4, name: values * 2}))
    assert (found.keys["label_column"], found.notes) == ("species", ())
    folder = listed(tmp_path / "mood", files | {name: values * 2} | mood)
    assert recognised(folder).keys["label_column"] == "mood"
    assert recognised(folder, label_column=name).keys["label_column"] == name
    assert recognised(listed(tmp_path / "alone", files | {name: values * 2})).keys == {"source": "folder"}


@pytest.mark.parametrize("values", [["train", "bus"], ["train dog", "train cat"], ["valid ticket", "test print"]])
def test_classes_that_sound_like_splits_are_a_label(tmp_path: Path, values: list[str]) -> None:
    assert recognised(listed(tmp_path, {"file": FILES, "seen": values * 4})).keys["label_column"] == "seen"


def test_a_column_that_the_config_names_is_taken_where_it_is_there(tmp_path: Path) -> None:
    """As those of the footprints, on data that have other ones too."""
    columns = {"file": FILES, "SEX": ["f", "m"] * 4, "label": ["x", "x", "y", "y"] * 2}
    data = base_config().data
    data.update({"root": str(listed(tmp_path, columns)), "label_column": "SEX", "group_column": "ID"})
    assert recognise(data, ()).keys["label_column"] == "SEX"
    assert recognise(data, ()).keys["group_column"] == ""  # there is no column ID


def test_a_person_is_never_guessed_among_several_and_never_missed_in_silence(tmp_path: Path) -> None:
    columns = {"file": FILES, "label": ["f", "f", "m", "m"] * 2, "patient": PEOPLE, "site": ["s", "t"] * 4}
    listed(tmp_path / "two", columns)
    with pytest.raises(ConfigError, match=r"patient \(4 values\), site \(2 values\); say which: --group"):
        recognised(tmp_path / "two")
    assert recognised(tmp_path / "two", group_column="patient").keys["group_column"] == "patient"
    assert recognised(tmp_path / "two", group_column="").keys["group_column"] == ""

    files = [f"{i}.png" for i in range(24)]
    owners = [f"n{i // 2}" for i in range(24)]
    found = recognised(listed(tmp_path / "odd", {"file": files, "label": ["x", "y"] * 12, "owned": owners}))
    assert found.keys["group_column"] == ""
    assert "--group=owned" in found.notes[0]


def test_a_number_of_its_own_for_each_image_is_no_person(tmp_path: Path) -> None:
    columns = {"id": [*range(8)], "file": FILES, "label": ["x", "y"] * 4}
    assert recognised(listed(tmp_path, columns)).keys["group_column"] == ""


def test_a_csv_that_is_about_something_else_leaves_the_folders(tmp_path: Path) -> None:
    draw(tmp_path / "cat", FILES)
    draw(tmp_path / "dog", FILES)
    (tmp_path / "prices.csv").write_text("day,price\n1,2\n2,3\n")
    (tmp_path / "broken.csv").write_bytes(b"\xff\xfe\x00")
    assert recognised(tmp_path).keys == {"source": "folder"}


def test_of_several_csvs_the_one_with_labels_is_taken(tmp_path: Path) -> None:
    listed(tmp_path, {"file": FILES, "label": ["x", "y"] * 4}, name="train.csv")
    (tmp_path / "sample.csv").write_text("file\n0.png\n")
    assert recognised(tmp_path).keys["csv"] == "train.csv"
    listed(tmp_path, {"file": FILES, "label": ["y", "x"] * 4}, name="other.csv")
    with pytest.raises(DataError, match=r"other\.csv, train\.csv all name images.*--config\.data\.csv=NAME"):
        recognised(tmp_path)
    assert recognised(tmp_path, csv="other.csv").keys["label_column"] == "label"


def test_an_archive_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FPCLASS_CACHE", str(tmp_path / "cache"))
    draw(tmp_path / "pets" / "cat", FILES)
    draw(tmp_path / "pets" / "dog", FILES)
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for file in (tmp_path / "pets").rglob("*.png"):
            archive.write(file, file.relative_to(tmp_path))
    assert recognised(tmp_path / "pets.zip").keys == {"source": "folder"}


def test_nothing_to_go_by(tmp_path: Path) -> None:
    draw(tmp_path / "photos", FILES)
    with pytest.raises(DataError, match=r"8 images, and nothing that says of which class they are"):
        recognised(tmp_path / "photos")
    with pytest.raises(DataError, match=r"no such folder or archive; did you mean .*photos\?"):
        recognised(tmp_path / "photo")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        recognised(tmp_path / "empty")


def test_grey_photographs_saved_in_colour_are_grey(tmp_path: Path) -> None:
    for label in ("x", "y"):
        (tmp_path / label).mkdir()
        for seed in range(4):
            draw_picture(seed, (80, 80), 1).convert("RGB").save(tmp_path / label / f"{seed}.jpg")
    assert not recognised(tmp_path).is_colour
    for seed in range(4):
        draw_picture(seed, (80, 80), 3).save(tmp_path / "x" / f"c{seed}.jpg")
    (tmp_path / "x" / "broken.jpg").write_bytes(b"no image")
    assert recognised(tmp_path).is_colour


@pytest.mark.parametrize("name", ["sample_submission.csv", "SampleSubmission.csv", "form.csv"])
def test_a_form_of_a_submission_has_no_labels(tmp_path: Path, name: str) -> None:
    """Of a competition: its images to predict, each with the same class or, by its name, with any."""
    draw(tmp_path / "test", ["1.png", "2.png", "3.png", "4.png"])
    of_train = [f"cat.{i}.png" for i in range(8)]
    listed(tmp_path, {"file": of_train, "label": ["x", "y"] * 4}, name="train.csv")
    labels = "xxxx" if name == "form.csv" else "xyxy"
    (tmp_path / name).write_text("file,label\n" + "".join(f"{i + 1}.png,{label}\n" for i, label in enumerate(labels)))
    found = recognised(tmp_path)
    assert (found.keys["csv"], found.num_labelled, found.num_to_predict) == ("train.csv", 8, 0)
    assert found.notes[0].startswith(f"labels are those of train.csv, as {name} looks like the form of a submission")
    assert "train.csv does not list are left aside (4 in test/): to predict them, give them rows" in found.notes[1]
    assert f"predict {tmp_path}/test --workdir=RUN" in found.notes[1]
    assert recognised(tmp_path, csv=name).num_labelled == 4


def test_a_csv_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    """Where folders have several classes in a note, where they have not in an error, also where a column is named."""
    folder = listed(tmp_path / "one", {"file": FILES, "label": ["Kätzchen", "Hund"] * 4}, ";")
    text = (folder / "list.csv").read_text()
    (folder / "list.csv").write_bytes(text.encode("cp1252"))
    for given in ({}, {"label_column": "label"}):
        with pytest.raises(DataError, match=r"list\.csv: not UTF-8 text .*; save it as CSV in UTF-8; mend it, or give"):
            recognised(folder, **given)
    (folder / "list.csv").write_text(text.replace(".png", "_gone.png"))
    missed = r"none of the 8 files that list\.csv names \(column 'file'\) exist below .*one, first '0_gone\.png'"
    with pytest.raises(DataError, match=missed):
        recognised(folder)
    (folder / "list.csv").write_text(text.replace(".png", "_gone.png", 6))
    with pytest.raises(DataError, match=r"only 2 of the 8 files that list\.csv names \(column 'file'\) are below"):
        recognised(folder)
    for name in FILES:
        (folder / "images" / name).rename(folder / name)
    with pytest.raises(DataError, match="only 2 of the 8"):
        recognised(folder)
    draw(tmp_path / "two" / "cat", FILES)
    draw(tmp_path / "two" / "dog", FILES)
    (tmp_path / "two" / "list.csv").write_text("file,label\n9.png,x\n10.png,y\n")
    found = recognised(tmp_path / "two")
    assert found.keys == {"source": "folder"}
    assert found.notes[0].startswith("left aside, as folders have the classes: none of the 2 files that list.csv names")


def test_folders_have_no_column_of_people(tmp_path: Path) -> None:
    """Who asks for none gets none; who names one has named what is not there."""
    draw(tmp_path / "cat", FILES)
    draw(tmp_path / "dog", FILES)
    assert recognised(tmp_path, group_column="").notes == (
        "folders of classes have no column that names people, as asked",
    )
    assert not recognised(tmp_path).notes
    with pytest.raises(ConfigError, match="no CSV that names images, so that 'owner' is no column; leave it out"):
        recognised(tmp_path, group_column="owner", label_column="label")


def test_a_median_of_some_images_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit has the median of all of them, which may be another."""
    draw(tmp_path / "cat", FILES)
    draw(tmp_path / "dog", FILES)
    monkeypatch.setattr("fpclass.data.recognise.NUM_GLANCES", 16)
    assert recognised(tmp_path).found.endswith("median 40 x 60 pixels")
    monkeypatch.setattr("fpclass.data.recognise.NUM_GLANCES", 15)
    assert recognised(tmp_path).found.endswith("median 40 x 60 pixels (of a sample of 15)")


@pytest.mark.parametrize("separator", [",", ";", "|"])
def test_several_labels_of_an_image_are_said_to_be_a_class(tmp_path: Path, separator: str) -> None:
    """Where each part is a label elsewhere too, and not where a class is called so."""
    files = [f"{i}.png" for i in range(12)]

    def notes(name: str, values: list[str]) -> str:
        labels = [value.replace("+", separator) for value in values]
        return " ".join(recognised(listed(tmp_path / name, {"file": files, "label": labels})).notes)

    said = f"several labels per image are not supported: in column 'label' each combination, such as 'cat{separator}d"
    assert said in notes("several", ["cat", "cat+dog", "dog", "dog+young"] * 2 + ["cat", "cat+young"] * 2)
    assert not notes("called", ["cat", "cat", "big+small", "big+small"] * 3)
    assert not notes("kinds", ["owl+barn", "owl+snowy", "hawk+barn", "hawk+snowy"] * 3)
    assert not notes("breeds", ["cat", "cat+short hair", "dog", "dog+large"] * 3)


def test_a_column_per_class_is_said_to_be_one(tmp_path: Path) -> None:
    cats = [1, 0] * 4
    hot = listed(tmp_path / "hot", {"file": FILES, "cat": cats, "dog": [0, 1, 0, 0] * 2})
    with pytest.raises(ConfigError, match=r"--label=NAME; they look like a column per class: write the class of each"):
        recognised(hot)
    attributes = listed(tmp_path / "attributes", {"file": FILES, "sick": cats, "old": [1, 1, 0, 0] * 2})
    with pytest.raises(ConfigError, match=r"say which: --label=NAME$"):
        recognised(attributes)
