"""Perceptual fingerprints of images, and what makes two of them copies: one picture in another format, quality, size.

Two hashes find the pairs that could be copies, without comparing all with all; comparing their thumbnails tells copies
from images that are only alike. docs/dedupe.md has the measurements behind the constants.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float16, Int, UInt8, UInt64
from PIL import Image

from fpclass.data.foreground import Box

THUMBNAIL_PX = 32
MAX_DISTANCE = 8
MAX_DHASH_DISTANCE = 16
"""Largest numbers of bits, of 64, in which the pHash and the dHash of a copy differ."""
FINEST_PX, COARSEST_PX = 1.0, 3.0
"""Thumbnails are compared between these scales, standard deviations of a Gaussian. Finer is the noise of compression;
coarser is what prints of different people have in common: a dark oval on white."""
MIN_CONTRAST = 1.5
"""Standard deviation of the grey levels, of 255, between those scales, below which an image shows next to nothing and
has no copies."""
COARSE_PX = 8
"""Side of what thumbnails are compared by first."""


def fingerprint(picture: Image.Image, box: Box | None = None) -> dict[str, str]:
    """Hashes and thumbnail of a picture of any size, mode L or RGB, or of the part of it in `box`.

    phash and dhash are 64 bits as 16 hexadecimal digits; thumbnail is grey, `THUMBNAIL_PX` squared whatever the
    picture's aspect ratio, in base64.

    Source: the hashes are those of the package imagehash.
    """
    side = (THUMBNAIL_PX, THUMBNAIL_PX)
    # By whole factors first, which is fast, down to three times the size or less.
    thumbnail = picture.resize(side, Image.Resampling.LANCZOS, box, reducing_gap=3.0).convert("L")
    phash, dhash = hashes(thumbnail)
    return {"phash": phash, "dhash": dhash, "thumbnail": base64.b64encode(thumbnail.tobytes()).decode("ascii")}


def hashes(thumbnail: Image.Image) -> tuple[str, str]:
    """The pHash and the dHash of a picture, 16 hexadecimal digits each."""
    import imagehash

    return str(imagehash.phash(thumbnail)), str(imagehash.dhash(thumbnail))


@dataclasses.dataclass(frozen=True)
class Fingerprints:
    """Perceptual hashes and grey thumbnails of images, row by row.

    `details` are the thumbnails between two scales, with a sum of squares of 1, or all 0 where there is next to nothing
    to see.
    """

    phash: UInt64[np.ndarray, " n"]
    dhash: UInt64[np.ndarray, " n"]
    thumbnails: UInt8[np.ndarray, "n p"]
    details: Float16[np.ndarray, "n p"]

    def __len__(self) -> int:
        return len(self.phash)

    @classmethod
    def from_facts(cls, facts: pd.DataFrame) -> Fingerprints:
        """Reads the facts of images that decoded."""
        thumbnails = np.frombuffer(b"".join(map(base64.b64decode, facts["thumbnail"])), np.uint8)
        thumbnails = thumbnails.reshape(len(facts), THUMBNAIL_PX**2)
        return cls(_bits(facts["phash"]), _bits(facts["dhash"]), thumbnails, _details(thumbnails))

    @functools.cached_property
    def coarse(self) -> Float[np.ndarray, "n q"]:
        """The details in blocks: a projection to fewer dimensions, so that no two come to lie farther apart."""
        block = THUMBNAIL_PX // COARSE_PX
        blocks = self.details.reshape(-1, COARSE_PX, block, COARSE_PX, block)
        return blocks.sum(axis=(2, 4), dtype=np.float32).reshape(len(self), -1) / block

    def take(self, rows: Any) -> Fingerprints:
        """Fingerprints of some of the images: positions, a mask or a slice."""
        return Fingerprints(self.phash[rows], self.dhash[rows], self.thumbnails[rows], self.details[rows])

    def mirrored(self) -> Fingerprints:
        """Fingerprints of the mirror images."""
        side = (-1, THUMBNAIL_PX, THUMBNAIL_PX)
        thumbnails, details = (
            np.ascontiguousarray(values.reshape(side)[:, :, ::-1]) for values in (self.thumbnails, self.details)
        )
        pairs = [hashes(Image.fromarray(thumbnail)) for thumbnail in thumbnails]
        phash, dhash = zip(*pairs, strict=True) if pairs else ((), ())
        shape = self.thumbnails.shape
        return Fingerprints(_bits(phash), _bits(dhash), thumbnails.reshape(shape), details.reshape(shape))

    def and_also(self, other: Fingerprints) -> Fingerprints:
        """Both, one after the other."""
        return Fingerprints(
            *(np.concatenate([getattr(p, f.name) for p in (self, other)]) for f in dataclasses.fields(self))
        )


def similarity(
    prints: Fingerprints, first: Int[np.ndarray, " p"], second: Int[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """Correlation of the thumbnails between two scales: of images first[0] and second[0], first[1] and second[1] …

    Brightness and contrast make no difference to it. With an image that shows next to nothing it is 0.
    """
    result = np.zeros(len(first), np.float32)
    for start in range(0, len(first), 4096):
        part = slice(start, start + 4096)
        one, other = (prints.details[rows[part]].astype(np.float32) for rows in (first, second))
        result[part] = np.minimum(np.einsum("np,np->n", one, other), 1)  # rounding
    return result


def runs_of(
    codes: UInt64[np.ndarray, " n"], max_distance: int
) -> Iterator[tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]]:
    """Yields the positions of codes so that those which agree in a group of bits stand side by side, group by group.

    Codes that differ in d bits, at most max_distance, agree in at least one of d + 1 groups of bits. With the
    positions come the sizes of the runs that they are in; the large ones stand first.
    """
    for group in range(max_distance + 1):
        mask = np.uint64(sum(1 << bit for bit in range(group, 64, max_distance + 1)))
        _, run, sizes = np.unique(codes & mask, return_inverse=True, return_counts=True)
        order = np.lexsort((run, -sizes[run]))
        yield order, sizes[run][order]


def near_pairs(
    codes: UInt64[np.ndarray, " n"], max_distance: int, max_run: int | None = None
) -> Iterator[Int[np.ndarray, "2 p"]]:
    """Yields, a few at a time, all pairs of positions whose codes differ in at most so many bits, 0 to 63.

    A pair can come several times. With `max_run`, pairs that are found only in larger runs are left out.
    """
    for positions, sizes in runs_of(codes, max_distance):
        start = 0 if max_run is None else int(np.searchsorted(-sizes, -max_run))
        order, minus_size = positions[start:], -sizes[start:]
        ordered = codes[order]
        # At step k only runs of more than k codes, which are the first ones, have pairs that are k apart. Where a step
        # leads into the next run, nothing is lost.
        for step in range(1, -minus_size.min(initial=0)):
            end = np.searchsorted(minus_size, -step)
            differing = np.bitwise_count(ordered[: end - step] ^ ordered[step:end])
            near = np.flatnonzero(differing <= max_distance)
            if len(near):
                yield np.stack([order[near], order[near + step]])


def is_copy(
    prints: Fingerprints, first: Int[np.ndarray, " p"], second: Int[np.ndarray, " p"], min_similarity: float
) -> Bool[np.ndarray, " p"]:
    """Whether images first[0] and second[0], first[1] and second[1] … are copies: near in both hashes, and similar."""
    is_near = hamming(prints.phash, first, second) <= MAX_DISTANCE
    is_near &= hamming(prints.dhash, first, second) <= MAX_DHASH_DISTANCE
    rows = np.flatnonzero(is_near)
    # Of unit vectors |a - b|² = 2 - 2 similarity, which is more than what is left of it in a projection.
    apart = np.square(prints.coarse[first[rows]] - prints.coarse[second[rows]]).sum(axis=1)
    rows = rows[apart <= 2 - 2 * min_similarity + 1e-3]  # rounding
    result = np.zeros(len(first), bool)
    result[rows] = similarity(prints, first[rows], second[rows]) >= min_similarity
    return result


def copy_matrix(
    prints: Fingerprints,
    first: Int[np.ndarray, " a"],
    second: Int[np.ndarray, " b"],
    min_similarity: float,
    among: Bool[np.ndarray, "a b"] | bool = True,
) -> Bool[np.ndarray, "a b"]:
    """Whether each of some images is a copy of each of others, as `is_copy` of each pair; only `among` these pairs."""
    is_near = np.bitwise_count(prints.phash[first, None] ^ prints.phash[second]) <= MAX_DISTANCE
    is_near &= among
    rows, columns = np.nonzero(is_near)
    if len(rows) < is_near.size // 16:
        is_near[rows, columns] = is_copy(prints, first[rows], second[columns], min_similarity)
        return is_near
    # Products of matrices take a fiftieth of the time of as many single pairs.
    is_near &= np.bitwise_count(prints.dhash[first, None] ^ prints.dhash[second]) <= MAX_DHASH_DISTANCE
    one, other = prints.coarse[first], prints.coarse[second]
    apart = np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1) - 2 * one @ other.T
    is_near &= apart <= 2 - 2 * min_similarity + 1e-3
    rows, columns = np.nonzero(is_near)
    if len(rows) > is_near.size // 16:
        one, other = (prints.details[images].astype(np.float32) for images in (first, second))
        alike = one @ other.T
        is_near &= alike >= min_similarity - 1e-4
        # The sums are in another order: at the border the other one counts.
        rows, columns = np.nonzero(is_near & (alike < min_similarity + 1e-4))
    is_near[rows, columns] = similarity(prints, first[rows], second[columns]) >= min_similarity
    return is_near


def hamming(
    codes: UInt64[np.ndarray, " n"], first: Int[np.ndarray, " p"], second: Int[np.ndarray, " p"]
) -> UInt8[np.ndarray, " p"]:
    """In how many bits codes differ, pair by pair."""
    return np.bitwise_count(codes[first] ^ codes[second])


def _bits(digits: Any) -> UInt64[np.ndarray, " n"]:
    return np.array([int(text, 16) for text in digits], np.uint64)


def _details(thumbnails: UInt8[np.ndarray, "n p"]) -> Float16[np.ndarray, "n p"]:
    """A difference of Gaussians of each thumbnail, standardised."""
    from scipy.ndimage import gaussian_filter1d

    fine, coarse = (gaussian_filter1d(np.eye(THUMBNAIL_PX, dtype=np.float32), px, 0) for px in (FINEST_PX, COARSEST_PX))
    result = np.zeros(thumbnails.shape, np.float16)
    for start in range(0, len(thumbnails), 4096):
        part = slice(start, start + 4096)
        grey = thumbnails[part].reshape(-1, THUMBNAIL_PX, THUMBNAIL_PX).astype(np.float32)
        between = (fine @ grey @ fine.T - coarse @ grey @ coarse.T).reshape(len(grey), -1)
        between -= between.mean(axis=1, keepdims=True)
        norm = np.linalg.norm(between, axis=1, keepdims=True)
        result[part] = between / np.where(norm < MIN_CONTRAST * THUMBNAIL_PX, np.inf, norm)
    return result
