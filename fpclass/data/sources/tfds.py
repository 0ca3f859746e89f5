"""Image sets of TensorFlow Datasets as array_record, read without TensorFlow; preparing takes it (extra `tfds`)."""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fpclass.common.files import expanded
from fpclass.data.files import some_of
from fpclass.data.table import Progress, Table, canonical_label, class_names, class_order, make_rows
from fpclass.errors import ConfigError, DataError

SPLITS = ("train", "validation", "test")


def load_tfds(data: Any, progress: Progress | None = None) -> Table:
    """Lists the examples of the splits `SPLITS` of a prepared set; images stay encoded, a label of -1 is to predict.

    Raises:
      ConfigError: no name, or a group column.
      DataError: no such set, not prepared, in another file format, or not one of images with one label each.
    """
    if not data.tfds_name:
        raise ConfigError("data.tfds_name is empty; give the name of the set, e.g. horses_or_humans")
    if data.group_column:
        raise ConfigError(f"data.group_column = {data.group_column!r}: TFDS sets have no columns; leave it empty")
    place = f"data.tfds_name = {data.tfds_name!r}"
    with _quiet(), _one_line_errors(place):
        builder = _prepared_builder(data.tfds_name, data.root, place)
        image_key, label_key = _feature_keys(builder.info, place)
        names = [canonical_label(name) for name in builder.info.features[label_key].names]
        parts = _open_splits(builder, place)
        examples = itertools.chain.from_iterable(parts.values())
        num_examples = sum(map(len, parts.values()))
        labels = [int(e[label_key]) for e in (progress(examples, num_examples) if progress else examples)]

    filename = [f"{split}/{i:06d}" for split, part in parts.items() for i in range(len(part))]
    classes = class_order(data.classes, ()) or tuple(names)
    unused = sorted(set(builder.info.splits) - set(parts))
    return Table(
        rows=make_rows(
            filename,
            path=[f"{builder.info.full_name}/{name}" for name in filename],
            raw_label=[names[label] if label >= 0 else "" for label in labels],
            classes=classes,
            split=[split for split, part in parts.items() for _ in range(len(part))],
        ),
        classes=classes,
        class_names=class_names(data.class_names, classes),
        read=EncodedImages(list(parts.values()), image_key),
        source=f"tfds {builder.info.full_name}" + (f" (not used: {some_of(unused)})" if unused else ""),
        has_names=False,
    )


class EncodedImages:
    """Reads the encoded image of the row at a position, the splits standing one after the other."""

    def __init__(self, parts: Sequence[Sequence[Mapping[str, Any]]], image_key: str):
        self._parts = parts
        self._starts = np.cumsum([0] + [len(part) for part in parts])
        self._image_key = image_key

    def __call__(self, position: int) -> bytes:
        """Raises OSError where the record is broken."""
        part = int(np.searchsorted(self._starts, position, side="right")) - 1
        try:
            return self._parts[part][position - int(self._starts[part])][self._image_key]
        except Exception as error:  # array_record and protobuf have kinds of their own
            raise OSError(f"broken record: {error}") from error


def _prepared_builder(name: str, root: str, place: str) -> Any:
    """The builder of a set that is on disk, prepared now if TensorFlow is there."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.registered import DatasetNotFoundError

    data_dir = str(expanded(root)) if root else None
    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except DatasetNotFoundError:
        where = root or "its default folder (give another with data.root)"
        raise DataError(f"{place}: TFDS knows no such set and there is none in {where}") from None
    except ValueError as error:
        if "file format" not in str(error).lower():
            raise
        # Only array_record can be read row by row without TensorFlow.
        raise DataError(
            f"{place}: prepared in another file format than array_record; give an empty folder with data.root to "
            f"prepare it once more"
        ) from error
    if not builder.is_prepared():
        if importlib.util.find_spec("tensorflow") is None:
            raise DataError(
                f"{place}: not prepared in {builder.data_path}, and preparing it takes TensorFlow; "
                f"pip install tensorflow once, or give its images as a folder with data.source=folder"
            )
        builder.download_and_prepare()
    return builder


def _feature_keys(info: Any, place: str) -> tuple[str, str]:
    import tensorflow_datasets as tfds

    image_key, label_key = (info.supervised_keys or ("image", "label"))[:2]
    features = dict(info.features.items())
    image, label = features.get(image_key), features.get(label_key)
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise DataError(f"{place}: expected one image and one class label, met {some_of(sorted(features))}")
    if image.np_dtype not in (np.uint8, np.uint16):
        raise DataError(f"{place}: its images hold {image.np_dtype}, expected 8 or 16 bit grey levels")
    return image_key, label_key


def _open_splits(builder: Any, place: str) -> dict[str, Sequence[Any]]:
    """Split -> its examples, images encoded."""
    import tensorflow_datasets as tfds

    splits = [split for split in SPLITS if split in builder.info.splits]
    if not splits:
        met = some_of(sorted(builder.info.splits))
        raise DataError(f"{place}: expected splits among {some_of(SPLITS)}, met {met}")
    # Further images of an example (a mask, a second view) stay encoded too: nobody looks at them.
    images = [key for key, feature in builder.info.features.items() if isinstance(feature, tfds.features.Image)]
    decoders = {key: tfds.decode.SkipDecoding() for key in images}
    return {split: builder.as_data_source(split=split, decoders=decoders) for split in splits}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS's and TensorFlow's remarks about themselves off the terminal."""
    from absl import logging

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


@contextmanager
def _one_line_errors(place: str) -> Iterator[None]:
    """Turns what TFDS raises (a broken download, another file format, an unknown version) into one line."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(f"{place}: {line}") from error
