"""Classes put together, and people by what file names say."""

import numpy as np
import pytest
from PIL import Image

from configs import base
from fpclass.data.sources import load_table
from fpclass.errors import ConfigError
from fpclass.experiment import load_config

MERGE = (("vehicle", ("ship", "truck")), ("animal", ("cat",)))


@pytest.fixture
def folders(tmp_path):
    for name in ("cat", "ship", "truck"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("RGB", (4, 4)).save(tmp_path / name / f"{name}{i // 2:02d}-{i}.png")
    return tmp_path


def data_config(folder, **changes):
    config = base.get_config().data.copy_and_resolve_references()
    with config.unlocked():
        config.update({"source": "folder", "root": str(folder)} | changes)
    return config


def test_merged_classes_keep_what_they_were(folders):
    table = load_table(data_config(folders, merge=MERGE))
    assert table.classes == table.class_names == ("vehicle", "animal")
    assert table.originals == ("cat", "ship", "truck")
    assert table.rows["original"].tolist() == ["cat"] * 4 + ["ship"] * 4 + ["truck"] * 4
    assert table.labels.tolist() == [1] * 4 + [0] * 8
    assert table.rows["raw_label"].tolist() == ["animal"] * 4 + ["vehicle"] * 8


def test_names_of_merged_classes(folders):
    table = load_table(data_config(folders, merge=MERGE, class_names=("things", "beasts")))
    assert table.class_names == ("things", "beasts")


def test_rows_without_a_label_have_no_original(tmp_path):
    for i in range(4):
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "all.csv").write_text("filename,label\n0,cat\n1,ship\n2,\n3,dog\n")
    table = load_table(
        data_config(tmp_path, source="csv", classes=("cat", "ship"), merge=(("a", ("cat",)), ("b", ("ship",))))
    )
    assert table.labels.tolist() == [0, 1, -1, -2], "dog stays out of range, for the audit to say so"
    assert table.rows["original"].tolist() == ["cat", "ship", "", "dog"]


@pytest.mark.parametrize(
    ("merge", "words"),
    [
        ((("a", ("cat", "ship")), ("b", ("ship", "truck"))), "'ship' is in 'a' and in 'b'"),
        ((("a", ("cat", "ship")), ("b", ("lorry",))), "no class 'lorry'.*cat, ship, truck"),
        ((("a", ("cat",)), ("b", ("ship",))), "'truck' of .* is in none of a, b"),
    ],
)
def test_bad_merges(folders, merge, words):
    with pytest.raises(ConfigError, match=words):
        load_table(data_config(folders, merge=merge))


def test_people_by_file_name(folders):
    table = load_table(data_config(folders, group_pattern=r"(\w+?\d+)-\d+\.\w+$"))
    assert table.rows["group"].tolist()[:4] == ["cat00", "cat00", "cat01", "cat01"]
    assert table.rows["group"].nunique() == 6


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"(horse\d+)", "finds nothing in 12 of 12 names, first 'cat/cat00-0.png'"),
        (r"\d+", r"expected \(…\)"),
        (r"(cat", "no regular expression"),
    ],
)
def test_bad_patterns(folders, pattern, words):
    with pytest.raises(ConfigError, match=words):
        load_table(data_config(folders, group_pattern=pattern))


@pytest.mark.parametrize("value", ["((1, 2),)", "(('a', 'cat'),)", "(('a', ()),)"])
def test_a_merge_of_another_form_is_refused(value):
    with pytest.raises(ConfigError, match=r"data\.merge"):
        load_config("configs/demo.py", [f"--config.data.merge={value}"])
