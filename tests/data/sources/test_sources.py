import io
import os
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict
from PIL import Image

from configs import base
from fpclass.data.decode import decode_table
from fpclass.data.files import image_files
from fpclass.data.resize import Decoding
from fpclass.data.sources import SOURCES, columns, load_table
from fpclass.data.table import COLUMN, OUT_OF_RANGE, UNLABELLED, canonical_label, class_order
from fpclass.errors import ConfigError, DataError


def make_config(source: str, root="", **overrides) -> ConfigDict:
    data = base.get_config().data
    data.update({"source": source, "root": str(root), **overrides})
    return data


def write_image(path, grey=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((3, 2), grey, np.uint8)).save(path)


def write_csv(root, *lines, name="labels.csv"):
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes("\n".join(lines).encode() + b"\n")


def assert_one_line(error, *parts):
    """The message is one line that holds all of these."""
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


# --- csv ------------------------------------------------------------------------------------------


@pytest.fixture
def prints(tmp_path):
    """Four prints of three people in the competition's layout; one is to be predicted."""
    write_csv(tmp_path, "filename,ID,SEX", "img_0,7,1.0", "img_1,7,1.0", "img_2,03,0.0", "img_3,9,")
    for k in range(4):
        write_image(tmp_path / "processed" / "processed" / f"img_{k}.png", grey=k)
    return tmp_path


def prints_config(root, **overrides):
    return make_config("csv", root, **{"label_column": "SEX", "group_column": "ID", **overrides})


def test_csv_of_the_competition(prints):
    table = load_table(prints_config(prints))
    assert list(table.rows["filename"]) == ["img_0", "img_1", "img_2", "img_3"]
    assert table.labels.tolist() == [1, 1, 0, UNLABELLED]
    assert list(table.rows["raw_label"]) == ["1", "1", "0", ""]
    assert list(table.rows["group"]) == ["7", "7", "3", "9"]
    assert set(table.rows["split"]) == {""}
    assert table.classes == table.class_names == ("0", "1")
    assert table.usable_mask.all()
    assert not table.is_synthetic
    assert table.unlisted == ()
    for k in range(4):
        expected = prints / "processed" / "processed" / f"img_{k}.png"
        assert os.path.samefile(table.rows["path"][k], expected)
        assert table.read(k) == expected.read_bytes()


def test_csv_reader_travels_to_workers(prints):
    table = load_table(prints_config(prints))
    assert pickle.loads(pickle.dumps(table.read))(2) == table.read(2)


def test_csv_is_read_once_for_its_subgroups(tmp_path, monkeypatch):
    """And once for the images; what is wrong with a column is said by its name."""
    write_csv(tmp_path, "filename,label,hand,twice,twice", "a,x,left,1,2", "b,y,NA,1,2")
    config, opened = make_config("csv", tmp_path), []
    plain = columns.read_text
    monkeypatch.setattr(columns, "read_text", lambda *args: opened.append(args) or plain(*args))
    table = load_table(config, subgroups=["hand", "image_width"])
    assert table.rows[f"{COLUMN}hand"].tolist() == ["left", ""]
    assert len(opened) == 2
    for name, met in (("age", "no column 'age'"), ("twice", "2 columns 'twice'")):
        with pytest.raises(DataError) as error:
            load_table(config, subgroups=["hand", name])
        assert_one_line(error, tmp_path, met, "(evaluate.subgroups)", "the columns are", "name others, or () for none")


def test_csv_paths_survive_a_change_of_folder(prints, monkeypatch):
    monkeypatch.chdir(prints.parent)
    table = load_table(prints_config(prints.name))
    monkeypatch.chdir("/")
    assert table.read(0)


def test_csv_by_its_separator(prints):
    """That of the header; with the key, that one: there a semicolon is part of a cell."""
    table = load_table(prints_config(prints))
    lines = (prints / "labels.csv").read_text().replace(",", ";")
    (prints / "labels.csv").write_text(lines)
    assert load_table(prints_config(prints)).rows.equals(table.rows)
    with pytest.raises(DataError) as error:
        load_table(prints_config(prints, separator=","))
    assert_one_line(error, "no column 'filename'", "filename;ID;SEX")


def test_csv_byte_order_mark_spaces_quotes_and_blank_lines(tmp_path):
    text = '\ufeff filename ,"label"\r\n a.png , x \r\n"b,1.png","y"\r\n,\r\n\r\n'
    (tmp_path / "labels.csv").write_bytes(text.encode())
    table = load_table(make_config("csv", tmp_path))
    assert list(table.rows["filename"]) == ["a.png", "b,1.png"]
    assert list(table.rows["raw_label"]) == ["x", "y"]


def test_csv_words_for_missing_values_are_missing_and_counted(tmp_path):
    rows = ("a,x,1", "NA,NA,2", "c,nan,NA", "None,None,null", "e,null,", "f,,3", "g,y,None", "h,  ,4")
    write_csv(tmp_path, "filename,label,ID", *rows)
    table = load_table(make_config("csv", tmp_path, group_column="ID"))
    assert list(table.rows["filename"]) == ["a", "NA", "c", "None", "e", "f", "g", "h"]
    assert table.classes == ("x", "y")
    assert table.labels.tolist() == [0, *[UNLABELLED] * 5, 1, UNLABELLED]
    assert list(table.rows["group"]) == ["1", "2", "", "", "", "3", "", "4"]
    of_label, of_group = table.findings
    assert (of_label.kind, of_label.filenames) == ("missing_label", ("NA", "c", "None", "e"))
    assert "1 x 'NA', 1 x 'nan', 1 x 'None', 1 x 'null'" in of_label.reason
    assert "2 cells are blank" in of_label.reason
    assert (of_group.kind, of_group.filenames) == ("missing_group", ("c", "None", "g"))
    assert "data.missing" in of_group.reason


def test_csv_spellings_of_missing_values_are_a_key_and_named_classes_are_none(tmp_path):
    write_csv(tmp_path, "filename,label", "a,NA", "b,ZA", "c,?", "d,-9.0")
    assert load_table(make_config("csv", tmp_path, missing=("?", "-9"))).classes == ("NA", "ZA")
    table = load_table(make_config("csv", tmp_path, classes=("NA", "ZA"), missing=("NA", "?", "-9")))
    assert table.labels.tolist() == [0, 1, UNLABELLED, UNLABELLED]
    merge = (("south", ("NA", "ZA", "?")), ("other", ("-9",)))
    assert load_table(make_config("csv", tmp_path, merge=merge)).labels.tolist() == [0, 0, 0, 1]
    assert load_table(make_config("csv", tmp_path, missing=())).findings == ()


def test_csv_chosen_by_name(tmp_path):
    write_csv(tmp_path, "filename,label", "a,0", name="one.csv")
    write_csv(tmp_path / "sub", "filename,label", "b,0", name="two.csv")
    assert list(load_table(make_config("csv", tmp_path, csv="sub/two.csv")).rows["filename"]) == ["b"]
    with pytest.raises(DataError) as error:
        load_table(make_config("csv", tmp_path, csv="three.csv"))
    assert_one_line(error, "data.csv", "three.csv", "one.csv")


def test_csv_missing_or_ambiguous(tmp_path):
    with pytest.raises(DataError) as error:
        load_table(make_config("csv", tmp_path))
    assert_one_line(error, tmp_path, "CSV", "data.csv")
    for name in ("one.csv", "TWO.CSV"):
        write_csv(tmp_path, "filename,label", "a,0", name=name)
    with pytest.raises(DataError) as error:
        load_table(make_config("csv", tmp_path))
    assert_one_line(error, "one.csv", "TWO.CSV", "data.csv")


@pytest.mark.parametrize(
    ("key", "role"), [("filename", "filename_column"), ("label", "label_column"), ("group", "group_column")]
)
def test_csv_missing_column(prints, key, role):
    with pytest.raises(DataError) as error:
        load_table(prints_config(prints, **{role: "sexx"}))
    assert_one_line(error, "labels.csv", "sexx", f"data.{role}", "filename, ID, SEX")


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (["filename,label,label", "a,0,1"], ["2 columns", "'label'"]),
        (["filename,label", "a,0", "b,1", "a,1"], ["'a'", "lines 2 and 4"]),
        (["filename,label", "a,0", ",1"], ["line 3", "'filename'"]),
        (["filename,label", "a,0", "b"], ["line 3", "1 cells", "has 2"]),
        (["filename,label", "a,0,9"], ["line 2", "3 cells", "has 2"]),
        (["filename,label"], ["no rows"]),
        ([""], ["no column 'filename'", "none"]),
        (["filename,label", '"a"b,0'], ["not a CSV"]),
    ],
)
def test_csv_malformed(tmp_path, lines, parts):
    write_csv(tmp_path, *lines)
    with pytest.raises(DataError) as error:
        load_table(make_config("csv", tmp_path))
    assert_one_line(error, "labels.csv", *parts)


def test_csv_that_is_not_text(tmp_path):
    (tmp_path / "labels.csv").write_bytes("filename,label\nä,0\n".encode("latin-1"))
    with pytest.raises(DataError) as error:
        load_table(make_config("csv", tmp_path))
    assert_one_line(error, "labels.csv", "UTF-8")


def test_csv_group_column_that_is_empty(tmp_path):
    write_csv(tmp_path, "filename,label,ID", "a,0,", "b,1,")
    with pytest.raises(DataError) as error:
        load_table(make_config("csv", tmp_path, group_column="ID"))
    assert_one_line(error, "'ID'", "data.group_column", "empty")


def test_csv_label_out_of_range_is_left_to_the_audit(tmp_path):
    write_csv(tmp_path, "filename,label", "a,0", "b,1", "c,2", "d,")
    table = load_table(make_config("csv", tmp_path, classes=(1, 0)))
    assert table.classes == ("1", "0")
    assert table.labels.tolist() == [1, 0, OUT_OF_RANGE, UNLABELLED]
    assert table.rows["raw_label"][2] == "2"


@pytest.mark.parametrize("configured", [(), ("01", "02", "10"), (1, 2, 10)])
def test_labels_keep_the_spelling_of_the_source(tmp_path, configured):
    write_csv(tmp_path, "filename,label", "a,01", "b,02", "c,10", "d,")
    table = load_table(make_config("csv", tmp_path, classes=configured))
    assert table.classes == table.class_names == ("01", "02", "10")
    assert list(table.rows["raw_label"]) == ["01", "02", "10", ""]
    assert table.labels.tolist() == [0, 1, 2, UNLABELLED]
    merged = load_table(make_config("csv", tmp_path, merge=(("low", ("01", 2)), ("high", ("10",)))))
    assert merged.labels.tolist() == [0, 0, 1, UNLABELLED]
    assert merged.originals == ("01", "02", "10")
    assert list(merged.rows["original"]) == ["01", "02", "10", ""]


def test_spellings_of_one_number_are_one_class_and_said(tmp_path):
    write_csv(tmp_path, "filename,label", "a,01", "b,1", "c,01.0", "d,2", "e,2.0")
    table = load_table(make_config("csv", tmp_path))
    assert table.classes == ("01", "2")
    assert table.labels.tolist() == [0, 0, 0, 1, 1]
    (finding,) = table.findings
    assert (finding.kind, finding.filenames) == ("label_spellings", ("a", "b", "c"))
    assert "2 x '01', 1 x '1'" in finding.reason


def test_composed_and_decomposed_letters_are_one_class(tmp_path):
    write_csv(tmp_path, "filename,label", "a,caf\u00e9", "b,cafe\u0301", "c,bar")
    table = load_table(make_config("csv", tmp_path, classes=("cafe\u0301", "bar")))
    assert table.classes == ("caf\u00e9", "bar")
    assert table.labels.tolist() == [0, 0, 1]
    assert [f.kind for f in table.findings] == ["label_spellings"]
    for name in ("caf\u00e9", "cafe\u0301"):
        write_image(tmp_path / "folders" / name / "1.png")
    with pytest.raises(DataError) as error:
        load_table(make_config("folder", tmp_path / "folders"))
    assert_one_line(error, "2 folders mean class 'caf\u00e9'")


@pytest.mark.parametrize("source", ["csv", "folder"])
def test_labels_that_differ_in_case_are_named_by_the_config_or_an_error(tmp_path, source):
    write_csv(tmp_path, "filename,label", "Cat/1.png,Cat", "cat/1.png,cat", "dog/1.png,dog")
    write_images(tmp_path, "Cat/1.png", "cat/1.png", "dog/1.png")
    with pytest.raises(DataError) as error:
        load_table(make_config(source, tmp_path))
    assert_one_line(error, "'Cat' (1 images), 'cat' (1 images)", "data.merge", "data.classes")
    with pytest.raises(DataError, match="upper and lower case"):
        load_table(make_config(source, tmp_path, classes=("cat", "dog")))
    two = load_table(make_config(source, tmp_path, classes=("Cat", "cat", "dog")))
    assert two.labels.tolist() == [0, 1, 2]
    one = load_table(make_config(source, tmp_path, merge=(("cat", ("Cat", "cat")), ("dog", ("dog",)))))
    assert one.labels.tolist() == [0, 0, 1]


def test_csv_without_any_label_has_no_classes(tmp_path):
    write_csv(tmp_path, "filename,label", "a,", "b,")
    table = load_table(make_config("csv", tmp_path, class_names=("x", "y")))
    assert table.classes == ()
    assert table.to_predict_mask.all()


def test_csv_marked_as_synthetic(prints):
    (prints / "SYNTHETIC.txt").write_text("drawn")
    table = load_table(prints_config(prints))
    assert table.is_synthetic
    assert table.source.startswith("SYNTHETIC")


# --- which file a cell means ----------------------------------------------------------------------


def test_ambiguous_file_names_both(tmp_path):
    write_csv(tmp_path, "filename,label", "img,0")
    write_image(tmp_path / "left" / "img.png")
    write_image(tmp_path / "right" / "img.jpg")
    with pytest.raises(DataError) as error:
        load_table(make_config("csv", tmp_path))
    assert_one_line(error, "line 2", "'img'", "left/img.png", "right/img.jpg", "data.image_dir")
    table = load_table(make_config("csv", tmp_path, image_dir="right"))
    assert table.rows["path"][0] == str(tmp_path / "right" / "img.jpg")
    assert table.unlisted == ()
    write_csv(tmp_path, "filename,label", "left/img.png,0")
    assert load_table(make_config("csv", tmp_path)).rows["path"][0] == str(tmp_path / "left" / "img.png")


def test_image_dir_limits_the_search(tmp_path):
    write_csv(tmp_path, "filename,label", "a,0", "b,1", "images/c.png,1", "c.png,0", "left/d.png,1", "left/d,0")
    write_image(tmp_path / "images" / "a.png")
    write_image(tmp_path / "images" / "c.png")
    write_image(tmp_path / "images" / "left" / "d.png")
    write_image(tmp_path / "images" / "right" / "d.png")
    write_image(tmp_path / "images" / "extra.png")
    write_image(tmp_path / "b.png")
    table = load_table(make_config("csv", tmp_path, image_dir="images"))
    names = [os.path.relpath(path, tmp_path) if path else "" for path in table.rows["path"]]
    assert names == ["images/a.png", "", *["images/c.png"] * 2, *["images/left/d.png"] * 2]
    assert table.unlisted == ("images/extra.png", "images/right/d.png")
    with pytest.raises(OSError, match="missing file"):
        table.read(1)
    with pytest.raises(DataError) as error:
        load_table(make_config("csv", tmp_path, image_dir="imagse"))
    assert_one_line(error, "data.image_dir", "imagse")


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).filter(
            lambda s: s == s.strip()
        ),
        st.tuples(st.sampled_from(["", "0", "0.0", " 1", "x,y", 'a"b']), st.text("0123456789ab ", max_size=4)),
        min_size=1,
        max_size=6,
    )
)
def test_csv_round_trip(tmp_path, rows):
    """Whatever a spreadsheet quotes comes back: filenames in order and unchanged, labels canonical."""
    import csv

    with (tmp_path / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["filename", "label", "group"], *([f, *cells] for f, cells in rows.items())])
    groups = [canonical_label(group) for _, group in rows.values()]
    data = make_config("csv", tmp_path, group_column="group" if any(groups) else "")
    table = load_table(data)
    assert list(table.rows["filename"]) == list(rows)
    assert list(table.rows["raw_label"]) == [canonical_label(label) for label, _ in rows.values()]
    assert list(table.rows["group"]) == groups
    for raw_label, label in zip(table.rows["raw_label"], table.labels, strict=True):
        assert raw_label == (table.classes[label] if label >= 0 else "")


# --- labels and classes ---------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(number=st.integers(-(10**6), 10**6), zeros=st.integers(0, 3), padding=st.sampled_from(["", " ", "\t"]))
def test_canonical_label_of_a_number(number, zeros, padding):
    expected = str(number)
    for text in (expected, f"{number}.", f"{number}." + "0" * zeros, f"{padding}{number}{padding}"):
        assert canonical_label(text) == expected
    assert canonical_label(number) == canonical_label(float(number)) == expected
    assert canonical_label(canonical_label(number)) == expected


@settings(deadline=None, max_examples=50)
@given(text=st.text())
def test_canonical_label_is_stable(text):
    assert canonical_label(canonical_label(text)) == canonical_label(text)


def test_canonical_label_leaves_other_text():
    assert [canonical_label(v) for v in ("0.5", "1e3", "cat", " ", None, float("nan"))] == [
        "0.5",
        "1e3",
        "cat",
        "",
        "",
        "",
    ]


def test_class_order():
    assert class_order((), ["10", "9", "", "-1", "0.5"]) == ("-1", "0.5", "9", "10")
    assert class_order((), ["10", "9", "nan"]) == ("10", "9", "nan")
    assert class_order((1.0, "0"), ["5"]) == ("1", "0")
    for configured in (("0", 0), ("a", "")):
        with pytest.raises(ConfigError, match=r"data\.classes"):
            class_order(configured, [])


def test_class_names_must_be_as_many_as_classes(prints):
    table = load_table(prints_config(prints, class_names=("female", "male")))
    assert table.class_names == ("female", "male")
    with pytest.raises(ConfigError) as error:
        load_table(prints_config(prints, class_names=("a", "b", "c")))
    assert_one_line(error, "data.class_names", "3 names", "2 classes", "0, 1")


# --- folder ---------------------------------------------------------------------------------------


def write_images(root, *names):
    for k, name in enumerate(names):
        write_image(root / name, grey=k)


def test_folder_of_classes(tmp_path):
    write_images(tmp_path, "dogs/b.jpg", "dogs/c.PNG", "cats/a.png", ".cache/x.png", "lost.png")
    (tmp_path / "cats" / "a.bak").write_text("?")
    (tmp_path / "README.md").write_text("?")
    table = load_table(make_config("folder", tmp_path))
    assert list(table.rows["filename"]) == ["cats/a.png", "dogs/b.jpg", "dogs/c.PNG"]
    assert table.labels.tolist() == [0, 1, 1]
    assert table.classes == ("cats", "dogs")
    assert set(table.rows["split"]) == {""}
    assert table.unlisted == ("cats/a.bak", "lost.png")
    assert table.read(1) == (tmp_path / "dogs" / "b.jpg").read_bytes()


@pytest.mark.parametrize("validation", ["validation", "val", "valid"])
def test_folder_with_splits(tmp_path, validation):
    write_images(tmp_path, "train/a/1.png", "train/b/1.png", f"{validation}/a/1.png", "test/b/1.png")
    table = load_table(make_config("folder", tmp_path))
    assert list(table.rows["filename"]) == [
        "train/a/1.png",
        "train/b/1.png",
        f"{validation}/a/1.png",
        "test/b/1.png",
    ]
    assert list(table.rows["split"]) == ["train", "train", "validation", "test"]
    assert table.labels.tolist() == [0, 1, 0, 1]


def test_folder_with_unlabelled_test(tmp_path):
    write_images(tmp_path, "train/a/1.png", "train/b/1.png", "test/9.png", "test/8.png")
    table = load_table(make_config("folder", tmp_path))
    assert list(table.rows["filename"][2:]) == ["test/8.png", "test/9.png"]
    assert table.to_predict_mask.tolist() == [False, False, True, True]
    assert table.classes == ("a", "b")
    assert table.unlisted == ()


def test_folder_with_only_train(tmp_path):
    write_images(tmp_path, "train/a/1.png", "train/b/1.png")
    table = load_table(make_config("folder", tmp_path))
    assert table.classes == ("a", "b")
    assert set(table.rows["split"]) == {"train"}


def test_folder_classes_in_configured_order(tmp_path):
    write_images(tmp_path, "train/a/1.png", "train/b/1.png", "validation/c/1.png")
    table = load_table(make_config("folder", tmp_path, classes=("b", "a")))
    assert table.labels.tolist() == [1, 0, OUT_OF_RANGE]
    # Without a configuration, training decides what there is to learn.
    assert load_table(make_config("folder", tmp_path)).labels.tolist() == [0, 1, OUT_OF_RANGE]


def test_folder_errors(tmp_path):
    def message(**overrides):
        with pytest.raises((DataError, ConfigError)) as error:
            load_table(make_config("folder", tmp_path, **overrides))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "no sub-folders" in message()
    write_images(tmp_path, "a/1.png")
    (tmp_path / "hollow").mkdir()
    assert str(tmp_path / "hollow") in message()
    (tmp_path / "hollow").rmdir()
    assert "data.group_column = 'ID'" in message(group_column="ID")
    write_images(tmp_path, "1/1.png", "01/1.png")
    assert "class '1'" in message()
    write_images(tmp_path, "val/a/1.png")
    assert "val/ without train/" in message()
    write_images(tmp_path, "valid/a/1.png")
    assert "val, valid" in message()


def test_folder_of_splits_in_the_layout_of_the_reference(tmp_path):
    names = ("humans/1.png", "horses/1.png", "humans/2.png")
    folders = ("horse-or-human", "validation-horse-or-human")
    write_images(tmp_path, *(f"data/{folder}/{name}" for folder in folders for name in names))
    table = load_table(make_config("folder", tmp_path))
    assert table.classes == ("horses", "humans")
    assert list(table.rows["split"]) == ["train"] * 3 + ["validation"] * 3
    assert table.rows["filename"][3] == "data/validation-horse-or-human/horses/1.png"
    assert table.source == f"folder {tmp_path / 'data'}"
    assert table.unlisted == ()


# --- files that are none ---------------------------------------------------------------------------


def make_unfit_files(folder):
    """Files that no reader may wait for, or take in whole, beside their reasons."""
    os.mkfifo(folder / "fifo.png")
    (folder / "endless.png").symlink_to("/dev/zero")
    (folder / "folder.png").mkdir()
    with (folder / "huge.png").open("wb") as file:
        file.truncate(60 * 2**30)  # takes no room
    return {"fifo.png": "FIFO", "endless.png": "a device", "huge.png": "64,424.5 MB, the limit is 1,000 MB"}


def test_what_is_no_regular_file_or_too_large_goes_to_quarantine(tmp_path):
    root = tmp_path / "set"
    write_images(root, "a/1.png", "b/1.png")
    reasons = make_unfit_files(root / "a")
    table = load_table(make_config("folder", root))
    _, facts = decode_table(table, Decoding((4, 4), 1), cache_dir=tmp_path / "cache")
    found = dict(zip(table.rows["filename"], facts["error"], strict=True))
    assert [name for name, error in found.items() if not error] == ["a/1.png", "b/1.png"]
    for name, reason in reasons.items():
        assert found[f"a/{name}"].startswith("cannot be read: ")
        assert reason in found[f"a/{name}"]
    small = load_table(make_config("folder", root, max_file_mb=1e-6))
    _, facts = decode_table(small, Decoding((4, 4), 1), cache_dir=None)
    assert facts["error"].str.contains("data.max_file_mb").sum() == 3


@pytest.mark.parametrize(("name", "reason"), [("fifo", "FIFO"), ("endless", "device"), ("huge", "data.max_file_mb")])
def test_a_csv_that_is_no_regular_file_or_too_large(tmp_path, name, reason):
    make_unfit_files(tmp_path)
    (tmp_path / f"{name}.png").rename(tmp_path / "labels.csv")
    for key in ("", "labels.csv"):
        with pytest.raises(DataError) as error:
            load_table(make_config("csv", tmp_path, csv=key))
        assert_one_line(error, tmp_path / "labels.csv", reason)


# --- every source ---------------------------------------------------------------------------------


def test_unknown_source():
    with pytest.raises(ConfigError) as error:
        load_table(make_config("sql"))
    assert_one_line(error, "data.source = 'sql'", *SOURCES)


@pytest.mark.parametrize("source", ["csv", "folder"])
def test_root_missing(tmp_path, source):
    with pytest.raises(ConfigError) as error:
        load_table(make_config(source))
    assert_one_line(error, "data.root", "--config.data.root=")
    with pytest.raises(DataError) as error:
        load_table(make_config(source, tmp_path / "nowhere"))
    assert_one_line(error, "data.root", tmp_path / "nowhere")


def test_error_of_the_file_system_is_one_line(tmp_path, monkeypatch):
    write_images(tmp_path, "a/1.png", "b/1.png")

    def fail(top, onerror, **_):
        onerror(PermissionError(13, "Permission denied", os.fspath(top)))
        return iter(())

    monkeypatch.setattr(os, "walk", fail)
    with pytest.raises(DataError) as error:
        load_table(make_config("folder", tmp_path))
    assert_one_line(error, tmp_path, "Permission denied")


def test_a_root_that_is_not_utf_8(tmp_path):
    with pytest.raises(DataError) as error:
        load_table(make_config("folder", f"{tmp_path}/caf\udce9"))
    assert_one_line(error, "data.root", "not UTF-8")
    assert str(error.value).encode()


def test_home_is_expanded(prints, monkeypatch):
    monkeypatch.setenv("HOME", str(prints.parent))
    assert len(load_table(prints_config(f"~/{prints.name}"))) == 4


# --- synthetic ------------------------------------------------------------------------------------


def test_synthetic_is_drawn_once_and_marked(tmp_path, monkeypatch):
    monkeypatch.setenv("FPCLASS_CACHE", str(tmp_path / "cache"))
    data = make_config("synthetic", tmp_path / "mine", class_names=("female", "male"))
    data.update({"csv": "other.csv", "image_dir": "other", "filename_column": "other"})  # not for this source
    data.synthetic.update({"num_images": 12, "image_size": (60, 40), "seed": 3})
    table = load_table(data)
    root = tmp_path / "cache" / "synthetic" / "12x60x40-seed3"
    assert not (tmp_path / "mine").exists(), "nothing is drawn into a folder of the user's"
    assert (root / "SYNTHETIC.txt").is_file()
    assert len(table) == 12
    assert table.is_synthetic
    assert table.source.startswith("SYNTHETIC")
    assert table.classes == ("0", "1")
    assert (table.rows["group"] != "").all()
    assert table.unlisted == ()
    assert Image.open(io.BytesIO(table.read(0))).size == (40, 60)
    written = {path: path.stat().st_mtime_ns for path in image_files(root)}
    assert load_table(data).rows.equals(table.rows)
    assert {path: path.stat().st_mtime_ns for path in image_files(root)} == written
