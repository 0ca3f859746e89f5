import importlib.util
import io
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import base
from fpclass.data.sources import load_table
from fpclass.data.sources.tfds import EncodedImages
from fpclass.data.table import OUT_OF_RANGE
from fpclass.errors import ConfigError, DataError


def make_config(root, **overrides) -> ConfigDict:
    data = base.get_config().data
    data.update({"source": "tfds", "root": str(root), **overrides})
    return data


def assert_one_line(error, *parts):
    """The message is one line that holds all of these."""
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


NAMES = ("zebra", "ape")  # not in alphabetical order: the set's own order counts


def encoded(grey):
    buffer = io.BytesIO()
    Image.fromarray(np.full((4 + grey, 5, 3), grey, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def prepare_tfds(folder, name, *, version="1.0.0", names=NAMES, texts=None, is_labelled=True, draw=encoded, **splits):
    """Writes a set to a folder, TensorFlow-free; its images are grey 0, 1, … and the label is the grey modulo K.

    `draw` gives the encoded image of such a number.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    texts = texts or {}

    def info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=names),
            **{key: tfds.features.Text() for key in texts},
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="drawn for a test",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def generate(self, count):
        for k in range(count):
            yield f"{k:03d}", {"image": io.BytesIO(draw(k)), "label": k % len(names) if is_labelled else -1, **texts}

    body = {
        "VERSION": tfds.core.Version(version),
        "_info": info,
        "_split_generators": lambda self, _: {split: self._generate_examples(n) for split, n in splits.items()},
        "_generate_examples": generate,
    }
    with registered.skip_registration():
        builder_cls = type(name.title().replace("_", ""), (tfds.core.GeneratorBasedBuilder,), body)
    builder = builder_cls(data_dir=folder, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(register_checksums=False))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepare_tfds(folder, "tiny_set", train=5, validation=3, test=2, extra_images=1)
    return folder


def test_tfds_table(tiny):
    seen = []

    def progress(items, length):
        seen.append(length)
        return items

    table = load_table(make_config(tiny, tfds_name="tiny_set"), progress)
    assert list(table.rows["split"]) == ["train"] * 5 + ["validation"] * 3 + ["test"] * 2
    assert list(table.rows["filename"])[4:7] == ["train/000004", "validation/000000", "validation/000001"]
    assert table.classes == NAMES
    assert (table.rows["path"] != "").all()
    assert "tiny_set/1.0.0" in table.source
    assert "extra_images" in table.source
    assert seen == [10]
    greys = {split: set() for split in ("train", "validation", "test")}
    for k in range(len(table)):
        with Image.open(io.BytesIO(table.read(k))) as image:
            grey = np.asarray(image)[0, 0, 0]
        assert table.read(k) == encoded(int(grey))  # the file's own bytes, not another encoding of the pixels
        assert table.labels[k] == grey % 2
        greys[table.rows["split"][k]].add(int(grey))
    assert greys == {"train": set(range(5)), "validation": set(range(3)), "test": set(range(2))}


def test_tfds_without_tensorflow(tiny):
    if importlib.util.find_spec("tensorflow"):
        pytest.skip("TensorFlow is here")
    load_table(make_config(tiny, tfds_name="tiny_set"))
    assert "tensorflow" not in sys.modules


def test_tfds_hidden_labels_are_rows_to_predict(tmp_path):
    prepare_tfds(tmp_path, "tiny_set", is_labelled=False, test=2)
    table = load_table(make_config(tmp_path, tfds_name="tiny_set"))
    assert table.to_predict_mask.all()
    assert table.classes == NAMES


def test_tfds_classes_can_be_reordered(tiny):
    data = make_config(tiny, tfds_name="tiny_set", classes=("ape", "zebra"), class_names=("A", "Z"))
    table = load_table(data)
    assert table.class_names == ("A", "Z")
    assert [table.classes[label] for label in table.labels] == list(table.rows["raw_label"])
    assert set(load_table(make_config(tiny, tfds_name="tiny_set", classes=("ape",))).labels) == {
        0,
        OUT_OF_RANGE,
    }


@pytest.mark.parametrize(
    ("name", "texts", "splits"),
    [
        ("horses_or_humans", {}, {"train": 3, "test": 2}),
        ("cats_vs_dogs", {"image/filename": "PetImages/Dog/0.jpg"}, {"train": 4}),
        ("cifar10", {"id": "train_16399"}, {"train": 11, "test": 2}),
    ],
)
def test_tfds_sets_that_the_recipes_need(tmp_path, name, texts, splits):
    """TFDS's own builders read files of their version, names and features."""
    import tensorflow_datasets as tfds

    public = tfds.builder(name, data_dir=tmp_path / "empty")
    names = tuple(public.info.features["label"].names)
    assert set(public.info.features) == {"image", "label", *texts}
    prepare_tfds(tmp_path, name, version=public.version, names=names, texts=texts, **splits)
    table = load_table(make_config(tmp_path, tfds_name=name))
    assert table.classes == names
    assert table.rows["split"].value_counts().to_dict() == splits
    assert sorted(table.labels[: splits["train"]]) == sorted(k % len(names) for k in range(splits["train"]))
    assert table.read(len(table) - 1).startswith(b"\x89PNG")


def test_tfds_not_prepared(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError) as error:
        load_table(make_config(tmp_path, tfds_name="horses_or_humans"))
    assert_one_line(error, "horses_or_humans", tmp_path, "TensorFlow", "pip install tensorflow once", "folder")


def test_tfds_prepares_where_tensorflow_is(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def prepare(builder):
        raise RuntimeError("the download\nfailed")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "tensorflow")
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", prepare)
    with pytest.raises(DataError) as error:
        load_table(make_config(tmp_path, tfds_name="horses_or_humans"))
    assert_one_line(error, "horses_or_humans", "the download")


def test_tfds_errors(tiny, tmp_path):
    for overrides, parts in (
        ({}, ["data.tfds_name"]),
        ({"tfds_name": "tiny_set", "group_column": "ID"}, ["data.group_column = 'ID'"]),
    ):
        with pytest.raises(ConfigError) as error:
            load_table(make_config(tiny, **overrides))
        assert_one_line(error, *parts)
    with pytest.raises(DataError) as error:
        load_table(make_config(tmp_path, tfds_name="no_such_set"))
    assert_one_line(error, "no_such_set", tmp_path)
    prepare_tfds(tmp_path, "odd_splits", weekdays=2)
    with pytest.raises(DataError) as error:
        load_table(make_config(tmp_path, tfds_name="odd_splits"))
    assert_one_line(error, "odd_splits", "train, validation, test", "weekdays")


def test_tfds_in_another_file_format(tmp_path):
    prepare_tfds(tmp_path, "tiny_set", train=2)
    (info,) = tmp_path.rglob("dataset_info.json")
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(DataError) as error:
        load_table(make_config(tmp_path, tfds_name="tiny_set"))
    assert_one_line(error, "tiny_set", "array_record", "data.root")


def test_tfds_broken_file(tmp_path):
    prepare_tfds(tmp_path, "tiny_set", train=2)
    (file,) = tmp_path.rglob("*train*")
    file.write_bytes(b"\x00" * file.stat().st_size)
    with pytest.raises(DataError) as error:
        load_table(make_config(tmp_path, tfds_name="tiny_set"))
    assert_one_line(error, "tiny_set")


def test_tfds_broken_record():
    with pytest.raises(OSError, match="broken record"):
        EncodedImages([[{"image": b"whole"}], [{}]], "image")(1)
