"""Bundles: what they predict, what an old one predicts, and which are refused."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fpclass
from fpclass import cli
from fpclass.deploy.bundle import BUNDLE, CARD, DIGEST, FILES, METRICS, WEIGHTS, digest_of
from fpclass.deploy.weights import MAX_HEADER_BYTES, pack, unpack

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "bundle_v1"
ROW, COLUMN = np.mgrid[:30, :20]
IMAGES = np.stack([np.uint8(255 * (np.hypot(ROW - 15, COLUMN - 10) < radius)) for radius in (3, 6, 9, 14)])
"""Discs."""
EXPECTED = [0.227618, 0.19316, 0.291523, 0.45737]
"""What the version that made the golden bundle said of them."""


@pytest.fixture
def bundle(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the golden one, to be damaged."""
    return shutil.copytree(GOLDEN, tmp_path / "bundle")


def change(folder: pathlib.Path, **changes: Any) -> None:
    """Changes bundle.json as somebody does who knows how its digests are made."""
    facts = json.loads((folder / BUNDLE).read_text()) | changes
    (folder / BUNDLE).write_text(json.dumps(facts | {DIGEST: digest_of(facts)}))


def put(folder: pathlib.Path, name: str, data: bytes) -> None:
    """Another file in a bundle, and its digest in bundle.json."""
    import hashlib

    (folder / name).write_bytes(data)
    known = json.loads((folder / BUNDLE).read_text())["files"]
    change(folder, files=known | {name: hashlib.sha256(data).hexdigest()})


@pytest.mark.parametrize("kind", ["run", "study"])
def test_a_bundle_predicts_what_it_was_made_of_predicts(kind, request, photos, blobs, tmp_path):
    folder = request.getfixturevalue({"run": "photo_run", "study": "study"}[kind])
    images = {"run": photos, "study": blobs / "processed"}[kind]
    output = tmp_path / "bundle"
    assert cli.main(["bundle", str(folder), f"--output={output}"]) == 0
    assert sorted(path.name for path in output.iterdir()) == sorted([BUNDLE, *FILES])
    loaded, trained = fpclass.load_bundle(output), fpclass.load(folder)
    expected = trained.predict(images)
    pd.testing.assert_frame_equal(loaded.predict(images), expected, check_exact=True)
    assert loaded.classes == trained.classes
    assert isinstance(fpclass.load(output), fpclass.LoadedBundle)
    assert loaded.metrics["scores"]["accuracy"]["low"] is not None
    assert ", accuracy " in loaded.verdict
    assert "must not be used for" in loaded.card
    assert cli.main(["predict", str(images), f"--workdir={output}", f"--output={tmp_path / 'new.csv'}"]) == 0
    assert (tmp_path / "new.csv").read_text() == expected.to_csv(index=False)
    assert str(tmp_path.parent) not in "".join((output / name).read_text() for name in (BUNDLE, METRICS, CARD))
    assert cli.main(["bundle", str(folder), f"--output={output}"]) == 0, "a bundle is replaced"


def test_the_first_format_opens_and_predicts():
    loaded = fpclass.load_bundle(GOLDEN)
    assert [loaded.predict(image).probabilities["1"] for image in IMAGES] == pytest.approx(EXPECTED, abs=2e-6)
    by_f1 = fpclass.load_bundle(GOLDEN, **{"submit.threshold_for": "f1"}).predict(IMAGES[..., None])
    assert by_f1["decision"].str.endswith("(f1)").all()


def test_what_other_folders_hold_is_not_overwritten(study, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert cli.main(["bundle", str(study), f"--output={tmp_path}"]) == 2
    assert "no bundle; choose another --output" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert cli.main(["bundle", str(GOLDEN), f"--output={tmp_path / 'copy'}"]) == 2


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_altered_file_is_named_with_its_digests(name, bundle):
    known = json.loads((bundle / BUNDLE).read_text())["files"][name]
    data = bytearray((bundle / name).read_bytes())
    data[-1] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(
        fpclass.RunError, match=rf"{name}: was altered: sha256 {known} when it was made, [0-9a-f]{{64}}"
    ):
        fpclass.load_bundle(bundle).predict(IMAGES[0])
    (bundle / name).unlink()
    with pytest.raises(fpclass.RunError, match=rf"{name}: cannot be read .* sha256 {known}"):
        fpclass.load_bundle(bundle).predict(IMAGES[0])


def _altered(bundle: pathlib.Path) -> None:
    text = (bundle / BUNDLE).read_text()
    (bundle / BUNDLE).write_text(text.replace('"accuracy": 0.', '"accuracy": 0.9', 1))


def _own_network(bundle: pathlib.Path) -> None:
    networks = json.loads((bundle / BUNDLE).read_text())["networks"]
    networks["baseline"]["config"]["model.name"] = "antigravity:open"
    change(bundle, networks=networks)


def _code_folder(bundle: pathlib.Path) -> None:
    change(bundle, config=json.loads((bundle / BUNDLE).read_text())["config"] | {"code_folders": [str(bundle)]})


def _link(bundle: pathlib.Path) -> None:
    (bundle / METRICS).rename(bundle / "elsewhere.json")
    (bundle / METRICS).symlink_to("elsewhere.json")


def _outside(bundle: pathlib.Path) -> None:
    change(bundle, files=json.loads((bundle / BUNDLE).read_text())["files"] | {"../../secret": 64 * "0"})


def _pickle(bundle: pathlib.Path) -> None:
    put(bundle, WEIGHTS, b"\x80\x04cos\nsystem\n(S'false'\ntR.")


def _header(bundle: pathlib.Path) -> None:
    put(bundle, WEIGHTS, (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{" + b" " * MAX_HEADER_BYTES + b"}")


def _other_weights(bundle: pathlib.Path) -> None:
    data = (bundle / WEIGHTS).read_bytes()
    put(bundle, WEIGHTS, data.replace(b"baseline/0", b"baseline/9"))


def _many(bundle: pathlib.Path) -> None:
    networks = json.loads((bundle / BUNDLE).read_text())["networks"]
    networks["baseline"]["members"] = 10**9
    change(bundle, networks=networks)


REFUSED = {
    _altered: "was altered: sha256 [0-9a-f]{64} when it was made, [0-9a-f]{64} now",
    _own_network: "antigravity:open, a function of your own, and a bundle holds no code",
    _code_folder: "holds the key 'code_folders', which is none of a bundle's",
    _link: "is a link to elsewhere.json",
    _outside: r"'../../secret'",
    _pickle: "is no safetensors file",
    _header: "a header of",
    _other_weights: "is nothing, expected",
    _many: "1000000000 members",
    lambda bundle: change(bundle, bundle_format=2): "install that version",
    lambda bundle: change(bundle, networks={"baseline": 3}): "is damaged",
    lambda bundle: (bundle / BUNDLE).write_text("[" * 100_000): "cannot be read",
    lambda bundle: (bundle / BUNDLE).unlink(): "no bundle",
}


@pytest.mark.parametrize(("damage", "said"), REFUSED.items())
def test_what_is_hostile_or_damaged_is_refused_in_one_line(damage, said, bundle):
    damage(bundle)
    with pytest.raises(fpclass.FpclassError, match=said) as refused:
        fpclass.load_bundle(bundle).predict(IMAGES[0])
    assert "\n" not in str(refused.value)


def test_what_members_share_is_there_once():
    rng = np.random.default_rng(0)
    stem = {"kernel": rng.normal(size=(3, 3, 8, 64)).astype(np.float32)}
    heads = [{"kernel": rng.normal(size=(64, 2)).astype(np.float32)} for _ in range(5)]
    members = {
        name: [{"params": {"stem": stem, "head": head}, "batch_stats": {}} for head in of]
        for name, of in {"a": heads[:3], "b": heads[3:]}.items()
    }
    data = pack(members)
    assert len(data) < 1.5 * stem["kernel"].nbytes
    found = unpack(data, members, "here")
    assert found["a"][0]["params"]["stem"]["kernel"] is found["b"][1]["params"]["stem"]["kernel"]
    for name, of_config in members.items():
        for one, other in zip(found[name], of_config, strict=True):
            assert (one["params"]["head"]["kernel"] == other["params"]["head"]["kernel"]).all()
