"""Geometric operations as 3 x 3 maps, composed into one before the image is interpolated once.

A map says for every pixel of the result where in the image it comes from. It is a 3 x 3 matrix on homogeneous
coordinates (down, right, 1) in pixels from the image's centre, which lies at (size - 1) / 2. What happens to the image
first stands first in the product: rotated and then zoomed is `rotation @ zoom`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from fpclass.augment.intensity import Image, Scalar

Map = Float[Array, "3 3"]

FILL_MODES = ("constant", "reflect", "nearest", "wrap")
INTERPOLATIONS = ("nearest", "bilinear")
_NEAR_HORIZON = 1e-4  # a perspective divides by this at the least: what lies beyond its horizon is far outside


def compose(*maps: Map) -> Map:
    """The map of operations one after the other, the first one first."""
    product = jnp.eye(3)
    for one in maps:
        product = jnp.matmul(product, one, precision=lax.Precision.HIGHEST)
    return product


def rotation_map(angle_deg: Scalar) -> Map:
    """Map of a rotation about the centre by degrees, counter-clockwise positive.

    Source: keras.layers.RandomRotation, whose factor is in turns.
    """
    angle = jnp.deg2rad(jnp.asarray(angle_deg, jnp.float32))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _affine(cos, sin, 0, -sin, cos, 0)


def translation_map(down: Scalar, right: Scalar, image_size: tuple[int, int]) -> Map:
    """Map of a translation by shares of height and width.

    Source: keras.layers.RandomTranslation(height_factor, width_factor).
    """
    height, width = image_size
    return _affine(1, 0, -down * height, 0, 1, -right * width)


def shear_map(vertical: Scalar, horizontal: Scalar, image_size: tuple[int, int]) -> Map:
    """Map of a shear. The first pixel, in the corner, stays in its place: so the content is shifted, too.

    Args:
      vertical: rows that a column's source lies lower than that of its left neighbour.
      horizontal: columns that a row's source lies further right than that of the row above.

    Source: keras.layers.RandomShear(x_factor=horizontal, y_factor=vertical).
    """
    down, right = ((size - 1) / 2 for size in image_size)
    return _affine(1, vertical, vertical * right, horizontal, 1, horizontal * down)


def zoom_map(vertical: Scalar, horizontal: Scalar) -> Map:
    """Map of a zoom about the centre.

    Args:
      vertical: height of what is shown, as a share of the image's: below 1 enlarges, above 1 shrinks; as `horizontal`.

    Source: keras.layers.RandomZoom(height_factor=vertical - 1, width_factor=horizontal - 1).
    """
    return _affine(vertical, 0, 0, 0, horizontal, 0)


def perspective_map(corners_px: Float[Array, "4 2"], image_size: tuple[int, int]) -> Map:
    """Map of the perspective transform that takes the four corner pixels to given places.

    Args:
      corners_px: (row, column) that the corner pixels go to: upper left, lower left, lower right, upper right. They
        must form a convex quadrilateral.

    Source: keras.ops.image.perspective_transform; torchvision.transforms.functional.perspective (which places the
      pixels half a pixel off its corners). Formula for a square: Heckbert, Fundamentals of Texture Mapping and Image
      Warping, 1989, section 2.2.3.
    """
    height, width = image_size
    down, right = (height - 1) / 2, (width - 1) / 2
    tall, wide = max(height - 1, 1), max(width - 1, 1)
    to_square = _affine(1 / tall, 0, down / tall, 0, 1 / wide, right / wide)
    from_square = _affine(tall, 0, -down, 0, wide, -right)
    first, second, third, fourth = corners_px / jnp.array([tall, wide])
    side, other = second - third, fourth - third
    bend = first - second + third - fourth
    area = side[0] * other[1] - other[0] * side[1]
    g = (bend[0] * other[1] - other[0] * bend[1]) / area
    h = (side[0] * bend[1] - bend[0] * side[1]) / area
    columns = (second - first + g * second, fourth - first + h * fourth, first)
    a, b, c = jnp.vstack([jnp.stack(columns, axis=1), jnp.stack([g, h, jnp.ones(())])])  # rows: square to corners
    back = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], axis=1) / (a * jnp.cross(b, c)).sum()
    return compose(from_square, back, to_square)


def draw_translation(key: Key[Array, ""], factor: tuple[float, float], image_size: tuple[int, int]) -> Map:
    """Map of a translation by shares of the sides drawn from +-factor. Source: keras.layers.RandomTranslation."""
    down, right = jax.random.uniform(key, (2,), minval=-1.0) * jnp.array(factor)
    return translation_map(down, right, image_size)


def draw_shear(key: Key[Array, ""], factor: tuple[float, float], image_size: tuple[int, int]) -> Map:
    """Map of a shear (vertical, horizontal) drawn from +-factor. Source: keras.layers.RandomShear."""
    vertical, horizontal = jax.random.uniform(key, (2,), minval=-1.0) * jnp.array(factor)
    return shear_map(vertical, horizontal, image_size)


def draw_zoom(key: Key[Array, ""], factor: tuple[float, ...]) -> Map:
    """Map of a zoom by 1 + what is drawn from +-factor: one number for both sides, or (height, width) each its own.

    Source: keras.layers.RandomZoom(*factor).
    """
    drawn = 1 + jax.random.uniform(key, (len(factor),), minval=-1.0) * jnp.array(factor)
    return zoom_map(drawn[0], drawn[-1])


def draw_perspective(key: Key[Array, ""], distortion: float, image_size: tuple[int, int]) -> Map:
    """Map of a perspective: every corner goes inwards by up to half of `distortion` of height and of width.

    Source: torchvision.transforms.RandomPerspective(distortion, p=1), which draws whole pixels.
    """
    height, width = image_size
    size = jnp.array([height - 1, width - 1])
    inwards = jax.random.uniform(key, (4, 2)) * distortion / 2
    is_far = jnp.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    return perspective_map(jnp.where(is_far, 1 - inwards, inwards) * size, image_size)


def warp(
    image: Image,
    source: Map,
    *,
    fill: float,
    fill_mode: str,
    interpolation: str,
    shift_px: Float[Array, "2 h w"] | None = None,
) -> Image:
    """Warps an image by a map.

    Args:
      fill: intensity outside of the image, fill_mode "constant".
      fill_mode: what lies outside: "constant", "reflect" (d c b a | a b c d | d c b a), "nearest" (a a a a | a b c d
        | d d d d) or "wrap" (a b c d | a b c d | a b c d).
      interpolation: "nearest" or "bilinear".
      shift_px: (down, right) by which each pixel of the result looks elsewhere, before the map is applied; None: 0.

    Source: keras.ops.image.affine_transform.
    """
    height, width, _ = image.shape
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
    y = jnp.arange(height, dtype=jnp.float32)[:, None] - middle_row
    x = jnp.arange(width, dtype=jnp.float32) - middle_column
    if shift_px is not None:
        y, x = y + shift_px[0], x + shift_px[1]
    row, column, scale = (line[0] * y + line[1] * x + line[2] for line in source)
    scale = jnp.maximum(scale, _NEAR_HORIZON)
    row, column = row / scale + middle_row, column / scale + middle_column
    return sample(image, row, column, fill=fill, fill_mode=fill_mode, interpolation=interpolation)


def sample(
    image: Image,
    row: Float[Array, "y x"],
    column: Float[Array, "y x"],
    *,
    fill: float,
    fill_mode: str,
    interpolation: str,
) -> Float[Array, "y x c"]:
    """Interpolates an image at given coordinates.

    Args:
      row: pixels from the first one, as `column`.
      fill, fill_mode: as for `warp`.
      interpolation: "nearest" (halves away from zero) or "bilinear".

    Source: scipy.ndimage.map_coordinates, orders 0 and 1, modes grid-constant, reflect, nearest and grid-wrap.
    """
    if interpolation == "nearest":
        row, column = lax.round(row), lax.round(column)
        return _look_up(image, row.astype(jnp.int32), column.astype(jnp.int32), fill, fill_mode)
    top, left = jnp.floor(row), jnp.floor(column)
    below, right = row - top, column - left
    top, left = top.astype(jnp.int32), left.astype(jnp.int32)

    def add_corner(total: Array, corner: Array) -> tuple[Array, None]:
        weight = jnp.where(corner[0], below, 1 - below) * jnp.where(corner[1], right, 1 - right)
        values = _look_up(image, top + corner[0], left + corner[1], fill, fill_mode)
        return total + weight[..., None] * values, None

    # A loop over the four neighbours, for XLA would fuse what made the image into the gathers and draw its random
    # numbers again at every pixel and neighbour: map_coordinates takes six times as long behind the jitter.
    corners = jnp.asarray([(0, 0), (0, 1), (1, 0), (1, 1)])
    nothing = jnp.zeros((*row.shape, image.shape[-1]), image.dtype)
    return lax.scan(add_corner, nothing, corners)[0]


def resize_and_back(image: Image, height: Int[Array, ""] | int, width: Int[Array, ""] | int) -> Image:
    """Resizes to a height and width in pixels, at least 1, and back: resolution is lost, places are not.

    Both ways are linear, with pixel centres at halves and without anti-aliasing. The two are one matrix per axis, so
    that the size in between may be a drawn one.

    Source: tf.image.resize, method bilinear, twice.
    """
    rows, columns = (
        _there_and_back(size, between) for size, between in zip(image.shape[:2], (height, width), strict=True)
    )
    image = jnp.einsum("ih,hwc->iwc", rows, image, precision=lax.Precision.HIGHEST)
    return jnp.einsum("jw,iwc->ijc", columns, image, precision=lax.Precision.HIGHEST)


def change_height_width(key: Key[Array, ""], image: Image, *, factor: tuple[float, float]) -> Image:
    """Resizes to a height and a width drawn independently of each other, and back.

    Args:
      factor: x of (height, width): the size in between is the image's times a number from [1 - x, 1 + x], cut off to
        whole pixels.

    Source: tf.keras.layers.RandomHeight(x) and RandomWidth(x), gone since Keras 3, with the Resizing to the old size
      that has to follow them. They draw once for a batch, this once for each image.
    """
    factors = 1 + jax.random.uniform(key, (2,), minval=-1.0) * jnp.array(factor)
    sizes = jnp.maximum(factors * jnp.array(image.shape[:2]), 1).astype(jnp.int32)
    return resize_and_back(image, sizes[0], sizes[1])


def _affine(a: Scalar, b: Scalar, c: Scalar, d: Scalar, e: Scalar, f: Scalar) -> Map:
    return jnp.stack([jnp.asarray(number, jnp.float32) for number in (a, b, c, d, e, f, 0, 0, 1)]).reshape(3, 3)


def _look_up(image: Image, row: Array, column: Array, fill: float, fill_mode: str) -> Array:
    if fill_mode == "constant":
        return image.at[row, column].get(mode="fill", fill_value=fill, wrap_negative_indices=False)
    height, width, _ = image.shape
    row, column = _bring_inside(row, height, fill_mode), _bring_inside(column, width, fill_mode)
    return image.at[row, column].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _bring_inside(index: Array, size: int, fill_mode: str) -> Array:
    if fill_mode == "reflect":
        index = index % (2 * size)
        return jnp.minimum(index, 2 * size - 1 - index)
    if fill_mode == "wrap":
        return index % size
    return jnp.clip(index, 0, size - 1)


def _there_and_back(size: int, between: Int[Array, ""] | int) -> Float[Array, "size size"]:
    """The matrix of two linear resizings along an axis, from `size` pixels to others and back."""

    def neighbours(position: Array, new_size: Array | int, old_size: Array | int) -> list[tuple[Array, Array]]:
        where = (position + 0.5) * (old_size / new_size) - 0.5
        first = jnp.floor(where)
        share = where - first
        return [(jnp.clip(first + k, 0, old_size - 1), share if k else 1 - share) for k in (0, 1)]

    matrix = jnp.zeros((size, size))
    for middle, outer in neighbours(jnp.arange(size), size, between):
        for pixel, inner in neighbours(middle, between, size):
            matrix += (outer * inner)[:, None] * (pixel[:, None] == jnp.arange(size))
    return matrix
