"""Cropping to the foreground and equalising, in decoding, so that training and prediction do the same."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fpclass.data import decode
from fpclass.data.decode import decode_bytes, decode_table
from fpclass.data.foreground import foreground_box
from fpclass.data.resize import CENTRE, Decoding, centre_of, equalised, resize_picture
from fpclass.data.table import Table, make_rows


def picture(height=200, width=150, *, paper=255, ink=20, box=(60, 30, 140, 90), frame=0, noise=0):
    """A filled ellipse on paper, in a box of (top, left, bottom, right), perhaps with black bars along the sides."""
    y, x = np.mgrid[:height, :width]
    top, left, bottom, right = box
    ellipse = ((y + 0.5 - (top + bottom) / 2) / (bottom - top)) ** 2 + (
        (x + 0.5 - (left + right) / 2) / (right - left)
    ) ** 2 < 0.25
    grey = np.where(ellipse, ink, paper) + np.random.default_rng(0).integers(-noise, noise + 1, (height, width))
    if frame:
        grey[:, width - frame :] = grey[height - frame :] = grey[:, 3 : 3 + frame] = 255 - paper
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))


def encoded(image, **options):
    stream = io.BytesIO()
    image.save(stream, **({"format": "PNG"} | options))
    return stream.getvalue()


@pytest.mark.parametrize(
    "options",
    [{}, {"paper": 10, "ink": 240}, {"ink": 215}, {"frame": 5}, {"noise": 6}, {"paper": 200, "ink": 90, "noise": 5}],
    ids=str,
)
def test_the_box_is_what_is_on_the_paper_with_a_margin(options):
    found = foreground_box(picture(**options))
    assert found == pytest.approx((30 - 4, 60 - 4, 90 + 4, 140 + 4), abs=1.5)


@pytest.mark.parametrize("factor", [1, 3, 10])
def test_the_box_does_not_depend_on_the_resolution(factor):
    one = picture(200 * factor, 150 * factor, box=tuple(factor * side for side in (60, 30, 140, 90)))
    assert np.array(foreground_box(one)) / factor == pytest.approx((26, 56, 94, 144), abs=2)


def test_parts_stay_together_and_dust_is_left_out():
    foot = np.array(picture())
    foot[40:46, 50:56] = 30  # a toe
    foot[190:192, 140:142] = 0  # dust
    assert foreground_box(Image.fromarray(foot)) == pytest.approx((25, 35, 95, 145), abs=1.5)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_nothing_to_crop_to(value):
    assert foreground_box(Image.new("L", (50, 40), value)) is None
    assert foreground_box(Image.new("L", (1, 1), value)) is None
    assert foreground_box(picture(box=(0, 0, 200, 150))) is None
    stripe = Image.new("L", (3000, 2), 255)
    stripe.paste(value, (1000, 0, 2000, 2))
    foreground_box(stripe)  # any size does


@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_an_image_is_cropped_before_it_is_resized(resize):
    whole, small = picture(), Decoding((40, 30), 1, resize=resize, crop="foreground")
    image, content = resize_picture(whole, small)
    expected, _ = resize_picture(whole.crop((26, 56, 94, 144)), Decoding((40, 30), 1, resize=resize))
    assert np.abs(image.astype(int) - expected).mean() < 3
    assert np.mean(image < 128) > 2 * np.mean(resize_picture(whole, Decoding((40, 30), 1))[0] < 128)
    assert content.size == ((30, 40) if resize == "stretch" else (30, 39))


@pytest.mark.parametrize("size", [(200, 150), (1, 1), (1, 900), (3, 2)])
def test_the_middle_is_as_large_a_part_of_every_picture(size):
    height, width = size
    left, upper, right, lower = centre_of((0.0, 0.0, width, height))
    assert (left + right, upper + lower) == pytest.approx((width, height))
    assert right - left == pytest.approx(max(1, CENTRE * width))
    assert lower - upper == pytest.approx(max(1, CENTRE * height))


@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_the_middle_is_what_a_crop_by_hand_gives(resize):
    whole = picture(200, 100, noise=40)
    image, content = resize_picture(whole, Decoding((40, 30), 1, resize=resize, crop="centre"))
    by_hand = whole.crop((17, 35, 83, 165))  # 17.5 to 82.5 and 35 to 165
    expected, _ = resize_picture(by_hand, Decoding((40, 30), 1, resize=resize))
    assert np.abs(image.astype(int) - expected).mean() < 5
    assert np.abs(image.astype(int) - resize_picture(whole, Decoding((40, 30), 1, resize=resize))[0]).mean() > 20
    assert content.size == ((30, 40) if resize == "stretch" else (20, 40))


def test_large_jpegs_are_cropped_at_their_full_size():
    """Decoded at an eighth, the stripes on a small print would be of one pixel, and gone."""
    large = np.array(picture(2400, 1800, box=(800, 700, 1050, 900)))
    striped = np.where((np.arange(2400)[:, None] // 8 % 2 == 0) & (large < 128), 120, large).astype(np.uint8)
    small = Decoding((100, 80), 1, crop="foreground")
    decoded = decode_bytes(encoded(Image.fromarray(striped), format="JPEG", quality=95), small)
    expected, _ = resize_picture(Image.fromarray(striped), small)
    assert np.ptp(expected[40:60, 40, 0].astype(int)) > 60, "stripes"
    assert np.abs(decoded.image.astype(int) - expected).mean() < 3
    assert decoded.facts["width"] == 1800


@pytest.mark.parametrize("how", ["histogram", "clahe"])
def test_equalising_spreads_faint_and_heavy_prints_alike(how):
    y, x = np.mgrid[:64, :64]
    texture = np.sin(x / 2) * np.sin(y / 3)
    faint, heavy = (
        Image.fromarray((level + spread * texture).astype(np.uint8)) for level, spread in ((200, 8), (90, 60))
    )
    one, other = (np.asarray(equalised(image, how), float) for image in (faint, heavy))
    assert np.ptp(np.asarray(faint)) < 20 < 150 < np.ptp(one)
    assert np.abs(one - other).mean() < 25 < np.abs(np.asarray(faint, float) - np.asarray(heavy, float)).mean()
    flat = Image.new("L", (9, 9), 77)
    assert np.ptp(np.asarray(equalised(flat, how))) == 0


@pytest.mark.parametrize("how", ["histogram", "clahe"])
def test_equalising_keeps_colours_and_padding(how):
    red = Image.merge("RGB", [picture(40, 30, box=(5, 5, 35, 25)), *[Image.new("L", (30, 40), 60)] * 2])
    plain, _ = resize_picture(red, Decoding((40, 40), 3, resize="pad"))
    image, content = resize_picture(red, Decoding((40, 40), 3, resize="pad", equalise=how))
    assert (image[:, :5] == 255).all()
    assert (image[:, 35:] == 255).all()
    assert not np.array_equal(image, plain)
    np.testing.assert_array_equal(np.asarray(content), np.asarray(red)), "facts are of what was there"
    red_of, green_of, blue_of = image[2:6, 6:9].reshape(-1, 3).T.astype(int)
    assert (red_of > green_of + 50).all()
    assert np.abs(green_of - blue_of).max() <= 3


def test_off_by_default_and_the_cache_knows(tmp_path):
    data = [encoded(picture(box=(20, 20, 90, 70))), encoded(picture())]
    table = Table(
        make_rows(["a", "b"], ["a", "b"], ["0", "1"], ("0", "1")), ("0", "1"), ("0", "1"), data.__getitem__, ""
    )
    kinds = [Decoding((40, 30), 1), Decoding((40, 30), 1, crop="foreground"), Decoding((40, 30), 1, equalise="clahe")]
    first = [np.array(decode_table(table, kind, cache_dir=tmp_path)[0]) for kind in kinds]
    again = [np.array(decode_table(table, kind, cache_dir=tmp_path)[0]) for kind in kinds]
    for k, images in enumerate(first):
        np.testing.assert_array_equal(images, again[k])
        assert not any(np.array_equal(images, other) for other in first[k + 1 :])
    assert decode._cache_settings(kinds[0]).endswith("(40, 30, 1) bicubic"), "sets that were kept before are found"


def test_facts_do_not_change():
    """Copies and blank images are found in what was there, whatever a model sees of it."""
    data = encoded(picture(noise=3))
    plain, prepared = (
        decode_bytes(data, Decoding((40, 30), 1, crop=crop, equalise=how)).facts
        for crop, how in (("none", "none"), ("none", "clahe"))
    )
    assert plain == prepared
    cropped = decode_bytes(data, Decoding((40, 30), 1, crop="foreground")).facts
    differ = {key for key, value in plain.items() if cropped[key] != value}
    assert differ == {"mean", "std"}, "of the resized picture"
