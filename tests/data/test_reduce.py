"""Large JPEGs decoded at a reduced size: what comes out is what full decoding gives, within what is promised."""

import io

import numpy as np
import pytest
from PIL import Image

from fpclass.data import resize
from fpclass.data.decode import decode_bytes, open_picture
from fpclass.data.resize import Decoding, reduce_jpeg
from fpclass.errors import DecodeError

MEAN_ERROR, LARGEST_ERROR = 0.5, 10
"""Grey levels, of 255, that docs/streaming.md promises."""


def photograph(width, height, orientation=1, kind="JPEG", quality=90):
    """Coloured noise at several scales, with edges, so that every shift shows."""
    rng = np.random.default_rng(0)
    total = np.zeros((height, width, 3))
    for side in (3, 12, 40):
        noise = Image.fromarray(rng.integers(0, 256, (side, side, 3)).astype(np.uint8))
        total += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), float) / 3
    total[height // 3 : height // 2, width // 5 : width // 2] = (250, 30, 10)
    exif = Image.Exif()
    exif[274] = orientation
    stream = io.BytesIO()
    Image.fromarray(total.astype(np.uint8)).save(stream, kind, quality=quality, exif=exif)
    return stream.getvalue()


def both_ways(data, monkeypatch, **options):
    """The image by reduced and by full decoding."""
    decoding = Decoding(**{"image_size": (40, 60), "channels": 3} | options)
    reduced = decode_bytes(data, decoding)
    with monkeypatch.context() as patch:
        patch.setattr(resize, "REDUCING_GAP", 10**6)
        full = decode_bytes(data, decoding)
    return reduced, full


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("fit", "crop"), [("stretch", "none"), ("pad", "none"), ("stretch", "centre")])
def test_every_orientation_is_aligned(orientation, fit, crop, monkeypatch):
    """Sides that no reduced size divides: the last pixels of the reduced picture reach over its border."""
    reduced, full = both_ways(photograph(849, 763, orientation), monkeypatch, resize=fit, crop=crop)
    difference = np.abs(reduced.image.astype(int) - full.image.astype(int))
    assert 0 < difference.max() <= LARGEST_ERROR, "nothing was reduced, or it is shifted"
    assert difference.mean() <= MEAN_ERROR
    for fact in ("width", "height", "note", "mode", "format", "sha256"):
        assert reduced.facts[fact] == full.facts[fact]
    assert abs(reduced.facts["mean"] - full.facts["mean"]) < 0.5
    assert sorted((reduced.facts["width"], reduced.facts["height"])) == [763, 849]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("quality", [60, 95])
def test_the_error_is_as_promised(channels, interpolation, quality, monkeypatch):
    data = photograph(1601, 1203, quality=quality)
    reduced, full = both_ways(data, monkeypatch, channels=channels, interpolation=interpolation, image_size=(64, 64))
    difference = np.abs(reduced.image.astype(int) - full.image.astype(int))
    assert 0 < difference.max() <= LARGEST_ERROR
    assert difference.mean() <= MEAN_ERROR


def test_small_ones_and_other_formats_are_decoded_whole(monkeypatch):
    for data in (photograph(239, 179), photograph(849, 763, kind="PNG")):
        reduced, full = both_ways(data, monkeypatch, image_size=(60, 60))
        np.testing.assert_array_equal(reduced.image, full.image)
        assert reduced.facts == full.facts


def test_what_is_wanted_at_full_size_is_whole():
    picture, _ = open_picture(photograph(849, 763))
    assert picture.size == (849, 763)


def test_it_does_reduce():
    image = Image.open(io.BytesIO(photograph(849, 763)))
    assert reduce_jpeg(image, (60, 60)) == (0, 0, 849 / 4, 763 / 4)
    assert image.size == (213, 191)


def test_a_truncated_file_is_found_out():
    data = photograph(849, 763)
    with pytest.raises(DecodeError, match="truncated"):
        decode_bytes(data[: len(data) * 3 // 4], Decoding((40, 60), channels=3))
