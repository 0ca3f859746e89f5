"""Decoding of a whole table: order, what goes wrong, threads, and the cache."""

import dataclasses
import os
import resource
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from encoded_images import COLOURS, GREY, encode, small

from fpclass.common.threads import num_cores
from fpclass.data import cache, decode
from fpclass.data.decode import FACT_DTYPES, decode_table
from fpclass.data.resize import Decoding
from fpclass.data.table import Table, make_rows

SMALL = Decoding((6, 4), channels=1)


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (9, 7)).astype(np.uint8)


def make_table(paths):
    names = [str(path) for path in paths]
    rows = make_rows([f"row {n}" for n in range(len(names))], names, [""] * len(names), ("0", "1"))
    return Table(rows, ("0", "1"), ("0", "1"), read=lambda row: Path(names[row]).read_bytes(), source="test")


@pytest.fixture
def files(tmp_path):
    """Eight distinct images on disk."""
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [folder / f"{n}.png" for n in range(8)]
    for n, path in enumerate(paths):
        path.write_bytes(encode(noise(n)))
    return paths


@pytest.fixture
def decoded(monkeypatch):
    """The bytes of every file that is decoded from here on, in any order."""
    calls = []
    original = decode.decode_bytes

    def counted(data, decoding):
        calls.append(data)
        return original(data, decoding)

    monkeypatch.setattr(decode, "decode_bytes", counted)
    return calls


def assert_same(one, other):
    np.testing.assert_array_equal(one[0], other[0])
    pd.testing.assert_frame_equal(one[1], other[1])


class TestTable:
    def test_rows_keep_their_order_and_their_facts(self, files):
        table = make_table(files[::-1])
        images, facts = decode_table(table, SMALL, cache_dir=None)
        assert images.shape == (8, 6, 4, 1)
        assert images.dtype == np.uint8
        assert list(facts.columns) == list(FACT_DTYPES)
        assert facts.dtypes.to_dict() == {name: np.dtype(kind) for name, kind in FACT_DTYPES.items()}
        for n, path in enumerate(files[::-1]):
            expected = small(path.read_bytes())
            np.testing.assert_array_equal(images[n], expected.image)
            assert facts.loc[n].to_dict() == expected.facts | {"error": ""}

    def test_what_cannot_be_decoded_is_listed_and_the_rest_goes_on(self, tmp_path, files):
        html, folder = tmp_path / "page.png", tmp_path / "folder.png"
        html.write_bytes(b"<html>")
        folder.mkdir()
        files[1].write_bytes(b"")
        jpeg = files[2].with_suffix(".bmp")  # content decides, not the extension
        jpeg.write_bytes(encode(COLOURS, "JPEG"))
        images, facts = decode_table(make_table([html, folder, "", files[1], "gone", jpeg]), SMALL, cache_dir=None)
        reasons = facts["error"].tolist()
        assert "not an image" in reasons[0]
        assert reasons[1] == "cannot be read: Is a directory"
        assert reasons[2] == "missing file"
        assert reasons[3] == "empty file"
        assert reasons[4] == "cannot be read: No such file or directory"
        assert reasons[5] == ""
        assert (images[:5] == 0).all()
        assert facts["format"].tolist() == [""] * 5 + ["JPEG"]
        assert facts["num_bytes"].tolist()[:5] == [6, 0, 0, 0, 0]
        assert [bool(digest) for digest in facts["sha256"]] == [True, False, False, True, False, True]
        assert facts["mean"].isna().tolist() == [True] * 5 + [False]
        assert facts["width"].tolist() == [0] * 5 + [16]

    def test_no_rows(self, tmp_path):
        for cache_dir in (None, tmp_path):
            images, facts = decode_table(make_table([]), SMALL, cache_dir=cache_dir)
            assert images.shape == (0, 6, 4, 1)
            assert list(facts.columns) == list(FACT_DTYPES)
            assert len(facts) == 0

    def test_more_rows_than_one_stretch(self, files):
        images, facts = decode_table(make_table(files * 160), SMALL, cache_dir=None)
        np.testing.assert_array_equal(images.reshape(160, 8, 6, 4, 1), np.broadcast_to(images[:8], (160, 8, 6, 4, 1)))
        assert facts["sha256"].tolist() == facts["sha256"].tolist()[:8] * 160

    def test_progress_sees_every_row(self, files):
        seen = []

        def progress(rows, total):
            assert total == 8
            for row in rows:
                seen.append(row)
                yield row

        with_bar = decode_table(make_table(files), SMALL, cache_dir=None, progress=progress)
        assert len(seen) == 8
        assert_same(with_bar, decode_table(make_table(files), SMALL, cache_dir=None))

    @pytest.mark.parametrize("num_threads", [None, 3])
    def test_all_cores_work_at_once(self, files, num_threads):
        together = threading.Barrier(num_threads or num_cores(), timeout=20)

        def read(_):
            together.wait()  # breaks if fewer threads than that come here
            return encode(GREY)

        table = dataclasses.replace(make_table(files * num_cores() * 3), read=read)
        assert (decode_table(table, SMALL, cache_dir=None, num_threads=num_threads)[1]["error"] == "").all()


class TestCache:
    def test_second_run_decodes_nothing_and_is_the_same(self, tmp_path, files, decoded):
        files[3].write_bytes(b"no image")
        table = make_table([*files, "", "gone"])
        first = decode_table(table, SMALL, cache_dir=tmp_path / "cache")
        decoded.clear()
        second = decode_table(table, SMALL, cache_dir=tmp_path / "cache", progress=lambda *_: pytest.fail("no hit"))
        assert decoded == []
        assert_same(first, second)
        assert second[1]["error"].tolist()[3:] != [""] * 7
        second[0][:] = 0  # may be written to, like the first

    def test_without_a_cache_nothing_is_kept(self, tmp_path, files, decoded):
        decode_table(make_table(files), SMALL, cache_dir=None)
        decode_table(make_table(files), SMALL, cache_dir=None)
        assert len(decoded) == 16
        assert [path.name for path in tmp_path.iterdir()] == ["images"]

    def test_content_counts_not_name_or_time(self, tmp_path, files, decoded):
        decode_table(make_table(files), SMALL, cache_dir=tmp_path / "cache")
        decoded.clear()
        moved = [path.rename(path.with_name(f"moved {path.name}")) for path in files]
        decode_table(make_table(moved), SMALL, cache_dir=tmp_path / "cache")
        assert decoded == []
        status = moved[0].stat()
        changed = encode(255 - noise(0))
        moved[0].write_bytes(changed)
        os.utime(moved[0], ns=(status.st_atime_ns, status.st_mtime_ns))
        images, _ = decode_table(make_table(moved), SMALL, cache_dir=tmp_path / "cache")
        assert decoded == [changed]
        np.testing.assert_array_equal(images[0], small(changed).image)

    def test_only_new_files_are_decoded(self, tmp_path, files, decoded):
        decode_table(make_table(files[:5]), SMALL, cache_dir=tmp_path / "cache")
        decoded.clear()
        table = make_table(["", *files[::-1]])
        mixed = decode_table(table, SMALL, cache_dir=tmp_path / "cache")
        assert sorted(decoded) == sorted(path.read_bytes() for path in files[5:])
        assert_same(mixed, decode_table(table, SMALL, cache_dir=None))

    @pytest.mark.parametrize(
        "change",
        [
            {"image_size": (4, 6)},
            {"channels": 3},
            {"interpolation": "nearest"},
            {"resize": "pad"},
            "version",
            "pillow",
        ],
        ids=str,
    )
    def test_other_settings_are_another_set(self, tmp_path, files, decoded, change, monkeypatch):
        decode_table(make_table(files), SMALL, cache_dir=tmp_path / "cache")
        decoded.clear()
        if change == "version":
            monkeypatch.setattr(decode, "VERSION", decode.VERSION + 1)
        if change == "pillow":
            monkeypatch.setattr(decode.PIL, "__version__", "99.0")
        decoding = dataclasses.replace(SMALL, **change if isinstance(change, dict) else {})
        images, _ = decode_table(make_table(files), decoding, cache_dir=tmp_path / "cache")
        assert len(decoded) == 8
        assert images.shape[1:] == decoding.shape

    def test_what_is_filled_is_a_setting_only_where_something_is(self, tmp_path, files, decoded):
        def filled_with(resize, pad_value):
            decoded.clear()
            decoding = dataclasses.replace(SMALL, resize=resize, pad_value=pad_value)
            images, _ = decode_table(make_table(files), decoding, cache_dir=tmp_path / "cache")
            return len(decoded), int(images[0, -1, 0, 0])

        assert filled_with("pad", 1) == (8, 1)
        assert filled_with("pad", 2) == (8, 2)
        assert filled_with("pad", 1) == (0, 1)
        assert filled_with("stretch", 1)[0] == 8
        assert filled_with("stretch", 2)[0] == 0

    def test_a_damaged_set_is_made_again(self, tmp_path, files, decoded):
        folder = tmp_path / "cache"
        table = make_table(files)
        first = decode_table(table, SMALL, cache_dir=folder)
        (kept,) = folder.iterdir()
        whole = kept.read_bytes()
        flipped = [
            whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]
            for place in np.linspace(0, len(whole) - 1, 25).astype(int)
        ]
        for damaged in [*flipped, b"", whole[:-1], whole[: len(whole) // 2], whole[:3], whole + b"0"]:
            kept.write_bytes(damaged)
            decoded.clear()
            assert_same(decode_table(table, SMALL, cache_dir=folder), first)
            assert len(decoded) == 8
            assert kept.read_bytes() == whole

    def test_a_set_that_decodes_to_other_files_than_its_name_says_is_not_used(self, tmp_path, files, decoded):
        folder = tmp_path / "cache"
        decode_table(make_table(files[:4]), SMALL, cache_dir=folder)
        (first,) = folder.iterdir()
        expected = decode_table(make_table(files[4:]), SMALL, cache_dir=folder)
        (second,) = set(folder.iterdir()) - {first}
        os.replace(first, second)
        assert_same(decode_table(make_table(files[4:]), SMALL, cache_dir=folder), expected)

    def test_a_file_that_changes_meanwhile_is_not_taken_for_what_it_was(self, tmp_path):
        before, after = encode(noise(1)), encode(noise(2))
        reads = iter([before, after])
        table = dataclasses.replace(make_table(["a"]), read=lambda _: next(reads))
        decode_table(table, SMALL, cache_dir=tmp_path)
        for content in (before, after, before):
            table = dataclasses.replace(table, read=lambda _, content=content: content)
            images, _ = decode_table(table, SMALL, cache_dir=tmp_path)
            np.testing.assert_array_equal(images[0], small(content).image)

    def test_a_folder_that_cannot_be_used_is_no_error(self, files):
        expected = decode_table(make_table(files), SMALL, cache_dir=None)
        assert_same(decode_table(make_table(files), SMALL, cache_dir=files[0] / "below a file"), expected)
        assert_same(decode_table(make_table(files), SMALL, cache_dir=files[0]), expected)

    def test_a_folder_that_cannot_be_written_to_is_said_once(self, tmp_path, files, capsys):
        (tmp_path / "cache").write_text("a file")
        for _ in range(2):
            decode_table(make_table(files), SMALL, cache_dir=tmp_path / "cache")
        assert capsys.readouterr().err.count("the next command computes the same of these images again") == 1

    def test_a_full_disk_is_no_error_and_leaves_nothing(self, tmp_path, files):
        folder = tmp_path / "cache"
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # bytes that a file may grow to
        try:
            result = decode_table(make_table(files), SMALL, cache_dir=folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert list(folder.iterdir()) == []
        assert_same(result, decode_table(make_table(files), SMALL, cache_dir=None))

    def test_an_interruption_leaves_nothing(self, tmp_path, files, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(cache, "_checksum", interrupt)
        with pytest.raises(KeyboardInterrupt):
            decode_table(make_table(files), SMALL, cache_dir=tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []

    def test_sets_not_used_for_longest_go_first_and_foreign_files_stay(self, tmp_path, files, decoded, monkeypatch):
        folder = tmp_path / "cache"
        folder.mkdir()
        foreign = folder / "results.csv"
        foreign.write_bytes(bytes(100_000))

        def use(n, seconds):
            decode_table(make_table([files[n]]), SMALL, cache_dir=folder)
            for path in set(folder.glob("set-*")) - set(times):
                times[path] = None
            newest = max(times, key=lambda path: path.stat().st_mtime_ns if path.exists() else 0)
            os.utime(newest, (seconds, seconds))
            return newest

        times = {}
        past = time.time() - 1000
        first, second = use(0, past), use(1, past + 1)
        use(0, past + 2)  # a hit counts as use
        size = first.stat().st_size
        monkeypatch.setattr(cache, "LIMIT_BYTES", int(2.5 * size))
        third = use(2, past + 3)
        assert (first.exists(), second.exists(), third.exists()) == (True, False, True)
        monkeypatch.setattr(cache, "LIMIT_BYTES", 0)
        fourth = use(3, past + 4)
        assert set(folder.iterdir()) == {foreign, fourth}

    def test_what_a_killed_process_left_is_removed_an_hour_later(self, tmp_path, files):
        old, young = (
            tmp_path / ".set-0-1.cache.4194399.tmp.cache",
            tmp_path / ".set-0-2.cache.4194399.tmp.cache",
        )
        old.write_bytes(b"")
        young.write_bytes(b"")
        os.utime(old, (time.time() - 4_000,) * 2)
        decode_table(make_table(files), SMALL, cache_dir=tmp_path)
        assert not old.exists()
        assert young.exists()
