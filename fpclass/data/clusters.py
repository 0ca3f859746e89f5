"""Clusters of images that are copies of one another, or of copies; also where very many images look alike."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int, UInt64

from fpclass.common.files import replacing
from fpclass.data.perceptual import MAX_DISTANCE, Fingerprints, copy_matrix, is_copy, near_pairs, runs_of
from fpclass.errors import RunError

VERSION = 1
"""Part of the key of clusters that are kept: raise it whenever the same images come to lie in other clusters."""
WORTH_KEEPING, NUM_KEPT = 1000, 32
"""From how many images on clusters are kept, and how many sets of them."""
LARGE_RUN = 1024
"""Images that agree in a part of their pHash are compared one by one up to so many, and more of them in a tree."""
LEAF = 512
"""Largest number of images in a leaf of that tree."""
NEIGHBOURS = (1, 2, 3, 5, 8)
"""Places in the order of their pHashes after which images that are alike are compared before there is a tree."""
NUM_PAIRS = 1 << 16
"""Pairs that are looked at together. Few, because those of images that are in one cluster by then can be left out."""

COMPARED = 1 << 24
"""Pairs of a cluster that are compared at once."""


def find_clusters(prints: Fingerprints, min_similarity: float, *, mirrored: bool = False) -> Int[np.ndarray, " n"]:
    """Clusters images that are copies of one another, or of copies; mirror images, too, if `mirrored`.

    A pair with near hashes is one of copies from a correlation of the thumbnails of `min_similarity`. Clusters are
    numbers below n; images that have no copy have one of their own.
    """
    num_images = len(prints)
    cluster = np.arange(num_images)
    owner = shown = np.flatnonzero(prints.details.any(axis=1))
    prints = prints.take(shown)
    if mirrored:
        prints, owner = prints.and_also(prints.mirrored()), np.concatenate([shown, shown])
    for rows in _many_alike(prints.phash):
        # The frames of a film, say, are of one cluster after this, and the tree need not look at them.
        rows = rows[np.argsort(prints.phash[rows], kind="stable")]
        for apart in NEIGHBOURS:
            is_open = cluster[owner[rows[:-apart]]] != cluster[owner[rows[apart:]]]
            first, second = rows[:-apart][is_open], rows[apart:][is_open]
            is_pair = is_copy(prints, first, second, min_similarity)
            cluster = joined(cluster, owner[first[is_pair]], owner[second[is_pair]])
        cluster = _LookAlikes(prints, rows, owner, min_similarity).joined_into(cluster)
    for first, second in _gathered(near_pairs(prints.phash, MAX_DISTANCE, LARGE_RUN)):
        is_open = cluster[owner[first]] != cluster[owner[second]]
        first, second = first[is_open], second[is_open]
        if not len(first):
            continue
        is_pair = is_copy(prints, first, second, min_similarity)
        cluster = joined(cluster, owner[first[is_pair]], owner[second[is_pair]])
    return cluster


def copies_of(prints: Fingerprints, known: Fingerprints, min_similarity: float) -> Int[np.ndarray, " n"]:
    """Position among the known images of one that each image is a copy of, -1 where it is a copy of none.

    Only what is a copy itself counts, not what is a copy of a copy.
    """
    both, num_images = prints.and_also(known), len(prints)
    cluster = find_clusters(both, min_similarity)
    found = np.full(num_images, -1)
    of_images, of_known = (pd.Series(part).groupby(part).indices for part in np.split(cluster, [num_images]))
    for name in of_images.keys() & of_known.keys():
        candidates = num_images + of_known[name]
        for rows in np.array_split(of_images[name], 1 + len(of_images[name]) * len(candidates) // COMPARED):
            is_pair = copy_matrix(both, rows, candidates, min_similarity)
            found[rows] = np.where(is_pair.any(axis=1), of_known[name][is_pair.argmax(axis=1)], -1)
    return found


def _many_alike(phash: UInt64[np.ndarray, " n"]) -> list[Int[np.ndarray, " m"]]:
    """Sets of images, every pair with near hashes in one of them that is in no run of up to `LARGE_RUN` images."""
    runs: list[np.ndarray] = []
    for positions, sizes in runs_of(phash, MAX_DISTANCE):
        start = 0
        while start < len(sizes) and sizes[start] > LARGE_RUN:
            runs.append(positions[start : start + sizes[start]])
            start += sizes[start]
    # Images whose hashes are much the same stand in a run of nearly every group of bits: once is enough for them.
    home = np.arange(len(phash))
    for run in runs:
        home = joined(home, run[:-1], run[1:])
    together: dict[int, list[np.ndarray]] = {}
    for run in runs:
        together.setdefault(int(home[run[0]]), []).append(run)
    found = []
    for members in together.values():
        union = np.unique(np.concatenate(members))
        found += [union] if len(union) ** 2 <= sum(len(run) ** 2 for run in members) else members
    return found


class _LookAlikes:
    """A tree of many images that may all be alike, in which their copies are found without comparing all with all.

    Each node is a ball around its images' coarse details. Two nodes are not looked into if they are too far apart for
    copies, nor if all images of both are in one cluster already: so images that are all copies of one another do not
    take the square of their number. What is only alike may, but by products of matrices.
    """

    def __init__(
        self, prints: Fingerprints, run: Int[np.ndarray, " m"], owner: Int[np.ndarray, " n"], min_similarity: float
    ):
        self._prints, self._owner, self._min_similarity = prints, owner, min_similarity
        self._max_apart = (2 - 2 * min_similarity + 1e-3) ** 0.5
        self._cluster = np.zeros(0, int)
        self._root = self._grow(run)

    def joined_into(self, cluster: Int[np.ndarray, " i"]) -> Int[np.ndarray, " i"]:
        """The clusters of all images after joining those of the copies among these."""
        self._cluster = cluster
        self._visit(self._root, self._root)
        return self._cluster

    def _grow(self, rows: Int[np.ndarray, " m"]) -> _Ball:
        points = self._prints.coarse[rows]
        centre = points.mean(axis=0)
        apart = np.linalg.norm(points - centre, axis=1)
        ball = _Ball(rows, centre, float(apart.max()))
        if len(rows) > LEAF:
            # What is nearer to the farthest image, and what is nearer to the one that is farthest from that: so a
            # cluster stays whole. Or halves along the line between them, where nearly all are on one side.
            end = points[apart.argmax()]
            other = points[np.linalg.norm(points - end, axis=1).argmax()]
            along = points @ (other - end)
            order = np.argsort(along, kind="stable")
            place = int(np.searchsorted(along[order], (other + end) @ (other - end) / 2))
            if min(place, len(rows) - place) < len(rows) // 8:
                place = len(rows) // 2
            ball.halves = (self._grow(rows[order[:place]]), self._grow(rows[order[place:]]))
        return ball

    def _visit(self, one: _Ball, other: _Ball) -> None:
        if np.linalg.norm(one.centre - other.centre) - one.radius - other.radius > self._max_apart:
            return
        if self._is_joined(one) and self._is_joined(other) and self._of(one)[0] == self._of(other)[0]:
            return
        if one is other and one.halves:
            left, right = one.halves
            for pair in ((left, left), (right, right), (left, right)):
                self._visit(*pair)
        elif one.halves or other.halves:
            larger, rest = (one, other) if len(one.rows) >= len(other.rows) else (other, one)
            for half in larger.halves:
                self._visit(half, rest)
        else:
            is_open = self._of(one)[:, None] != self._of(other)
            pairs = np.nonzero(copy_matrix(self._prints, one.rows, other.rows, self._min_similarity, is_open))
            first, second = (self._owner[ball.rows[rows]] for ball, rows in zip((one, other), pairs, strict=True))
            self._cluster = joined(self._cluster, first, second)

    def _of(self, ball: _Ball) -> Int[np.ndarray, " m"]:
        return self._cluster[self._owner[ball.rows]]

    def _is_joined(self, ball: _Ball) -> bool:
        """Whether all images of a ball are in one cluster; once they are, they stay there."""
        if not ball.is_joined:
            clusters = self._of(ball)
            ball.is_joined = bool((clusters == clusters[0]).all())
        return ball.is_joined


@dataclasses.dataclass(eq=False)
class _Ball:
    """Images around a centre of coarse details, none of them farther away than the radius."""

    rows: np.ndarray
    centre: np.ndarray
    radius: float
    halves: tuple[_Ball, ...] = ()
    is_joined: bool = False


def cluster_names(
    facts: pd.DataFrame,
    filenames: np.ndarray,
    mask: np.ndarray,
    min_similarity: float,
    cache_dir: Path | None = None,
) -> np.ndarray:
    """Cluster of each image in the mask, all decoded, by its first file; "" without a copy or outside of it, [N].

    Where there is a folder for it, the result is kept there, and found again for the same images and similarity.
    """
    rows = np.flatnonzero(mask)
    names = np.full(len(facts), "", object)
    cluster = _kept_clusters(facts.iloc[rows], min_similarity, cache_dir)
    members: Any = pd.Series(filenames[rows]).groupby(cluster)
    names[rows] = members.transform("min").where(members.transform("size") > 1, "").to_numpy(object)
    return names


def _kept_clusters(facts: Any, min_similarity: float, folder: Path | None) -> Int[np.ndarray, " n"]:
    """`find_clusters` of these images, kept in a folder by what they are made of."""
    if folder is None or len(facts) < WORTH_KEEPING:
        return find_clusters(Fingerprints.from_facts(facts), min_similarity)
    digest = hashlib.sha256(f"{VERSION} {min_similarity!r}".encode())
    for name in ("phash", "dhash", "thumbnail"):
        digest.update("\n".join(facts[name]).encode())
    path = folder / f"{digest.hexdigest()[:32]}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):
        kept = np.load(path, allow_pickle=False)
        if kept.shape == (len(facts),) and kept.dtype == np.int64 and 0 <= kept.min() <= kept.max() < len(facts):
            with contextlib.suppress(OSError):
                os.utime(path)
            return kept
    cluster = find_clusters(Fingerprints.from_facts(facts), min_similarity)
    # A cache that cannot be written to is not used.
    with contextlib.suppress(RunError), replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, cluster.astype(np.int64))
    with contextlib.suppress(OSError):
        for old in sorted(folder.glob("*.npy"), key=lambda file: file.stat().st_mtime)[:-NUM_KEPT]:
            old.unlink(missing_ok=True)
    return cluster


def _gathered(parts: Iterator[Int[np.ndarray, "2 p"]]) -> Iterator[Int[np.ndarray, "2 p"]]:
    """Gathers pairs to about `NUM_PAIRS` at a time."""
    waiting: list[np.ndarray] = []
    num_waiting = 0
    for part in parts:
        waiting.append(part)
        num_waiting += part.shape[1]
        if num_waiting >= NUM_PAIRS:
            yield np.concatenate(waiting, axis=1)
            waiting, num_waiting = [], 0
    if waiting:
        yield np.concatenate(waiting, axis=1)


def joined(
    cluster: Int[np.ndarray, " n"], first: Int[np.ndarray, " p"], second: Int[np.ndarray, " p"]
) -> Int[np.ndarray, " n"]:
    """The clusters after joining those of the pairs."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(first):
        return cluster
    # Only of the clusters that are joined: this is called for each of many small joins.
    touched, ends = np.unique(np.stack([cluster[first], cluster[second]]), return_inverse=True)
    size = len(touched)
    graph = coo_array((np.ones(len(first), bool), tuple(ends.reshape(2, -1))), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    _, leader = np.unique(component, return_index=True)
    renamed = np.arange(len(cluster))
    renamed[touched] = touched[leader][component]
    return renamed[cluster]
