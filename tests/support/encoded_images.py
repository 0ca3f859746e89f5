"""Encoded images for the tests of decoding, some of kinds that Pillow does not write."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from fpclass.data.decode import decode_bytes
from fpclass.data.resize import Decoding


def smooth_colours(height=24, width=16):
    """A picture without symmetry, in which no two rows, columns or channels are equal."""
    y, x = np.mgrid[:height, :width]
    return np.stack([5 * x + 3 * y, 200 - 4 * x - y, 40 + 6 * y + 2 * x], axis=-1).clip(0, 255).astype(np.uint8)


COLOURS = smooth_colours()
GREY = COLOURS[..., 0]


def encode(picture, file_format="PNG", **options):
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def at_full_size(data, channels=1, interpolation="bicubic"):
    """Decodes without changing the size, so that pixels can be compared one by one."""
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
    return decode_bytes(data, Decoding((height, width), channels, interpolation))


def small(data, **options):
    return decode_bytes(data, Decoding(**{"image_size": (6, 4), "channels": 1} | options))


def png_chunk(kind, content):
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def png(width, height, bit_depth, colour_type, rows, *chunks):
    """A PNG by hand; `rows` are packed bytes, the filter type not among them."""
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    content = [png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(content)


def tiff(width, height, bits, photometric, pixels, endian="<"):
    """An uncompressed grey TIFF by hand; photometric 0: white is zero, 1: black is zero."""
    tags = [
        (256, width), (257, height), (258, bits), (259, 1), (262, photometric),
        (273, 8 + 2 + 9 * 12 + 4), (277, 1), (278, height), (279, len(pixels)),
    ]  # fmt: skip
    entries = b"".join(struct.pack(endian + "HHII", tag, 4, 1, value) for tag, value in tags)
    mark = {"<": b"II", ">": b"MM"}[endian]
    header = mark + struct.pack(endian + "HI", 42, 8) + struct.pack(endian + "H", len(tags))
    return header + entries + bytes(4) + pixels
