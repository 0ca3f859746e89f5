"""Decoding of every pixel format, orientation and number of frames."""

import io
import struct

import numpy as np
import pytest
from encoded_images import COLOURS, GREY, at_full_size, encode, png, png_chunk, small, tiff
from PIL import Image

from fpclass.data import decode
from fpclass.data.decode import decode_bytes
from fpclass.data.resize import RESAMPLING, Decoding
from fpclass.errors import DecodeError


class TestReferencePreprocessing:
    def test_grey_print_equals_pil_resize_then_convert(self):
        ink = np.random.default_rng(0).integers(0, 16, (310, 202)).astype(np.uint8) * 17
        image = Image.fromarray(np.repeat(ink[..., None], 3, axis=-1))
        expected = np.asarray(image.resize((80, 120), Image.Resampling.BICUBIC).convert("L"))
        decoded = decode_bytes(encode(image), Decoding((120, 80), channels=1))
        assert decoded.image.shape == (120, 80, 1)
        assert decoded.image.dtype == np.uint8
        np.testing.assert_array_equal(decoded.image[..., 0], expected)

    def test_coloured_picture_is_resized_before_it_turns_grey(self):
        noise = np.random.default_rng(0).integers(0, 256, (90, 60, 3)).astype(np.uint8)
        image = Image.fromarray(noise)
        resized_first = np.asarray(image.resize((8, 12), Image.Resampling.BICUBIC).convert("L"))
        grey_first = np.asarray(image.convert("L").resize((8, 12), Image.Resampling.BICUBIC))
        decoded = decode_bytes(encode(image), Decoding((12, 8), channels=1))
        np.testing.assert_array_equal(decoded.image[..., 0], resized_first)
        assert (resized_first != grey_first).any()

    @pytest.mark.parametrize("name", RESAMPLING)
    @pytest.mark.parametrize("picture", [COLOURS, GREY], ids=["colour", "grey"])
    def test_interpolation_and_channels(self, name, picture):
        image = Image.fromarray(picture)
        method = getattr(Image.Resampling, name.upper())
        expected = np.asarray(image.resize((5, 7), method).convert("RGB"))
        decoded = decode_bytes(encode(image), Decoding((7, 5), 3, name))
        np.testing.assert_array_equal(decoded.image, expected)

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize(("frame", "inner"), [((12, 20), (12, 8)), ((40, 10), (15, 10)), ((12, 9), (12, 8))])
    def test_padding_keeps_the_aspect_ratio_in_the_middle_of_the_frame(self, frame, inner, channels):
        whole = np.full((*frame, channels), 200, np.uint8)
        top, left = (frame[0] - inner[0]) // 2, (frame[1] - inner[1]) // 2
        stretched = small(encode(COLOURS), image_size=inner, channels=channels)
        whole[top : top + inner[0], left : left + inner[1]] = stretched.image
        options = {"image_size": frame, "channels": channels, "resize": "pad", "pad_value": 200}
        padded = small(encode(COLOURS), **options)
        np.testing.assert_array_equal(padded.image, whole)
        assert padded.facts == stretched.facts  # of the picture, not of what was filled around it

    def test_padding_a_picture_of_the_same_aspect_ratio_adds_nothing(self):
        for picture in (COLOURS, GREY):
            stretched = small(encode(picture), image_size=(12, 8))
            np.testing.assert_array_equal(
                small(encode(picture), image_size=(12, 8), resize="pad").image, stretched.image
            )

    def test_padding_a_line_leaves_a_pixel_of_it(self):
        for shape in ((1, 500), (500, 1)):
            padded = small(encode(np.zeros(shape, np.uint8)), resize="pad").image
            assert sorted(set(padded.ravel().tolist())) == [0, 255]

    def test_facts(self):
        data = encode(GREY)
        decoded = small(data)
        facts = decoded.facts
        assert (facts["num_bytes"], facts["width"], facts["height"]) == (len(data), 16, 24)
        assert (facts["mode"], facts["format"], facts["num_frames"], facts["note"]) == ("L", "PNG", 1, "")
        assert facts["mean"] == pytest.approx(decoded.image.mean())
        assert facts["std"] == pytest.approx(decoded.image.std())
        assert {*facts, "error"} == set(decode.FACT_DTYPES)

    def test_mean_is_that_of_the_grey_also_for_three_channels(self):
        data = encode(COLOURS)
        grey = small(data, channels=1).image
        facts = small(data, channels=3).facts
        assert (facts["mean"], facts["std"]) == (pytest.approx(grey.mean()), pytest.approx(grey.std()))


class TestPixelFormats:
    def test_one_bit(self):
        image = Image.fromarray(GREY > 60)
        assert image.mode == "1"
        for file_format in ("PNG", "TIFF", "BMP"):
            decoded = at_full_size(encode(image, file_format))
            np.testing.assert_array_equal(decoded.image[..., 0], np.where(GREY > 60, 255, 0))

    def test_one_bit_with_transparent_black(self):
        data = png(2, 1, 1, 0, [b"\x40"], png_chunk(b"tRNS", b"\0\0"))  # black, white; black is transparent
        assert at_full_size(data).image.ravel().tolist() == [255, 255]

    def test_palette(self):
        image = Image.fromarray(COLOURS).quantize(16)
        np.testing.assert_array_equal(at_full_size(encode(image), 3).image, np.asarray(image.convert("RGB")))

    def test_palette_is_interpolated_as_colours_not_as_indices(self):
        image = Image.new("P", (8, 8))
        image.putpalette([250, 250, 250, 0, 0, 0, 250, 250, 250])
        image.paste(2, (4, 0, 8, 8))  # 0 and 2 are the same colour, and 1 between them is black
        decoded = decode_bytes(encode(image), Decoding((3, 3), channels=1))
        assert (decoded.image == 250).all()

    @pytest.mark.parametrize("transparency", [1, b"\xff\x00\x80"], ids=["index", "table"])
    def test_palette_with_transparency_is_over_white(self, transparency):
        image = Image.new("P", (3, 1))
        image.putpalette([10, 10, 10, 20, 20, 20, 0, 0, 0])
        image.putdata([0, 1, 2])
        grey = at_full_size(encode(image, transparency=transparency)).image.ravel().tolist()
        assert grey == ([10, 255, 0] if transparency == 1 else [10, 255, 127])

    def test_transparent_gif_is_over_white(self):
        image = Image.new("P", (2, 1))
        image.putpalette([10, 10, 10, 20, 20, 20])
        image.putdata([0, 1])
        assert at_full_size(encode(image, "GIF", transparency=1)).image.ravel().tolist() == [10, 255]

    def test_transparent_grey_of_grey_and_16_bit_png(self):
        data = png(2, 1, 8, 0, [bytes([7, 9])], png_chunk(b"tRNS", struct.pack(">H", 7)))
        assert at_full_size(data).image.ravel().tolist() == [255, 9]
        data = png(2, 1, 16, 0, [struct.pack(">HH", 257, 514)], png_chunk(b"tRNS", struct.pack(">H", 257)))
        assert at_full_size(data).image.ravel().tolist() == [255, 2]

    @pytest.mark.parametrize("mode", ["LA", "RGBA"])
    @pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
    def test_alpha_is_over_white(self, mode, file_format):
        image = Image.new(mode, (2, 1))
        black, half = ((0, 0), (0, 128)) if mode == "LA" else ((0, 0, 0, 0), (0, 0, 0, 128))
        image.putdata([black, half])
        options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
        assert at_full_size(encode(image, file_format, **options)).image.ravel().tolist() == [255, 127]

    def test_premultiplied_alpha(self):
        data = bytearray(encode(Image.new("RGBA", (2, 2), (100, 50, 0, 128)), "TIFF"))
        extra_samples = struct.pack("<HHI", 338, 3, 1)
        assert data.count(extra_samples + b"\2") == 1
        data[data.index(extra_samples) + 8] = 1  # 2: plain alpha, 1: the colours are multiplied by it already
        np.testing.assert_allclose(at_full_size(bytes(data), 3).image[0, 0], [227, 177, 127], atol=2)

    @pytest.mark.parametrize("kind", ["png", "tiff little", "tiff big", "pgm"])
    def test_16_bits_are_scaled_not_clipped(self, kind):
        values = np.array([0, 128, 129, 256, 257, 30000, 65000, 65535])
        big, little = values.astype(">u2").tobytes(), values.astype("<u2").tobytes()
        data = {
            "png": png(8, 1, 16, 0, [big]),
            "tiff little": tiff(8, 1, 16, 1, little),
            "tiff big": tiff(8, 1, 16, 1, big, endian=">"),
            "pgm": b"P5 8 1 65535 " + big,
        }[kind]
        expected = np.rint(values / 257)
        assert at_full_size(data).image.ravel().tolist() == expected.tolist() == [0, 0, 1, 1, 1, 117, 253, 255]

    def test_16_bits_with_white_as_zero(self):
        assert at_full_size(tiff(2, 1, 16, 0, struct.pack("<HH", 0, 65535))).image.ravel().tolist() == [255, 0]

    def test_12_bits_reach_white(self):
        data = tiff(2, 1, 12, 1, bytes([0xFF, 0xF8, 0x00]))  # 4095, 2048
        assert at_full_size(data).image.ravel().tolist() == [255, 128]

    def test_16_bit_rgb(self):
        data = png(2, 1, 16, 2, [struct.pack(">6H", 65535, 0, 30000, 0, 257 * 9, 257 * 200)])
        assert at_full_size(data, 3).image.tolist() == [[[255, 0, 117], [0, 9, 200]]]

    @pytest.mark.parametrize(("scale", "noted"), [(1, "0 to 255"), (255, "0 to 1")])
    def test_float_scale_is_told_by_its_range_and_noted(self, scale, noted):
        decoded = at_full_size(encode(Image.fromarray(GREY.astype(np.float32) / scale), "TIFF"))
        np.testing.assert_array_equal(decoded.image[..., 0], GREY)
        assert noted in decoded.facts["note"]
        assert decoded.facts["mode"] == "F"

    @pytest.mark.parametrize("odd", [-1.0, 256.0, np.nan, np.inf])
    def test_float_of_another_scale_is_refused(self, odd):
        values = np.array([[0.5, odd]], np.float32)
        with pytest.raises(DecodeError, match="floating-point intensities"):
            small(encode(Image.fromarray(values), "TIFF"))

    @pytest.mark.parametrize("odd", [-1, 65536])
    def test_32_bits_beyond_16_are_refused(self, odd):
        with pytest.raises(DecodeError, match=f"{odd}"):
            small(encode(Image.fromarray(np.array([[5, odd]], np.int32)), "TIFF"))

    def test_cmyk_jpeg(self):
        data = encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
        decoded = at_full_size(data, 3)
        assert decoded.facts["mode"] == "CMYK"
        np.testing.assert_allclose(decoded.image[4, 4], [255, 0, 0], atol=3)

    def test_ycck_jpeg(self):
        # Pillow writes CMYK, inverted, and says "no transform" (0) in the Adobe marker; with 2 there, the same numbers
        # are Y, Cb, Cr and K. Luma 100, Cr 180 (52 over neutral) decode to (173, 63, 100), inverted inks.
        data = bytearray(encode(Image.new("CMYK", (8, 8), (155, 127, 75, 0)), "JPEG", quality=100))
        transform = data.index(b"Adobe") + 11
        assert data[transform] == 0
        data[transform] = 2
        np.testing.assert_allclose(at_full_size(bytes(data), 3).image[4, 4], [82, 192, 155], atol=4)

    def test_lab_and_ycbcr(self):
        grey = at_full_size(encode(Image.new("LAB", (4, 4), (128, 128, 128)), "TIFF"), 3)
        assert grey.facts["mode"] == "LAB"
        np.testing.assert_allclose(grey.image[0, 0], [119, 119, 119], atol=3)  # CIE L* 50
        image = Image.new("RGB", (4, 4), (200, 30, 30)).convert("YCbCr")
        red = at_full_size(encode(image, "TIFF", compression="tiff_lzw"), 3)
        np.testing.assert_allclose(red.image[0, 0], [200, 30, 30], atol=3)

    def test_colour_profile_is_ignored(self):
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        plain, tagged = encode(COLOURS), encode(COLOURS, icc_profile=profile)
        assert plain != tagged
        np.testing.assert_array_equal(at_full_size(plain, 3).image, at_full_size(tagged, 3).image)


TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[:, ::-1],
}
"""How a camera stores an upright picture under each orientation tag: the inverse of what a viewer does."""


class TestOrientation:
    @pytest.mark.parametrize("orientation", TURNED)
    @pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP", "JPEG"])
    def test_picture_comes_out_upright(self, orientation, file_format):
        stored = np.ascontiguousarray(TURNED[orientation](COLOURS))
        exif = Image.Exif()
        exif[274] = orientation
        options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(file_format, {})
        data = encode(stored, file_format, exif=exif, **options)
        decoded = decode_bytes(data, Decoding(COLOURS.shape[:2], channels=3))
        assert (decoded.facts["height"], decoded.facts["width"]) == COLOURS.shape[:2]
        np.testing.assert_allclose(decoded.image.astype(int), COLOURS, atol=3 if file_format == "JPEG" else 0)
        assert decoded.facts["note"].endswith(f"tag {orientation}" if orientation > 1 else "")
        assert bool(decoded.facts["note"]) == (orientation > 1)

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_undefined_orientation_is_ignored(self, orientation):
        exif = Image.Exif()
        exif[274] = orientation
        decoded = at_full_size(encode(COLOURS, exif=exif), 3)
        np.testing.assert_array_equal(decoded.image, COLOURS)
        assert decoded.facts["note"] == ""

    @pytest.mark.parametrize("exif", [b"Exif\0\0II*\0", b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"\0"])
    @pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
    def test_damaged_exif_does_not_matter(self, exif, file_format):
        plain, damaged = small(encode(COLOURS, file_format)), small(encode(COLOURS, file_format, exif=exif))
        assert damaged.facts["pixel_sha256"] == plain.facts["pixel_sha256"]
        assert damaged.facts["num_bytes"] > plain.facts["num_bytes"]

    def test_exif_that_pillow_warns_about_still_counts(self):
        # Two entries are promised, and the file ends in the second.
        entry = struct.pack(">HHIHH", 274, 3, 1, 3, 0)
        exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + entry + b"\0"
        data = encode(COLOURS[::-1, ::-1].copy(), exif=exif)
        with pytest.warns(UserWarning, match="Corrupt EXIF"), Image.open(io.BytesIO(data)) as image:
            image.getexif().get(274)
        np.testing.assert_array_equal(at_full_size(data, 3).image, COLOURS)


class TestFrames:
    @pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
    def test_first_of_several_and_noted(self, file_format):
        first, *others = (Image.new("RGB", (6, 5), colour) for colour in ("red", "lime", "blue"))
        options = {"lossless": True} if file_format == "WEBP" else {}
        decoded = at_full_size(encode(first, file_format, save_all=True, append_images=others, **options), 3)
        assert (decoded.image == (255, 0, 0)).all()
        assert decoded.facts["num_frames"] == 3
        assert decoded.facts["note"] == "first of 3 frames"


class TestPixelHash:
    def hashed(self, data):
        return small(data).facts["pixel_sha256"]

    def test_one_picture_saved_in_many_ways(self):
        grey = Image.fromarray(GREY)
        exif = Image.Exif()
        exif[270] = "a description"
        upside_down = Image.Exif()
        upside_down[274] = 3
        files = [
            encode(grey),
            encode(grey.convert("RGB")),
            encode(grey.convert("RGBA")),
            encode(grey.convert("LA")),
            encode(grey.convert("P")),
            encode(grey, "BMP"),
            encode(grey, "GIF"),
            encode(grey.convert("RGB"), "TIFF"),
            encode(grey, exif=exif, compress_level=0),
            encode(GREY.astype(np.uint16) * 257),
            encode(GREY[::-1, ::-1].copy(), exif=upside_down),
        ]
        assert len({self.hashed(file) for file in files}) == 1
        assert len({small(file).facts["sha256"] for file in files}) == len(files)

    def test_coloured_picture(self):
        image = Image.fromarray(COLOURS)
        few = image.quantize(64)
        assert self.hashed(encode(image)) == self.hashed(encode(image, "BMP"))
        assert self.hashed(encode(few)) == self.hashed(encode(few.convert("RGB"), "TIFF"))

    def test_other_pictures_differ(self):
        one_pixel = GREY.copy()
        one_pixel[-1, -1] ^= 1
        one_channel = np.repeat(GREY[..., None], 3, axis=-1)
        one_channel[0, 0, 2] ^= 1
        pictures = [GREY, one_pixel, one_channel, COLOURS, GREY.reshape(16, 24), GREY[::-1].copy()]
        assert len({self.hashed(encode(picture)) for picture in pictures}) == len(pictures)
