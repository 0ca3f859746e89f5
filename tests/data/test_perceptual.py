"""Copies: found among all pairs without looking at all, and never taken for images that are only alike."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import draw_picture, resized, saved_again
from PIL import Image, ImageOps

from configs import base
from fpclass.data import perceptual
from fpclass.data.audit import audit_table
from fpclass.data.clusters import cluster_names, find_clusters
from fpclass.data.decode import decode_bytes, decode_table
from fpclass.data.perceptual import Fingerprints, fingerprint, near_pairs
from fpclass.data.resize import Decoding
from fpclass.data.splits import make_splits
from fpclass.data.table import Table, make_rows
from fpclass.errors import DataError

SIMILARITY = base.get_config().data.near_duplicates
RE_ENCODED = {
    "jpeg 95": lambda p: saved_again(p, quality=95),
    "jpeg 20": lambda p: saved_again(p, quality=20),
    "webp 40": lambda p: saved_again(p, "WEBP", quality=40),
    "png": lambda p: saved_again(p, "PNG"),
    "half": lambda p: resized(p, 0.5),
    "a third, jpeg 60": lambda p: saved_again(resized(p, 0.33), quality=60),
    "twice": lambda p: resized(p, 2.0),
    "another aspect ratio": lambda p: p.resize((150, 150), Image.Resampling.BILINEAR),
    "grey": lambda p: p.convert("L"),
}


def prints_of(*pictures: Image.Image) -> Fingerprints:
    return Fingerprints.from_facts(pd.DataFrame([fingerprint(picture) for picture in pictures]))


def clusters_of(*pictures: Image.Image, **options) -> list[list[int]]:
    """The clusters of several images, as lists of their positions."""
    cluster = find_clusters(prints_of(*pictures), SIMILARITY, **options)
    groups = pd.Series(range(len(cluster))).groupby(cluster)
    return sorted(members.tolist() for _, members in groups if len(members) > 1)


def all_near_pairs(codes: np.ndarray, max_distance: int) -> set[tuple[int, int]]:
    """By looking at all pairs."""
    near = np.bitwise_count(codes[:, None] ^ codes[None]) <= max_distance
    return {(int(i), int(j)) for i, j in zip(*np.nonzero(near), strict=True) if i < j}


def found_near_pairs(codes: np.ndarray, max_distance: int) -> set[tuple[int, int]]:
    parts = list(near_pairs(codes, max_distance))
    assert all((part[0] != part[1]).all() for part in parts)
    return {(min(pair), max(pair)) for part in parts for pair in part.T.tolist()}


# --- hashes ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), max_distance=st.integers(0, 12), num_centres=st.integers(1, 60))
def test_all_near_pairs_are_found_and_no_other(seed: int, max_distance: int, num_centres: int) -> None:
    """Codes in clumps, with up to twice as many bits flipped as are looked for."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**64, num_centres, dtype=np.uint64)
    codes = centres[rng.integers(0, num_centres, 120)]
    for row in range(0, len(codes), 2):
        for bit in rng.choice(64, rng.integers(0, 2 * max_distance + 2), replace=False):
            codes[row] ^= np.uint64(1) << np.uint64(bit)
    expected = all_near_pairs(codes, max_distance)
    assert found_near_pairs(codes, max_distance) == expected


def test_pairs_of_few_codes() -> None:
    assert found_near_pairs(np.array([], np.uint64), 8) == set()
    assert found_near_pairs(np.array([7], np.uint64), 8) == set()
    assert found_near_pairs(np.array([7, 7, 6], np.uint64), 0) == {(0, 1)}
    assert len(found_near_pairs(np.full(50, 7, np.uint64), 3)) == 50 * 49 / 2


def test_the_hashes_are_those_of_the_library() -> None:
    import imagehash

    picture = draw_picture(1, (32, 32), num_channels=1)
    facts = fingerprint(picture)
    assert facts["phash"] == str(imagehash.phash(picture))
    assert facts["dhash"] == str(imagehash.dhash(picture))
    assert prints_of(picture).phash[0] == int(facts["phash"], 16)
    assert prints_of(picture).thumbnails[0].tolist() == np.asarray(picture).ravel().tolist()


# --- copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", RE_ENCODED)
def test_a_picture_saved_again_is_a_copy_and_another_picture_is_none(how: str) -> None:
    originals = [draw_picture(seed) for seed in range(8)]
    copies = [RE_ENCODED[how](picture) for picture in originals]
    assert clusters_of(*originals, *copies) == [[k, k + 8] for k in range(8)]


def test_a_mirror_image_is_a_copy_on_request() -> None:
    first, second = draw_picture(1), draw_picture(2)
    pictures = (first, second, saved_again(ImageOps.mirror(first), quality=60), ImageOps.flip(second))
    assert clusters_of(*pictures) == []
    assert clusters_of(*pictures, mirrored=True) == [[0, 2]]


def test_a_symmetric_image_is_no_mirrored_copy_of_others() -> None:
    symmetric = draw_picture(1)
    symmetric.paste(ImageOps.mirror(symmetric).crop((80, 0, 160, 120)), (80, 0))
    assert clusters_of(symmetric, draw_picture(2), mirrored=True) == []


def test_a_large_jpeg_decoded_at_a_reduced_size_looks_the_same() -> None:
    exif = Image.Exif()
    exif[274] = 6  # turned upright after decoding
    stream = io.BytesIO()
    draw_picture(1, (1003, 755)).save(stream, "JPEG", exif=exif)
    facts = [decode_bytes(stream.getvalue(), Decoding((side, side), channels=1)).facts for side in (8, 700)]
    assert facts[0]["pixel_sha256"] != facts[1]["pixel_sha256"], "decoded at the same size"
    prints = Fingerprints.from_facts(pd.DataFrame(facts))
    assert perceptual.similarity(prints, np.array([0]), np.array([1]))[0] > 0.9998
    assert np.abs(np.diff(prints.thumbnails.astype(int), axis=0)).max() <= 2


def test_near_hashes_alone_make_no_copy() -> None:
    """Two pictures of the same coarse shape, with another drawing on it: what thumbnails are compared for."""
    rng = np.random.default_rng(0)
    shape = np.asarray(draw_picture(1, (32, 32), num_channels=1), float) * 0.5
    drawings = [np.clip(shape + 60 * rng.integers(0, 2, (32, 32)), 0, 255).astype(np.uint8) for _ in range(2)]
    prints = prints_of(*map(Image.fromarray, drawings))
    near = Fingerprints(prints.phash[[0, 0]], prints.dhash[[0, 0]], prints.thumbnails, prints.details)
    rows = np.array([0]), np.array([1])
    assert perceptual.similarity(near, *rows)[0] < 0.9
    assert not perceptual.is_copy(near, *rows, SIMILARITY)[0]
    assert perceptual.is_copy(near, *rows, 0.1)[0]


def test_comparing_coarsely_first_loses_no_copy() -> None:
    """Pairs on both sides of the threshold, with differences coarse and fine."""
    rng = np.random.default_rng(0)
    scene = np.asarray(draw_picture(1, (32, 32), num_channels=1), float) * 0.6 + 50
    pictures = [scene]
    for strength in np.linspace(1, 14, 120):
        size = int(rng.choice([4, 8, 16, 32]))
        noise = Image.fromarray(rng.normal(0, strength, (size, size)).astype(np.float32)).resize((32, 32))
        pictures.append(scene + np.asarray(noise))
    prints = prints_of(*(Image.fromarray(picture.clip(0, 255).astype(np.uint8)) for picture in pictures))
    first, second = np.zeros(120, int), np.arange(1, 121)
    near = perceptual.hamming(prints.phash, first, second) <= perceptual.MAX_DISTANCE
    near &= perceptual.hamming(prints.dhash, first, second) <= perceptual.MAX_DHASH_DISTANCE
    for threshold in (0.95, 0.98, SIMILARITY):
        expected = near & (perceptual.similarity(prints, first, second) >= threshold)
        assert 5 < expected.sum() < 115
        assert np.array_equal(perceptual.is_copy(prints, first, second, threshold), expected)


def test_images_that_show_nothing_are_no_copies() -> None:
    """Scans of empty pages have hashes of noise; thousands of them must not tie everything together."""
    rng = np.random.default_rng(0)
    blank = [Image.new("L", (60, 40), level) for level in (0, 255, 255)]
    noisy = [Image.fromarray(rng.integers(250, 256, (40, 60), dtype=np.uint8)) for _ in range(3)]
    assert clusters_of(*blank, *noisy) == []


def test_drawn_prints_of_different_people_are_no_copies(tmp_path) -> None:
    from fpclass.data.synthetic.dataset import draw_dataset

    draw_dataset(tmp_path, num_images=60, image_size=(155, 101), seed=0)
    pictures = [Image.open(path).convert("L") for path in sorted(tmp_path.rglob("*.png"))]
    assert len(pictures) == 60
    assert clusters_of(*pictures) == []
    assert clusters_of(*pictures, resized(pictures[7], 0.6)) == [[7, 60]]


def test_clusters_are_called_after_their_first_file_whatever_the_order() -> None:
    pictures = [draw_picture(seed) for seed in (1, 2, 1, 3)]
    facts = pd.DataFrame([fingerprint(picture) for picture in pictures])
    names = np.array(["d", "b", "c", "a"], object)
    mask = np.ones(4, bool)
    assert cluster_names(facts, names, mask, SIMILARITY).tolist() == ["c", "", "c", ""]
    turned = cluster_names(facts.iloc[::-1], names[::-1], mask, SIMILARITY)
    assert turned.tolist() == ["", "c", "", "c"]
    assert cluster_names(facts, names, np.array([True, True, False, True]), SIMILARITY).tolist() == [""] * 4


# --- audit and splits -----------------------------------------------------------------------------


def audited(tmp_path, pictures, labels, groups=None, splits=None, near_duplicates=SIMILARITY):
    """The audit of these pictures, decoded from files."""
    paths = [str(tmp_path / f"img_{k}.png") for k in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    names = [path.rpartition("/")[2] for path in paths]
    rows = make_rows(names, paths, labels, ("a", "b"), group=groups, split=splits)
    table = Table(rows, ("a", "b"), ("a", "b"), lambda k: open(paths[k], "rb").read(), "a test")  # noqa: SIM115
    _, facts = decode_table(table, Decoding((8, 8), channels=1), cache_dir=None)
    return audit_table(table, facts, near_duplicates=near_duplicates)


def test_the_audit_says_what_near_duplicates_disagree_about(tmp_path) -> None:
    one, two, three = draw_picture(1), draw_picture(2), draw_picture(3)
    pictures = [one, resized(one, 0.5), two, resized(two, 0.5), three, three]
    audit = audited(
        tmp_path, pictures, list("abaaaa"), groups=list("pqrstu"), splits=["train"] * 3 + ["test"] + ["train"] * 2
    )
    found = [finding for finding in audit.findings if finding.kind == "near_duplicate"]
    assert [finding.filenames for finding in found] == [("img_0.png", "img_1.png"), ("img_2.png", "img_3.png")]
    assert "CONTRADICTORY LABELS a, b" in found[0].reason
    assert "across 2 people (p, q)" in found[0].reason
    assert "ACROSS THE SPLITS test, train" in found[1].reason
    assert {finding.severity for finding in found} == {"warning"}
    assert "thumbnail" not in audit.table.rows
    assert audit.table.usable_mask.all()
    off = audited(tmp_path, pictures, list("abaaaa"), near_duplicates=0.0)
    assert {finding.kind for finding in off.findings} == {"byte_identical"}
    assert "near_duplicates" not in off.table.rows


def test_one_giant_cluster_is_named_as_the_reason_for_too_few_groups(tmp_path) -> None:
    one = draw_picture(1)
    pictures = [resized(one, 1 - 0.05 * k) for k in range(6)] + [draw_picture(k) for k in range(2, 8)]
    table = audited(tmp_path, pictures, ["a"] * 6 + ["b"] * 6).table
    with pytest.raises(DataError, match=r"'a' has 1 independent image, too few") as error:
        make_splits(table, base.get_config().split, needs_selection=False)
    for part in ("because 6 of the 12 images count as near copies", "'img_0.png'", "data.near_duplicates", "--list"):
        assert part in str(error.value)
    few = audited(tmp_path, pictures[5:], ["a"] + ["b"] * 6).table
    with pytest.raises(DataError, match="too few") as error:
        make_splits(few, base.get_config().split, needs_selection=False)
    assert "near copies" not in str(error.value), "there is one image of this class anyway"


def test_splits_keep_near_duplicates_together_but_not_by_way_of_rows_to_predict(tmp_path) -> None:
    """An image to predict between two that are like it, but not like one another."""
    base_picture = np.asarray(draw_picture(1, (64, 64), num_channels=1), float) * 0.6 + 40
    stripes = 16 * np.sin(np.arange(64) / 3)[None, :]
    chain = [Image.fromarray((base_picture + k * stripes).astype(np.uint8)) for k in (-1, 0, 1)]
    prints = prints_of(*chain)
    near, far = perceptual.similarity(prints, np.array([0, 0]), np.array([1, 2]))
    threshold = (near + far) / 2
    others = [draw_picture(seed, num_channels=1) for seed in range(2, 14)]
    labels = ["a", "", "a", *"ab" * 6]
    audit = audited(tmp_path, [*chain, *others], labels, near_duplicates=float(threshold))
    assert [finding.filenames for finding in audit.findings if finding.kind == "near_duplicate"] == [
        ("img_0.png", "img_1.png", "img_2.png")
    ]
    splits = make_splits(audit.table, base.get_config().split, needs_selection=False)
    assert splits.frame["unit"].nunique() == 15
    assert splits.notes == ()
    labelled = audited(tmp_path, [*chain, *others], ["a", "a", "a", *"ab" * 6], near_duplicates=float(threshold))
    splits = make_splits(labelled.table, base.get_config().split, needs_selection=False)
    assert splits.frame["unit"].nunique() == 13
    assert splits.notes == ("near-duplicates kept together: 3 images in 1 cluster",)
