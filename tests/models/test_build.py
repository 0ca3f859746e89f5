"""What a network says of itself: its forms, and which of its kernels belong to hidden dense layers."""

import pytest
from flax.traverse_util import flatten_dict

from configs import base
from fpclass.errors import ConfigError
from fpclass.models.build import (
    build_model,
    explainable_form,
    has_matrix_form,
    matrix_form,
)
from fpclass.models.network import variable_shapes
from fpclass.models.registry import ARCHITECTURES


def model_config(name="cnn", **changes):
    config = base.get_config().model
    config.name = name
    config.update(changes)
    return config


def test_only_the_footprint_cnn_has_a_form_of_matrix_products():
    assert [name for name in ARCHITECTURES if has_matrix_form(model_config(name))] == ["cnn"]


@pytest.mark.parametrize(
    ("name", "form", "as_matrix", "explainable"),
    [
        ("cnn", "auto", "polyphase", "direct"),
        ("cnn", "direct", "direct", "direct"),
        ("cnn", "polyphase", "polyphase", "direct"),
        ("blocks", "auto", "auto", "auto"),
    ],
)
def test_forms(name, form, as_matrix, explainable):
    config = model_config(name, conv_form=form)
    assert matrix_form(config).to_dict() == model_config(name, conv_form=as_matrix).to_dict()
    assert explainable_form(config).to_dict() == model_config(name, conv_form=explainable).to_dict()
    assert config == model_config(name, conv_form=form), "the config itself stays as it was"


@pytest.mark.parametrize("ask", [has_matrix_form, matrix_form, explainable_form])
def test_an_unknown_name_is_refused(ask):
    with pytest.raises(
        ConfigError, match=r"model\.name is 'resnet19': did you mean resnet18\? expected one of cnn, blocks"
    ):
        ask(model_config("resnet19"))


@pytest.mark.parametrize(
    ("name", "changes", "widths"),
    [
        ("cnn", {"dense_features": (9, 8)}, [9, 8]),
        ("cnn", {}, []),
        ("blocks", {"dense_features": (9,), "head": "gap", "batch_norm": True}, [9]),
        ("resnet18", {"dense_features": (7, 5), "head": "gap"}, [7, 5]),
        ("airbench", {"conv_features": (8, 8)}, []),
        ("mobilenet_v3_large", {}, []),  # its hidden layer is a stage of the original, not of a head of ours
    ],
)
def test_hidden_dense_layers(name, changes, widths):
    model = build_model(model_config(name, **changes), 3, (64, 64))
    params = flatten_dict(variable_shapes(model, (64, 64, 3))["params"])
    assert [params[path].shape[-1] for path in model.hidden_dense] == widths
    assert all(path[-1] == "kernel" and "logits" not in path for path in model.hidden_dense)
    if name == "resnet18":
        assert model.suffix(3).hidden_dense == model.hidden_dense
        assert model.prefix(3).hidden_dense == ()
