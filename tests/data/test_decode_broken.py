"""Decoding of broken and hostile files, and what must not leak out of it."""

import contextlib
import struct
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from encoded_images import COLOURS, encode, png, small, tiff
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fpclass.data import decode
from fpclass.data.decode import MAX_PIXELS
from fpclass.errors import DecodeError


class TestBrokenFiles:
    @pytest.mark.parametrize(
        ("file_format", "options"),
        [
            ("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("GIF", {}), ("BMP", {}), ("PPM", {}),
            ("WEBP", {}), ("TIFF", {}), ("PCX", {}), ("SGI", {}),
        ],
    )  # fmt: skip
    def test_a_truncated_file_is_an_error_never_half_an_image(self, file_format, options):
        data = encode(COLOURS, file_format, **options)
        whole = small(data).facts["pixel_sha256"]
        for length in range(len(data)):
            try:
                decoded = small(data[:length])
            except DecodeError:
                continue
            # Only what stands behind the last pixel may be missing.
            assert decoded.facts["pixel_sha256"] == whole, f"{length} of {len(data)} bytes"
            assert length >= len(data) - 24

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "empty file"),
            (b"\0" * 1000, "not an image"),
            (b"<!DOCTYPE html><html><body>404</body></html>", "not an image.*DOCTYPE"),
            (b"filename,ID,SEX\nimg_0000,1,0.0\n", "not an image"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),
            (encode(COLOURS, "JPEG")[:200], "truncated"),
            (encode(COLOURS)[:20], "."),
            (png(0, 5, 8, 0, [b""] * 5), "."),
        ],
        ids=["empty", "zeros", "html", "csv", "eps", "half a jpeg", "half a header", "zero width"],
    )
    def test_reason_is_one_short_line(self, data, reason):
        with pytest.raises(DecodeError, match=reason) as caught:
            small(data)
        assert "\n" not in str(caught.value)
        assert "0x" not in str(caught.value)  # no addresses of objects: the same file gives the same reason
        assert len(str(caught.value)) < 160

    @pytest.mark.parametrize("side", [12_300, 14_000, 60_000])
    def test_absurd_sizes_are_refused_before_decoding(self, side):
        assert side**2 > MAX_PIXELS
        with pytest.raises(DecodeError, match=f"{MAX_PIXELS:,}"):
            small(png(side, side, 8, 2, [b""]))

    def test_a_size_that_pillow_warns_about_is_no_warning(self):
        # 100 million pixels: fewer than the limit, more than Pillow takes silently. The file just ends too soon.
        with pytest.raises(DecodeError, match="truncated: image file is truncated"):
            small(png(10_000, 10_000, 8, 0, [b""]))

    def test_a_damaged_image_is_an_error(self):
        data = bytearray(encode(np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)))
        data[len(data) // 2] ^= 1
        with pytest.raises(DecodeError):
            small(bytes(data))

    def test_a_lack_of_memory_is_an_error_of_that_image(self, monkeypatch):
        monkeypatch.setattr(Image.Image, "resize", lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(DecodeError, match="memory"):
            small(encode(COLOURS))

    def test_nothing_is_printed_or_logged(self, capfd, caplog):
        jpeg, samples_per_pixel = encode(COLOURS, "JPEG"), struct.pack("<HHI", 277, 4, 1)
        too_many_samples = tiff(2, 1, 8, 1, b"ab").replace(samples_per_pixel + b"\1", samples_per_pixel + b"\x63")
        for data in (jpeg[:-40] + b"\xff\xd9", jpeg[:300], encode(COLOURS, "TIFF")[:-50], too_many_samples):
            with contextlib.suppress(DecodeError):
                small(data)
        assert capfd.readouterr() == ("", "")
        assert caplog.records == []

    @given(st.binary(max_size=300))
    @settings(deadline=None, max_examples=100)
    def test_random_bytes(self, data):
        with pytest.raises(DecodeError):
            small(data)

    @given(
        st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "PPM"]),
        st.lists(st.tuples(st.floats(0, 0.999), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6),
        st.booleans(),
    )
    @settings(deadline=None, max_examples=300)
    def test_mutated_images_decode_or_raise_decode_error(self, file_format, changes, is_inserted):
        data = encode(COLOURS, file_format)
        for place, replacement in changes:
            start = int(place * len(data))
            data = data[:start] + replacement + data[start + (0 if is_inserted else len(replacement)) :]
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(DecodeError):
            patch.setattr(decode, "MAX_PIXELS", 1_000_000)  # a width of millions is honoured, which takes seconds
            decoded = small(data)
            assert decoded.image.shape == (6, 4, 1)
            assert np.isfinite(decoded.facts["mean"])


class TestThreads:
    def test_warnings_are_as_before_after_overlapping_decodes(self):
        before = list(warnings.filters)
        data = encode(COLOURS)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: small(data), range(200)))
        assert list(warnings.filters) == before
        with pytest.raises(UserWarning, match="mine"):
            warnings.warn("mine", UserWarning, stacklevel=1)

    def test_warnings_are_as_before_after_a_failure(self):
        with pytest.raises(DecodeError):
            small(b"x")
        with pytest.raises(UserWarning, match="mine"):
            warnings.warn("mine", UserWarning, stacklevel=1)

    def test_the_first_to_end_does_not_unmute_the_others(self):
        with decode._quiet:  # as another thread would that is still decoding
            small(encode(COLOURS))
            warnings.warn("of another thread", UserWarning, stacklevel=1)  # would be raised

    def test_large_images_are_decoded_one_at_a_time(self, monkeypatch):
        monkeypatch.setattr(decode, "LARGE_PIXELS", 10)
        done = threading.Event()

        def work():
            small(encode(COLOURS))
            done.set()

        with decode._one_large_image:
            thread = threading.Thread(target=work)
            thread.start()
            assert not done.wait(0.2)
        assert done.wait(10)
        thread.join()
