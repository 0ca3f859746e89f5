"""The ports without their originals: golden outputs, parameter counts, grey stems, strict loading, sizes, heads."""

from __future__ import annotations

import functools
import json
import pathlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from backbone_cases import CASES, LABELS, RESNET18, Case, digest, draw_array, draw_images
from flax.traverse_util import flatten_dict
from test_parity import network_of, shapes_of, step_of, variables_of

from configs import base
from fpclass import experiment
from fpclass.errors import ConfigError, WeightsError
from fpclass.models import architectures
from fpclass.models.architecture import Published
from fpclass.models.build import build_model
from fpclass.models.network import OUTPUT
from fpclass.models.pretrained.load import load_weights
from fpclass.models.pretrained.manifest import MANIFEST
from fpclass.models.registry import ARCHITECTURES, FAMILIES

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden" / "backbones.npz"
IDS = [f"{case.name}-{case.variant}" for case in CASES]
OWN = {"cnn", "blocks", "airbench"}
"""Their cases: test_cnn.py and test_blocks.py."""


@functools.cache
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN))


def entry(case: Case, key: str):
    value = golden()[f"{case.name}.{case.variant}.{key}"]
    return json.loads(str(value)) if value.dtype.kind == "U" else value


def published_arrays(case: Case) -> dict[str, np.ndarray]:
    return {name: draw_array(name, tuple(shape)) for name, shape, _ in entry(case, "arrays")}


@functools.cache
def shapes_of_case(case: Case, size: tuple[int, int]):
    """Tracing a deep network takes a second; two tests need it."""
    return shapes_of(network_of(case, size), size)


def test_every_architecture_is_declared_once():
    """In one file below `architectures`, which the registry knows, under a name and with variants of their own."""
    modules = {f"{architectures.__name__}.{info.name}" for info in pkgutil.iter_modules(architectures.__path__)}
    assert {family.__name__ for family in FAMILIES} == modules
    declared = [architecture for family in FAMILIES for architecture in family.ARCHITECTURES]
    assert len(FAMILIES) == len(modules)
    assert [architecture.name for architecture in declared] == list(ARCHITECTURES)
    for architecture in declared:
        if isinstance(architecture, Published):
            variants = architecture.variants
            assert len({variant.name for variant in variants}) == len(variants) > 0, architecture.name
            tables = [table for variant in variants for table in (variant.mapping, *variant.other_mappings)]
            assert all(tables), architecture.name
            assert len(set(tables)) == len(tables), f"{architecture.name}: variants with the same mapping"


def test_all_are_tested():
    """A variant or a set of weights without a parity test and golden outputs is a defect."""
    tested = {(case.name, case.variant) for case in CASES if case.parity}
    assert set(ARCHITECTURES) == OWN | {name for name, _ in tested}
    assert {(weights.architecture, weights.variant) for weights in MANIFEST.values()} <= tested
    assert {tuple(key.split(".")[:2]) for key in golden()} == tested
    for file in pathlib.Path(base.__file__).parent.glob("[!s]*/*.py"):  # not spaces/
        if file.name.startswith("__"):
            continue
        config = experiment.load_config(str(file))
        assert config.model.name in OWN or (config.model.name, config.model.variant) in tested


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_parameter_count_and_stages(case):
    side = case.parity.built_for
    size = (side, side) if side else case.parity.sizes[0]  # most have as many at any size
    model = network_of(case, size)
    shapes = shapes_of_case(case, size)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == case.parity.num_parameters
    architecture = case.backbone
    assert model.stage_names == architecture.stage_names
    assert set(case.parity.stages) <= set(model.stage_names)
    assert len(set(model.stage_names)) == len(model.stage_names)
    assert flatten_dict(shapes["params"])[architecture.stem_kernel].shape[2] == 3
    assert model.cam_stage in model.stage_names


RARELY = ("vgg16-torchvision", "vgg16_bn-torchvision", "dinov2_vitb14-meta", "dinov2_vitb14_reg-meta")
"""Drawing their numbers takes a while, and others stand for them: Keras' VGG, the small networks of DINOv2."""


def often(case: Case):
    name = f"{case.name}-{case.variant}"
    return pytest.param(case, id=name, marks=[pytest.mark.slow] if name in RARELY else [])


@pytest.mark.parametrize("case", [often(case) for case in CASES])
def test_golden_outputs(case):
    """Stages and logits equal what the reference says for the same drawn weights."""
    size = case.parity.sizes[0]
    model = network_of(case, size)
    with jax.enable_x64(case.number is np.float64):
        variables = variables_of(case, shapes_of_case(case, size), published_arrays(case))
        run = jax.jit(lambda v, x: model.apply(v, x, train=False, mutable=["stages"]))
        logits, recorded = run(jax.tree.map(case.number, variables), case.number(draw_images(size, 2)))
    expected = entry(case, "logits")
    np.testing.assert_allclose(logits[:, : expected.shape[1]], expected, atol=1e-4 * np.abs(expected).max())
    for name, theirs in zip(case.parity.stages, entry(case, "stages"), strict=True):
        ours = digest(recorded["stages"][f"{name}{OUTPUT}"])
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max(), err_msg=name)


def test_golden_training_step():
    """Loss, norms of gradients and of updated statistics of a step in training mode."""
    with jax.enable_x64(True):
        images = draw_images(RESNET18.training_size, len(LABELS)).astype(np.float64)
        loss, updated, gradients = step_of(RESNET18, images, published_arrays(RESNET18))
    np.testing.assert_allclose(loss, entry(RESNET18, "loss"), rtol=1e-6)
    norms = sorted(np.linalg.norm(leaf) for leaf in jax.tree.leaves((gradients, updated)))
    expected = entry(RESNET18, "norms")
    np.testing.assert_allclose(norms, expected, rtol=1e-5, atol=1e-6 * max(expected))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "vit_b_16"])
def test_grey_images_see_the_sum_of_the_stem(name):
    """Exactly what repeating the grey channel gives."""
    case = next(case for case in CASES if case.name == name)
    size = case.parity.sizes[0]
    arrays = published_arrays(case)
    model = network_of(case, size).prefix(1)
    grey = draw_images(size, 2)[..., :1]
    names = [stage for stage in case.backbone.stage_names if stage not in model.stage_names]
    outputs = []
    for images in (grey, np.repeat(grey, 3, axis=-1)):
        variables = load_weights(
            arrays,
            case.mapping,
            shapes_of(model, size, images.shape[-1]),
            where="drawn",
            left_out=[*names, "head"],
            stem_kernel=case.backbone.stem_kernel,
        )
        outputs.append(jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images))
    np.testing.assert_allclose(*outputs, atol=1e-5 * np.abs(outputs[1]).max())


def test_a_stem_for_other_images_is_refused():
    case = RESNET18
    model = network_of(case, (64, 64))
    with pytest.raises(WeightsError, match=r"conv1.weight.*\(7, 7, 3, 64\).*\(7, 7, 4, 64\)"):
        load_weights(
            published_arrays(case),
            RESNET18.mapping,
            shapes_of(model, (64, 64), 4),
            where="drawn",
            stem_kernel=("stem", "conv1", "kernel"),
        )


def test_the_stem_of_a_bgr_network_is_turned_round():
    case = RESNET18
    model = network_of(case, (64, 64))
    shapes = shapes_of(model, (64, 64))
    load = lambda **options: load_weights(
        published_arrays(case), RESNET18.mapping, shapes, where="drawn",
        stem_kernel=("stem", "conv1", "kernel"), **options,
    )["params"]["stem"]["conv1"]["kernel"]  # fmt: skip
    np.testing.assert_array_equal(load(is_bgr=True), load()[:, :, ::-1])


BREAKS = {
    "an array too many": (lambda a: a | {"layer9.weight": np.ones(3)}, r"layer9\.weight.*no place"),
    "an array too few": (lambda a: {k: v for k, v in a.items() if k != "layer2.0.conv1.weight"},
                         r"params/layer2_0/conv1/kernel.*nothing in the file"),
    "another shape": (lambda a: a | {"bn1.bias": np.ones(63)}, r"bn1\.bias.*\(63,\).*\(64,\)"),
    "not a number": (lambda a: a | {"bn1.bias": np.full(64, np.nan)}, r"bn1\.bias.*not finite"),
    "several at once": (lambda a: {k: v for k, v in a.items() if k != "bn1.weight"} | {"x": np.ones(1)},
                        r"2 of its arrays.*x \(1,\).*stem/bn1/scale"),
}  # fmt: skip


@pytest.mark.parametrize(("break_it", "said"), BREAKS.values(), ids=BREAKS.keys())
def test_every_mismatch_is_reported(break_it, said):
    case = RESNET18
    shapes = shapes_of(network_of(case, (64, 64)), (64, 64))
    with pytest.raises(WeightsError, match=said) as refused:
        load_weights(break_it(published_arrays(case)), RESNET18.mapping, shapes, where="drawn")
    assert "\n" not in str(refused.value)


def test_a_sibling_is_refused():
    resnet34 = next(case for case in CASES if case.name == "resnet34")
    shapes = shapes_of(network_of(RESNET18, (64, 64)), (64, 64))
    with pytest.raises(WeightsError, match=r"the network has no params/layer1_2.*and \d+ more"):
        load_weights(published_arrays(resnet34), resnet34.mapping, shapes, where="sibling")


def test_only_what_is_named_may_be_left_out():
    case = RESNET18
    arrays = {name: array for name, array in published_arrays(case).items() if not name.startswith("fc.")}
    shapes = shapes_of(network_of(case, (64, 64)), (64, 64))
    rules = RESNET18.mapping
    with pytest.raises(WeightsError, match="params/head/logits/kernel"):
        load_weights(arrays, rules, shapes, where="drawn")
    loaded = load_weights(arrays, rules, shapes, where="drawn", left_out=["head"])
    assert set(loaded["params"]) == set(shapes["params"]) - {"head"}


def model_config(name, **changes):
    config = base.get_config().model
    config.name = name
    config.update(changes)
    return config


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_an_image_below_the_minimum_is_refused(case):
    smallest = case.backbone.min_size
    if smallest == (1, 1):
        return  # nothing is smaller
    config = model_config(case.name, variant=case.variant)
    build_model(config, 2, smallest)
    step = case.backbone.patch_size or 1
    with pytest.raises(ConfigError, match=r"data\.image_size.*at least"):
        build_model(config, 2, (smallest[0] - step, smallest[1]))


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_smallest_image_gives_finite_shapes(case):
    smallest = case.backbone.min_size
    model = build_model(model_config(case.name, variant=case.variant), 2, smallest)
    init = lambda x: model.init_with_output(jax.random.key(0), x, train=False)
    out, _ = jax.eval_shape(init, jnp.zeros((1, *smallest, 3)))
    assert out.shape == (1, 2)


HEADS = {
    "linear": ({"head": "gap", "dense_features": ()}, {"logits": (512, 3)}),
    "averages and deviations": ({"head": "moments", "dense_features": ()}, {"logits": (1024, 3)}),
    "average, dense, dropout": ({"head": "gap", "dense_features": (128,), "dropout_rate": 0.5},
                                {"dense1": (512, 128), "logits": (128, 3)}),
    "dense, dropout, dense, dropout": ({"head": "gap", "dense_features": (64, 32), "dropout_rate": 0.3},
                                       {"dense1": (512, 64), "dense2": (64, 32), "logits": (32, 3)}),
    "flatten, dense 1024, dropout": ({"head": "flatten", "dense_features": (1024,), "dropout_rate": 0.2},
                                     {"dense1": (512 * 2 * 3, 1024), "logits": (1024, 3)}),
    "cut off": ({"head": "gap", "dense_features": (), "last_stage": "layer2"}, {"logits": (128, 3)}),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "kernels"), HEADS.values(), ids=HEADS.keys())
def test_heads(changes, kernels):
    model = build_model(model_config("resnet18", **changes), 3, (64, 96))
    head = shapes_of(model, (64, 96))["params"]["head"]
    assert {name: layer["kernel"].shape for name, layer in head.items()} == kernels


def test_inception_is_cut_behind_mixed7():
    model = build_model(model_config("inception_v3", variant="keras", head="flatten", dense_features=(1024,),
                                     dropout_rate=0.2, last_stage="mixed7"), 2, (150, 150))  # fmt: skip
    assert model.stage_names[-1] == "mixed7"
    assert shapes_of(model, (150, 150))["params"]["head"]["dense1"]["kernel"].shape == (7 * 7 * 768, 1024)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"last_stage": "layer7", "head": "gap"}, "stem, layer1_0"),
        ({"last_stage": "layer2"}, r"model\.head=gap"),
        ({"variant": "keras"}, "torchvision"),
    ],
)
def test_a_network_that_cannot_be_is_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        build_model(model_config("resnet18", **changes), 2, (64, 64))
