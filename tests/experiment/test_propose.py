"""The config that a folder of images gets, and the flags that repeat it."""

from pathlib import Path

import numpy as np
import pytest
from pictures import draw_picture

from fpclass import cli
from fpclass.config import flatten
from fpclass.errors import CacheError, ConfigError, WeightsError
from fpclass.experiment import load_config
from fpclass.experiment.propose import (
    FROM_SCRATCH,
    NO_NETWORK,
    PRETRAINED,
    STUDY,
    WEIGHTS,
    Proposal,
    Short,
    announce,
    propose,
    propose_study,
)
from fpclass.models.pretrained import source
from fpclass.search.portfolio import make_portfolio


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Colour photographs of 300 x 400 pixels in a folder per class."""
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for seed in range(4):
            draw_picture(seed, (300, 400)).save(tmp_path / "photos" / label / f"{seed}.jpg")
    return tmp_path / "photos"


@pytest.fixture
def prints(tmp_path: Path) -> Path:
    """Grey images of 100 x 60 pixels, listed in a CSV."""
    (tmp_path / "prints").mkdir()
    lines = ["file;SEX;ID"]
    for seed in range(8):
        draw_picture(seed, (100, 60), 1).save(tmp_path / "prints" / f"{seed}.png")
        lines.append(f"{seed}.png;{'fm'[seed % 2]};{seed // 2}")
    (tmp_path / "prints" / "list.csv").write_text("\n".join(lines))
    return tmp_path / "prints"


@pytest.fixture
def with_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "require", lambda name: None)


@pytest.fixture
def without_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FPCLASS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FPCLASS_OFFLINE", "1")


def values_of(file: str | None, overrides: list[str], short: Short) -> tuple[str, dict]:
    """The file, and the values of the config that it makes with the flags."""
    proposal = propose(file, overrides, short)
    return proposal.file, flatten(load_config(proposal.file, proposal.overrides))


@pytest.mark.usefixtures("with_weights")
def test_photographs_get_a_pretrained_network_at_its_own_size(photos: Path) -> None:
    file, values = values_of(None, [], Short(root=str(photos)))
    assert file == PRETRAINED
    assert (values["data.source"], values["data.channels"], values["data.image_size"]) == ("folder", 3, (224, 224))
    _, values = values_of(None, [], Short(root=str(photos), model="inception_v3.keras"))
    assert values["data.image_size"] == (299, 299)
    assert values["data.mean"] == (0.5, 0.5, 0.5)
    _, values = values_of(None, [], Short(root=str(photos), model="vit_b_16"))
    assert values["model.weights"] == "vit_b_16.v1"  # the best that anybody may use


@pytest.mark.usefixtures("with_weights")
@pytest.mark.parametrize(("model", "size"), [("dinov2_vits14", 140), ("vit_b_16", 128), ("resnet18", 128)])
def test_small_images_keep_about_their_size_in_steps_that_the_network_takes(tmp_path: Path, model, size) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        draw_picture(0, (120, 70)).save(tmp_path / label / "0.jpg")
        draw_picture(1, (120, 70)).save(tmp_path / label / "1.jpg")
    _, values = values_of(None, [], Short(root=str(tmp_path), model=model))
    assert values["data.image_size"] == (size, size)


@pytest.mark.usefixtures("with_weights")
@pytest.mark.parametrize(
    ("side", "model", "size"), [(28, "", 128), (64, "", 224), (100, "", 128), (28, "dinov2_vits14", 112)]
)
def test_images_of_half_the_size_of_the_weights_are_enlarged(tmp_path: Path, side, model, size) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        draw_picture(0, (side, side)).save(tmp_path / label / "0.jpg")
        draw_picture(1, (side, side)).save(tmp_path / label / "1.jpg")
    _, values = values_of(None, [], Short(root=str(tmp_path), model=model))
    assert values["data.image_size"] == (size, size)
    _, values = values_of(None, [], Short(root=str(tmp_path), model="blocks"))
    assert max(values["data.image_size"]) <= 104, "not for random weights"


@pytest.mark.usefixtures("with_weights")
def test_weights_that_not_everybody_may_use_have_to_be_named(photos: Path) -> None:
    proposal = propose(None, [], Short(root=str(photos), model="convnextv2_tiny"))
    assert proposal.file == FROM_SCRATCH
    assert "--model=convnextv2_tiny.in22k (CC-BY-NC-4.0: NOT for commercial use)" in proposal.lines[-1]
    proposal = propose(None, [], Short(root=str(photos), model="convnextv2_tiny.in22k"))
    assert proposal.file == PRETRAINED
    assert "(convnextv2_tiny.in22k, CC-BY-NC-4.0: NOT for commercial use)" in proposal.lines[-1]


@pytest.mark.usefixtures("with_weights")
@pytest.mark.parametrize(("size", "said"), [("128", "128 x 128"), ("300", "300 x 300"), ("128x96", "128 x 96")])
def test_the_size_that_is_said_is_the_one_that_is_given(photos: Path, size: str, said: str) -> None:
    short = Short(root=str(photos), size=size)
    for lines in (propose(None, [], short).lines, make_portfolio([], short).lines):
        assert f", at {said} pixels; it is frozen" in lines[-1]
    assert ", at 224 x 224 pixels" in make_portfolio([], Short(root=str(photos))).lines[-1]


@pytest.mark.usefixtures("with_weights")
def test_a_csv_stands_for_its_folder(prints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one of several, and from within the folder."""
    (prints / "other.csv").write_text((prints / "list.csv").read_text())
    file, values = values_of(None, [], Short(root=str(prints / "list.csv")))
    assert (file, values["data.root"], values["data.csv"]) == (PRETRAINED, str(prints), "list.csv")
    assert values["name"] == "prints"
    monkeypatch.chdir(prints)
    _, values = values_of(None, [], Short(root="list.csv"))
    assert (values["data.root"], values["name"]) == (".", "prints")
    assert make_portfolio([], Short(root="list.csv")).name == "prints"


@pytest.mark.usefixtures("with_weights")
def test_minutes_are_of_a_training_and_not_of_a_probe(photos: Path) -> None:
    _, values = values_of(None, [], Short(root=str(photos), minutes="5", model="blocks"))
    assert values["train.max_minutes"] == 5
    for minutes in ("5.", "1e1", "0.5"):
        _, values = values_of(None, [], Short(root=str(photos), minutes=minutes, model="blocks"))
        assert values["train.max_minutes"] == float(minutes)
    for minutes in ("0", "-1", "soon", "nan", "inf"):
        with pytest.raises(ConfigError, match=f"--minutes={minutes}: expected a number above 0"):
            propose(None, [], Short(root=str(photos), minutes=minutes))
    file, values = values_of(None, [], Short(root=str(photos), minutes="5"))
    assert (file, values["train.max_minutes"]) == (PRETRAINED, 0)


def test_a_look_is_by_pretrained_weights_where_they_are_there(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few images, where no config was chosen; they are not fetched for it."""
    monkeypatch.setattr(source, "in_cache", lambda entry: None)
    short = Short(root=str(photos))
    assert propose(None, [], short, "explore").file == NO_NETWORK
    monkeypatch.setattr(source, "in_cache", lambda entry: Path("there") if entry.name == WEIGHTS else None)
    monkeypatch.setattr(source, "require", lambda name: None)
    looked = propose(None, [], short, "explore")
    assert looked == propose(None, [], short), "the folder of a run that trains so"
    assert looked.file == PRETRAINED
    of_training = ["--config.train.num_epochs=3"]
    assert propose(None, of_training, short, "explore").file == PRETRAINED, "nothing is trained, from scratch or not"
    assert propose(None, of_training, short).file == FROM_SCRATCH
    chosen = "configs/footprints/baseline.py"
    assert propose(chosen, [], short, "explore").file == chosen
    monkeypatch.setattr("fpclass.experiment.propose.MANY", 2)
    assert propose(None, [], short, "explore").file == NO_NETWORK


def test_a_network_of_ones_own_reads_images_as_they_are(photos: Path) -> None:
    proposal = propose(None, ["--config.train.num_epochs=3"], Short(root=str(photos), model="nets:build"))
    assert proposal.file == NO_NETWORK
    assert {"--config.model.name=nets:build", "--config.data.image_size=(96, 128)"} <= set(proposal.overrides)


@pytest.mark.usefixtures("with_weights")
def test_flags_about_training_get_a_network_that_is_trained(photos: Path) -> None:
    proposal = propose(None, ["--config.train.num_epochs=3"], Short(root=str(photos)))
    assert proposal.file == FROM_SCRATCH
    assert "train.num_epochs is about training one" in proposal.lines[-1]
    assert propose(None, ["--config.seed=3"], Short(root=str(photos))).file == PRETRAINED


@pytest.mark.usefixtures("with_weights")
@pytest.mark.parametrize("flag", ["data.csv=list.csv", "data.separator=;", "predict.pool=mean", "code_folders=nets"])
def test_flags_about_the_images_leave_the_pretrained_network(prints: Path, flag: str) -> None:
    """What says where they lie is not about training, whatever the config that is looked at reads of it."""
    assert propose(None, [f"--config.{flag}"], Short(root=str(prints))).file == PRETRAINED


@pytest.mark.usefixtures("with_weights")
def test_small_images_are_not_blown_up_to_the_size_of_the_weights(prints: Path) -> None:
    _, values = values_of(None, [], Short(root=str(prints)))
    assert (values["data.channels"], values["data.image_size"]) == (1, (128, 128))
    assert (values["data.label_column"], values["data.group_column"]) == ("SEX", "ID")


@pytest.mark.usefixtures("with_weights")
def test_rows_to_predict_have_their_persons_answer_where_they_have_persons(prints: Path) -> None:
    def pool(*given: str, **short: str) -> str:
        return values_of(None, list(given), Short(root=str(prints), **short))[1]["predict.pool"]

    assert pool() == "none", "there is nothing to predict"
    table = prints / "list.csv"
    table.write_text("\n".join([*table.read_text().splitlines()[:-2], "6.png;;3", "7.png;;3"]))
    assert pool() == "submission"
    assert pool("--config.predict.pool=mean") == "mean"
    assert pool(group="none") == "none"
    portfolio = make_portfolio([], Short(root=str(prints)))
    assert "--config.predict.pool=submission" in portfolio.flags
    of_study = propose_study([], [], Short(root=str(prints)))[1]
    assert "--config.predict.pool=submission" in of_study.overrides


@pytest.mark.usefixtures("without_weights")
def test_without_weights_a_small_network_is_trained_and_that_is_said(photos: Path) -> None:
    proposal = propose(None, [], Short(root=str(photos)))
    assert proposal.file == FROM_SCRATCH
    assert "pretrained ones cannot be had" in proposal.lines[-1]
    assert flatten(load_config(proposal.file, proposal.overrides))["data.image_size"] == (96, 128)  # as they are
    with pytest.raises(WeightsError):  # what was asked for by name is not replaced
        propose(None, [], Short(root=str(photos), model="resnet50"))


@pytest.mark.usefixtures("without_weights")
def test_weights_in_a_file_need_no_published_ones(photos: Path, tmp_path: Path) -> None:
    """What the message about weights that cannot be fetched advises."""
    np.savez(tmp_path / "own.npz", numbers=np.ones(3))
    given = [f"--config.model.weights={tmp_path / 'own.npz'}", "--config.data.mean=(0,)", "--config.data.std=(1,)"]
    proposal = propose(None, given, Short(root=str(photos), model="resnet50"))
    assert proposal.file == PRETRAINED
    assert "--config.model.name=resnet50" in proposal.overrides
    assert "resnet50, pretrained" in proposal.lines[-1]
    with pytest.raises(WeightsError, match="neither a file"):
        propose(None, ["--config.model.weights=gone.npz"], Short(root=str(photos)))


@pytest.mark.usefixtures("with_weights")
def test_what_the_user_says_stays(prints: Path) -> None:
    given = ["--config.data.channels=3", "--config.data.label_column=ID"]
    short = Short(root=str(prints), size="40x64", group="none")
    _, values = values_of(None, given, short)
    assert values["data.channels"] == 3
    assert values["data.image_size"] == (40, 64)
    assert (values["data.label_column"], values["data.group_column"]) == ("ID", "")


@pytest.mark.usefixtures("without_weights")
def test_a_config_of_the_user_gets_the_source_and_the_columns_alone(prints: Path) -> None:
    file = "configs/footprints/exp20_gap_head.py"
    file_of, values = values_of(file, [], Short(root=str(prints)))
    assert file_of == file
    assert values["data.filename_column"] == "file"
    assert values["data.image_size"] == flatten(load_config(file))["data.image_size"]
    with pytest.raises(ConfigError, match="--model=resnet18 and --config"):
        propose(file, [], Short(root=str(prints), model="resnet18"))


@pytest.mark.usefixtures("with_weights")
def test_a_root_among_the_keys_is_looked_at_too(photos: Path) -> None:
    """The demo's config would take it for a folder to draw synthetic prints into."""
    file, values = values_of(None, [f"--config.data.root={photos}"], Short())
    assert (file, values["data.source"]) == (PRETRAINED, "folder")


def test_without_images_it_is_the_demo() -> None:
    assert propose(None, ["--config.seed=3"], Short()).overrides == ["--config.seed=3"]
    assert propose(None, [], Short()).file == "fpclass/configs/demo.py"
    with pytest.raises(ConfigError, match="--model goes with a folder"):
        propose(None, [], Short(model="resnet18"))


def test_commands_that_train_nothing_ask_for_no_weights(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "require", lambda name: pytest.fail("weights were asked for"))
    assert propose(None, [], Short(root=str(photos)), "read").file == NO_NETWORK


def test_a_study_compares_the_ways_to_a_model(
    photos: Path, prints: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    with monkeypatch.context() as at_hand:
        at_hand.setattr(source, "require", lambda name: None)
        files, proposal = propose_study([], [], Short(root=str(photos)))
        assert files == [*STUDY, FROM_SCRATCH]
        sizes = [flatten(load_config(file, proposal.overrides))["data.image_size"] for file in files]
        assert sizes == [*[(224, 224)] * len(STUDY), (96, 96)], "each its own, which the images are large enough for"
        _, proposal = propose_study([], [], Short(root=str(prints)))
        assert "--config.data.image_size=(128, 128)" in proposal.overrides
    monkeypatch.setenv("FPCLASS_OFFLINE", "1")
    monkeypatch.setenv("FPCLASS_CACHE", str(photos.parent / "cache"))
    files, proposal = propose_study([], [], Short(root=str(photos)))
    assert files == [FROM_SCRATCH]
    announce("study", proposal, files)
    said = capsys.readouterr().out
    assert f" study --configs {FROM_SCRATCH} --config.data.root={photos} --config.data.source=folder" in said
    assert "left out" in proposal.lines[-1]
    assert propose_study(["configs/demo.py"], [], Short())[0] == ["configs/demo.py"]


@pytest.mark.parametrize("size", ["0", "x", "3x4x5", "-8", "1.5"])
def test_a_size_that_is_none(photos: Path, size: str) -> None:
    with pytest.raises(ConfigError, match="expected pixels"):
        propose(None, [], Short(root=str(photos), size=size))


@pytest.mark.usefixtures("without_weights")
def test_train_a_folder(photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole way: a folder, nothing else; the flags that are printed repeat it, and a value in two parts is none."""
    monkeypatch.chdir(photos.parent)
    small = ["--config.train.num_epochs", "1", "--config.evaluate.num_resamples=20", "--size=32"]
    small += ["--config.model.conv_features=(4,4)"]
    assert cli.main(["train", "photos", *small]) == 0
    said = capsys.readouterr().out
    assert "photos: 8 images in folders of 2 classes (cat 4, dog 4); colour, median 300 x 400 pixels" in said
    assert "--config=fpclass/configs/from_scratch.py" in said
    assert (photos.parent / "runs" / "photos" / "metrics.json").is_file()
    assert np.all([line not in said for line in ("SYNTHETIC", "Traceback")])
    assert cli.main(["explain", "runs/photos"]) == 0  # the folder of a run without its flag


def test_probes_of_many_images_read_moments(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Covariances of a hundred thousand images would not fit into memory; what is given stays."""
    monkeypatch.setattr(source, "require", lambda name: None)
    flag = "--config.model.probe_pooling"

    def pooling(proposal: Proposal) -> set[str]:
        return {each.partition("=")[2] for each in proposal.overrides if each.startswith(flag)}

    ways = (
        lambda *given: propose(None, given, Short(root=str(photos))),
        lambda *given: propose_study([], given, Short(root=str(photos)))[1],
    )
    assert [pooling(way()) for way in ways] == [set(), set()]
    monkeypatch.setattr("fpclass.experiment.propose.MANY", 4)
    assert [pooling(way()) for way in ways] == [{"moments"}, {"moments"}]
    assert [pooling(way(f"{flag}=both")) for way in ways] == [{"both"}, {"both"}]
    files, proposal = propose_study([], [], Short(root=str(photos)))
    assert load_config(files[0], proposal.overrides).model.probe_pooling == "moments"


def test_a_cache_that_cannot_be_written_to_is_said_and_costs_no_minutes(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small network from random weights would take minutes, and be worse; the folder can be mended at once."""
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("FPCLASS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FPCLASS_OFFLINE", raising=False)
    for way in (propose, lambda file, *rest: propose_study([], *rest)):
        with pytest.raises(CacheError, match=r"cannot write .*choose another folder by FPCLASS_CACHE"):
            way(None, [], Short(root=str(photos)))
    assert propose(None, [], Short(root=str(photos)), "read").file == NO_NETWORK
