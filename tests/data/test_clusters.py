"""Many images that look alike: their clusters are those that looking at all pairs finds, with less work."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fpclass.data import clusters
from fpclass.data.clusters import cluster_names, find_clusters, joined
from fpclass.data.perceptual import Fingerprints, copy_matrix, is_copy

SIMILARITY = 0.99


def draw_alike(num_images: int, noise: float, scenes: int = 1, seed: int = 0) -> Fingerprints:
    """Images of so many scenes, whose hashes are all near: copies of one another at a noise of 0.03, alike at 0.3."""
    rng = np.random.default_rng(seed)

    def draw(num: int) -> np.ndarray:
        coarse = rng.standard_normal((num, 16, 16)).astype(np.float32)
        return np.repeat(np.repeat(coarse, 2, axis=1), 2, axis=2).reshape(num, -1)

    details = draw(1) + 0.3 * (scenes > 1) * draw(scenes)[np.arange(num_images) % scenes] + noise * draw(num_images)
    codes = np.full((2, num_images), 0x0123456789ABCDEF, np.uint64)
    for _ in range(2):
        codes ^= np.uint64(1) << rng.integers(0, 64, codes.shape, dtype=np.uint64)
    details /= np.linalg.norm(details, axis=1, keepdims=True)
    thumbnails = np.zeros((num_images, 1024), np.uint8)
    return Fingerprints(codes[0], codes[1], thumbnails, details.astype(np.float16))


def all_pairs_clusters(prints: Fingerprints) -> np.ndarray:
    first, second = np.triu_indices(len(prints), 1)
    found = is_copy(prints, first, second, SIMILARITY)
    return joined(np.arange(len(prints)), first[found], second[found])


def is_same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    return len(set(zip(one, other, strict=True))) == len(set(one)) == len(set(other))


@pytest.mark.parametrize(("noise", "scenes"), [(0.03, 1), (0.3, 1), (0.03, 7), (0.06, 3), (0.114, 1)])
def test_clusters_of_look_alikes_are_those_of_all_pairs(monkeypatch, noise, scenes) -> None:
    monkeypatch.setattr(clusters, "LARGE_RUN", 40)
    monkeypatch.setattr(clusters, "LEAF", 16)
    prints = draw_alike(300, noise, scenes)
    expected = all_pairs_clusters(prints)
    assert is_same_partition(find_clusters(prints, SIMILARITY), expected)
    every = np.arange(len(prints))
    matrix = copy_matrix(prints, every, every, SIMILARITY)
    first, second = np.indices(matrix.shape).reshape(2, -1)
    assert np.array_equal(matrix.ravel(), is_copy(prints, first, second, SIMILARITY))


def test_copies_that_are_many_are_not_compared_with_all(monkeypatch) -> None:
    looked_at = []

    def counting(prints, first, second, *rest):
        looked_at.append(len(first) * len(second))
        return copy_matrix(prints, first, second, *rest)

    monkeypatch.setattr(clusters, "LEAF", 64)
    monkeypatch.setattr(clusters, "copy_matrix", counting)
    one_by_one = []

    def single(prints, first, *rest):
        one_by_one.append(len(first))
        return is_copy(prints, first, *rest)

    monkeypatch.setattr(clusters, "is_copy", single)
    prints = draw_alike(3000, 0.03)
    assert len(set(find_clusters(prints, SIMILARITY))) == 1
    assert sum(looked_at) < 3000**2 / 20
    # Neighbours, and of those only what was not in one cluster by then.
    assert 2999 <= sum(one_by_one) < 2 * 3000
    # Without them the tree does it.
    monkeypatch.setattr(clusters, "NEIGHBOURS", ())
    monkeypatch.setattr(clusters, "is_copy", lambda *_: pytest.fail("one pair after the other"))
    assert len(set(find_clusters(prints, SIMILARITY))) == 1
    assert 0 < sum(looked_at) < 3000**2 / 20


def test_clusters_are_kept_and_made_again_where_the_file_is_broken(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(clusters, "WORTH_KEEPING", 2)
    calls = []

    def finding(*arguments):
        calls.append(arguments)
        return find_clusters(*arguments)

    monkeypatch.setattr(clusters, "find_clusters", finding)
    monkeypatch.setattr(Fingerprints, "from_facts", lambda facts: draw_alike(len(facts), 0.03))
    facts = pd.DataFrame({name: list("abcd") for name in ("phash", "dhash", "thumbnail")})
    arguments = (facts, np.array(list("wxyz"), object), np.ones(4, bool))
    expected = ["w"] * 4
    assert [cluster_names(*arguments, SIMILARITY, tmp_path / "kept").tolist() for _ in range(2)] == [expected] * 2
    assert len(calls) == 1
    cluster_names(*arguments, 0.98, tmp_path / "kept")
    assert len(calls) == 2, "of another similarity"
    for file in (tmp_path / "kept").iterdir():
        file.write_bytes(file.read_bytes()[:-3])
    assert cluster_names(*arguments, SIMILARITY, tmp_path / "kept").tolist() == expected
    assert len(calls) == 3
    (tmp_path / "no folder").write_text("")
    assert cluster_names(*arguments, SIMILARITY, tmp_path / "no folder").tolist() == expected
