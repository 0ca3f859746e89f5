"""Images on disk: indexed like an array, found again, whole or not there, and never all in memory."""

import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
from encoded_images import encode
from test_decode_table import SMALL, assert_same, make_table, noise
from tiny_disk import tiny_disk

from fpclass.data import cache, decode
from fpclass.data.cache import StoredImages
from fpclass.data.decode import decode_table
from fpclass.data.resize import Decoding
from fpclass.errors import RunError
from fpclass.train.inputs import streaming

SHAPE = (11, 3, 2, 3)


@pytest.fixture
def files(tmp_path):
    """Eleven files: nine images, one that is none, and one that is not there."""
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [folder / f"{n}.png" for n in range(11)]
    for n, path in enumerate(paths[:-1]):
        path.write_bytes(encode(noise(n)) if n != 4 else b"<html>")
    return paths


@pytest.fixture
def images(tmp_path):
    """The same images in memory and on disk."""
    expected = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)

    def fill(stored):
        for row in reversed(range(len(expected))):
            stored[row] = expected[row]
        return [{"row": row} for row in range(len(expected))]

    stored, facts = cache.store(tmp_path / "cache", "settings", list("abcdefghijk"), SHAPE, fill)
    assert facts[3] == {"row": 3}
    return expected, stored


@pytest.mark.parametrize(
    "rows",
    [0, 10, -1, np.int64(3), slice(None), slice(2, 9, 3), [4, 4, 0], [], np.array([[1, 2], [-2, -1]]), [True] * 11],
    ids=str,
)
def test_images_on_disk_are_indexed_like_an_array(images, rows):
    expected, stored = images
    rows = np.asarray(rows, int) if isinstance(rows, list) and not any(r is True for r in rows) else rows
    np.testing.assert_array_equal(stored[rows], expected[rows])
    assert (stored.shape, stored.dtype, len(stored), stored.nbytes) == (SHAPE, np.uint8, 11, expected.nbytes)


def test_what_is_out_of_range_is_an_error(images):
    with pytest.raises(IndexError):
        images[1][11]


def test_a_set_that_is_too_large_is_used_from_disk_and_is_the_same(tmp_path, files):
    table = make_table(files)
    in_memory = decode_table(table, SMALL, cache_dir=None)
    for cache_dir in (None, tmp_path / "cache", tmp_path / "cache"):
        on_disk = decode_table(table, SMALL, cache_dir=cache_dir, memory_bytes=in_memory[0].nbytes - 1)
        assert isinstance(on_disk[0], StoredImages)
        assert_same((on_disk[0][:], on_disk[1]), in_memory)
    fits = decode_table(table, SMALL, cache_dir=None, memory_bytes=in_memory[0].nbytes)
    assert isinstance(fits[0], np.ndarray)


@pytest.mark.parametrize("was_stored", [True, False])
def test_either_way_finds_what_the_other_one_kept(tmp_path, files, monkeypatch, was_stored):
    table, budgets = make_table(files), [0, np.inf] if was_stored else [np.inf, 0]
    first = decode_table(table, SMALL, cache_dir=tmp_path / "cache", memory_bytes=budgets[0])
    monkeypatch.setattr(decode, "decode_bytes", lambda *_, **__: pytest.fail("decoded again"))
    second = decode_table(table, SMALL, cache_dir=tmp_path / "cache", memory_bytes=budgets[1])
    assert [isinstance(images, StoredImages) for images, _ in (first, second)] == [was_stored, not was_stored]
    assert_same((first[0][:], first[1]), (second[0][:], second[1]))


def test_only_new_files_are_decoded(tmp_path, files, monkeypatch):
    decode_table(make_table(files[:6]), SMALL, cache_dir=tmp_path / "cache", memory_bytes=0)
    expected = decode_table(make_table(files[::-1]), SMALL, cache_dir=None)
    calls, original = [], decode.decode_bytes
    monkeypatch.setattr(decode, "decode_bytes", lambda data, how: calls.append(data) or original(data, how))
    images, facts = decode_table(make_table(files[::-1]), SMALL, cache_dir=tmp_path / "cache", memory_bytes=0)
    assert len(calls) == 4, "the missing file is none"
    assert_same((images[:], facts), expected)


def test_a_damaged_set_is_made_again(tmp_path, files):
    table, folder = make_table(files), tmp_path / "cache"
    first, _ = decode_table(table, SMALL, cache_dir=folder, memory_bytes=0)
    expected = first[:]
    (kept,) = folder.iterdir()
    whole = kept.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:], b""):
        kept.write_bytes(damaged)
        again, _ = decode_table(table, SMALL, cache_dir=folder, memory_bytes=0)
        np.testing.assert_array_equal(again[:], expected)
        assert kept.read_bytes() == whole


def test_a_set_in_use_survives_its_removal(images, tmp_path):
    expected, stored = images
    for path in (tmp_path / "cache").iterdir():
        path.unlink()
    np.testing.assert_array_equal(stored[:], expected)


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, files):
    with tiny_disk(tmp_path / "disk", size_kib=4) as disk:
        with pytest.raises(RunError, match=r"No space left.*FPCLASS_CACHE") as caught:
            decode_table(make_table(files[:4] * 300), SMALL, cache_dir=disk, memory_bytes=0)
        assert "\n" not in str(caught.value)
        assert list(disk.iterdir()) == []


def test_memory_does_not_grow_with_the_pixels(tmp_path, files):
    """Four times as many images: what is allocated at most grows by their facts, not by what they decode to."""
    large = Decoding((150, 150), channels=3)
    peaks = []
    for copies in (8, 32):
        tracemalloc.start()
        images, _ = decode_table(make_table(files[:4] * copies), large, cache_dir=tmp_path, memory_bytes=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert images.nbytes > 8e6
    assert peaks[1] - peaks[0] < 0.15 * (images.nbytes * 3 / 4)


def test_windows_hold_their_rows_in_any_order(images, monkeypatch):
    expected, stored = images
    monkeypatch.setattr(streaming, "WINDOW_BYTES", 1)
    parts = np.array([[5, 0, 5, -1], [10, 3, 2, 1], [-1, -1, -1, -1]], np.int32)
    windows = list(streaming.read_windows(stored, parts, None))
    for part, window in zip(parts, windows, strict=True):
        np.testing.assert_array_equal(window[jnp.asarray(part)], expected[part])
        assert window.shape == (4, *SHAPE[1:])


@pytest.mark.parametrize(("num_batches", "batch_bytes", "expected"), [(1, 1, 1), (7, 2**30, 4), (100, 2**20, 7)])
def test_windows_are_of_two_batches_or_more(num_batches, batch_bytes, expected, monkeypatch):
    monkeypatch.setattr(streaming, "WINDOW_BYTES", 2**24)
    assert streaming.num_parts(num_batches, batch_bytes) == expected


def test_the_budget_is_what_is_said_or_what_the_machine_has():
    assert streaming.memory_for_images(1.5) == 1.5e9
    assert 1e8 < streaming.memory_for_images(0) < 1e12
