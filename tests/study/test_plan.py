"""Which configs a study takes: those of a pattern whose pretrained weights can be had, and all that are named."""

from __future__ import annotations

import pytest

from fpclass.common.files import write_json
from fpclass.errors import ConfigError
from fpclass.study import plan as plans
from fpclass.study.plan import plan_study

NETWORKS = "configs/footprints/[ars]*[t8].py"  # alexnet, resnet18, swin_t; neither exp… nor baseline
PLAN = {"num_folds": 2, "num_seeds": 1, "baseline": None, "compare_splits": False}


@pytest.fixture(autouse=True)
def without_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("FPCLASS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FPCLASS_OFFLINE", "1")


def names(folder, *patterns, **changes):
    return plan_study(folder, patterns, changes.pop("overrides", []), **PLAN | changes).names


def test_configs_of_a_pattern_are_skipped_without_their_weights(tmp_path, capsys):
    """The study is of the others, with a line about each that is not in it."""
    assert names(tmp_path, "configs/footprints/baseline.py", NETWORKS) == ["baseline"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["skipped alexnet", "skipped resnet18", "skipped swin_t"]
    assert all("FPCLASS_OFFLINE" in line for line in lines)
    everything = names(tmp_path, "configs/footprints/*.py")
    assert len(everything) == 27
    assert everything[0] == "baseline"
    assert len(capsys.readouterr().out.splitlines()) == 9


def test_configs_that_are_named_are_not_skipped(tmp_path, capsys):
    """They fail, which the study says at its end: nobody asked for a study without them."""
    wanted = ["configs/footprints/baseline.py", "configs/footprints/resnet18.py"]
    assert names(tmp_path, *wanted) == ["baseline", "resnet18"]
    assert names(tmp_path, "configs/footprints/resnet*.py", *wanted) == ["baseline", "resnet18"]
    assert "skipped resnet18," not in capsys.readouterr().out


def test_from_random_weights_nothing_is_skipped(tmp_path):
    overrides = ["--config.model.weights="]
    assert names(tmp_path, NETWORKS, overrides=overrides) == ["alexnet", "resnet18", "swin_t"]


def test_nothing_is_left(tmp_path):
    with pytest.raises(ConfigError, match="alexnet, resnet18, swin_t start from pretrained weights that cannot be had"):
        names(tmp_path, NETWORKS)
    with pytest.raises(ConfigError, match="--baseline=resnet18"):
        names(tmp_path, "configs/footprints/[br]*.py", baseline="resnet18")


def test_a_value_that_does_not_fit_one_of_them_names_that_one(tmp_path):
    with pytest.raises(ConfigError, match=r"footprints/exp11_adamw_cosine\.py: config\.optim\.warmup_epochs is 3\.0"):
        names(tmp_path, "configs/footprints/exp1*.py", overrides=["--config.train.num_epochs=2"])


def test_what_a_study_has_already_stays_in_it(tmp_path, monkeypatch):
    """Its weights may be gone: its members are trained."""
    with monkeypatch.context() as patch:
        patch.setattr(plans, "require_weights", lambda config: None)
        plan = plan_study(tmp_path, ["configs/footprints/[br]*.py"], [], **PLAN)
        assert len(plan.names) == 3
    write_json(tmp_path / "study.json", plan.to_json())
    assert names(tmp_path, "configs/footprints/[br]*.py") == plan.names
