"""Every key that training reads changes what is trained: two epochs with it differ from two epochs without it.

Each test would be green with any one of the others' keys cut off; with its own key cut off it is red.
"""

from __future__ import annotations

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_training import SIZE, member, noise_dataset, small_config

from configs import base
from fpclass.config import flatten
from fpclass.data.splits import SELECTION, TRAIN, VALIDATION
from fpclass.models.build import build_model
from fpclass.run.train import make_member
from fpclass.train.device_engine import epoch_batches, make_functions, make_judge
from fpclass.train.hyperparameters import Hyperparameters
from fpclass.train.inputs import image_inputs
from fpclass.train.predict import make_predict, make_views
from fpclass.train.step import make_draw_batch

TINY = {"model.conv_features": (2,), "model.kernel_size": 3, "model.dense_features": (), "optim.learning_rate": 0.05}
"""Of all trainings here: the smallest network, whose programs compile soonest."""
SGD = {"optim.name": "sgd"}
DENSE = {"model.dense_features": (4,)}
BLOCKS = {"model.name": "blocks", "model.kernel_size": 5, "model.conv_features": (2, 2), "model.convs_per_block": 1}
COSINE = {"optim.schedule": "cosine"}
FROZEN = {**BLOCKS, "finetune.freeze_before": "block2"}

TRAINED: dict[str, tuple[object, dict[str, object]]] = {
    # key: (its value, what else is set, in the training that it is compared with too)
    "seed": (7, {}),
    "data.mean": ((0.1,), {}),
    "data.std": ((0.9,), {}),
    "augment.flip_probability": (1.0, {}),
    "augment.flip_alternates": (True, {}),
    "augment.mixup_alpha": (1.0, {}),
    "augment.cutmix_alpha": (1.0, {}),
    "model.name": ("blocks", {"model.kernel_size": 5}),
    "model.conv_features": ((3,), {}),
    "model.kernel_size": (5, {}),
    "model.convs_per_block": (2, BLOCKS),
    "model.block_dropout_rate": (0.5, BLOCKS),
    "model.dense_features": ((4,), {}),
    "model.dropout_rate": (0.5, {}),
    "model.batch_norm": (True, DENSE),
    "model.head": ("gap", {}),
    "model.output": ("sigmoid", {}),
    "model.squeeze_excitation": (2, {}),
    "model.dense_l2": (0.1, DENSE),
    "model.compute_dtype": ("bfloat16", {}),
    "finetune.freeze_before": ("block2", BLOCKS),
    "finetune.num_frozen": (1, BLOCKS),
    "finetune.unfreeze": ((("block1", 1),), FROZEN),
    "finetune.batch_norm": ("frozen_stats", {**BLOCKS, "model.batch_norm": True}),
    "finetune.new_stem": (True, FROZEN),
    "finetune.backbone_rate": (0.1, BLOCKS),
    "finetune.rate_decay": (0.1, BLOCKS),
    "optim.name": ("sgd", {}),
    "optim.learning_rate": (0.01, {}),
    "optim.momentum": (0.1, SGD),
    "optim.nesterov": (True, SGD),
    "optim.weight_decay": (0.5, SGD),
    "optim.norm_bias_rate": (64.0, {**BLOCKS, "model.batch_norm": True}),
    "optim.gradient_clip_norm": (1e-3, SGD),
    "optim.schedule": ("linear", {}),
    "optim.warmup_epochs": (1.0, COSINE),
    "train.batch_size": (4, {}),
    "train.num_epochs": (3, {}),
    "train.label_smoothing": (0.3, {}),
    "train.ema_decay": (0.9, {}),
}

DRAWN: dict[str, tuple[object, dict[str, object]]] = {
    # likewise, of the images that a step takes; flips and mixing, above, have the rest of the way
    "vertical_flip_probability": (1.0, {}),
    "brightness": (0.5, {}),
    "contrast": (0.5, {}),
    "brightness_shift": (0.5, {}),
    "saturation": (0.5, {"channels": 3}),
    "hue": (0.4, {"channels": 3}),
    "channel_shift": (0.5, {}),
    "sharpness": (0.5, {}),
    "blur_sigma_px": (2.0, {}),
    "policy_operations": (1, {}),
    "policy_magnitude": (2.0, {"policy_operations": 1}),
    "policy_names": (("brightness",), {"policy_operations": 1}),
    "max_rotation_deg": (40.0, {}),
    "translation": ((0.3, 0.3), {}),
    "shear": ((0.3, 0.3), {}),
    "zoom": ((0.3,), {}),
    "scale": ((0.5, 0.7), {}),
    "perspective": (0.5, {}),
    "elastic_alpha_px": (2.0, {}),
    "elastic_sigma_px": (2.0, {"elastic_alpha_px": 2.0}),
    "fill_mode": ("reflect", {"translation": (0.3, 0.3)}),
    "interpolation": ("nearest", {"zoom": (0.3,)}),
    "fill_value": (1.0, {"translation": (0.3, 0.3)}),
    "height_width": ((0.3, 0.3), {}),
    "noise": (0.1, {}),
    "erasing_probability": (1.0, {}),
    "erasing_area": ((0.6, 0.7), {"erasing_probability": 1.0}),
    "erasing_aspect": ((3.0, 3.1), {"erasing_probability": 1.0}),
    "erased_value": (1.0, {"erasing_probability": 1.0}),
    "cutout_px": (6, {}),
    "custom": ("test_switches:inverted", {}),
    "fixed_views": (1, {"brightness": 0.5}),
    "class_probability": ((0.0, 0.0), {"brightness": 0.5}),
}

JUDGED = ("train.early_stopping", "train.patience", "train.selection_metric", "optim.plateau_factor",
          "optim.plateau_patience")  # fmt: skip
PREDICTED = ("predict.flip", "predict.shift_px", "predict.averaging")
ELSEWHERE = {
    "the same results, by their tests": (
        "model.conv_form", "train.accumulate", "train.remat", "train.num_devices", "train.checkpoint_seconds",
        "train.max_minutes",
        "train.eval_every_epochs", "finetune.cache_gb", "data.memory_gb", "hardware.", "code_folders",
    ),
    "of networks with weights: tests/train/test_task.py, tests/train/test_subclasses.py": (
        "model.variant", "model.weights", "model.last_stage", "model.probe_stages", "model.subclasses",
        "finetune.cache_views",
    ),
    "tests/run/test_probe_run.py": ("finetune.from_probe", "model.probe_pooling"),
    "tests/run/test_transductive.py, tests/train/test_self_training.py": ("unlabelled.",),
    "make_member, below": ("train.class_weights",),
    "before training: tests/data": ("name", "data.", "split."),
    "after training": ("study.", "evaluate.", "explain.", "submit.", "predict.pool"),
}  # fmt: skip


def inverted(key, image):
    """An augmentation of the user's own."""
    del key
    return -image


def config_of(**changes):
    return small_config(train__num_epochs=2, **changes)


def changed(settings):
    """The tiny config with these settings; the flip is off, and so are the schedule and the average."""
    config = config_of()
    for key, value in (TINY | dict(settings)).items():
        *section, name = key.split(".")
        (config[section[0]] if section else config)[name] = value
    return config


@functools.cache
def trained(settings):
    """Parameters, averaged ones where there are any, and losses after all epochs of a tiny training."""
    config, dataset = changed(settings), noise_dataset()
    functions = make_functions(build_model(config.model, 2, SIZE), config)
    who = member(config.seed)
    state, losses = functions.init(who, dataset), []  # not compiled: its operations are those of all trainings here
    steps = [jax.jit(step) for step in functions.train_steps]
    for epoch in range(config.train.num_epochs):
        for rows in epoch_batches(who, jnp.int32(epoch), config.train.batch_size):
            state, sums = steps[functions.plan.phase_at(epoch)](state, who, dataset, Hyperparameters.of(config), rows)
            losses.append(sums["loss"])
        state = state.replace(epoch=state.epoch + 1)
    leaves = jax.tree.leaves((state.params, state.batch_stats, state.average))
    return [np.asarray(leaf, np.float64) for leaf in [*leaves, jnp.stack(losses)]]


def are_equal(some, others):
    """But for the rounding of two programs."""
    same_shapes = [leaf.shape for leaf in some] == [leaf.shape for leaf in others]
    return same_shapes and all(np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(some, others, strict=True))


@pytest.mark.parametrize("key", TRAINED)
def test_two_epochs_with_a_key_differ_from_two_without_it(key):
    value, context = TRAINED[key]
    without = trained(tuple(context.items()))
    assert all(np.isfinite(leaf).all() for leaf in without)
    with_it = trained((*context.items(), (key, value)))
    assert all(np.isfinite(leaf).all() for leaf in with_it)
    assert not are_equal(with_it, without)


def test_a_training_is_what_its_config_and_seed_say():
    """Or the tests above would be green for any key."""
    again = trained.__wrapped__(())
    assert are_equal(again, trained(()))


@pytest.mark.parametrize(("smoothing", "right", "others"), [(0.0, 1, 0), (0.3, 0.85, 0.15)])
def test_targets_are_smoothed_by_the_share_that_the_config_says(smoothing, right, others):
    """Uniformly over all classes, the right one included."""
    config = config_of(train__label_smoothing=smoothing)
    now = types.SimpleNamespace(epoch=jnp.int32(0), step=jnp.int32(0))
    dataset, rows = noise_dataset(), jnp.arange(8)
    _, targets = make_draw_batch(config, image_inputs(config))(now, member(), dataset, Hyperparameters.of(config), rows)
    np.testing.assert_allclose(targets, np.where(np.eye(2)[dataset.labels[rows]], right, others), rtol=1e-6)


def drawn(settings):
    """The first batch of the first epoch."""
    config = config_of(**{f"augment__{key}": value for key, value in settings.items() if key != "channels"})
    dataset = noise_dataset()
    if settings.get("channels"):
        config.data.channels = 3
        shades = jnp.arange(1, 4, dtype=jnp.uint8) * 20
        dataset = dataset.replace(images=dataset.images // 2 + shades)
    draw_batch = make_draw_batch(config, image_inputs(config))
    now = types.SimpleNamespace(epoch=jnp.int32(0), step=jnp.int32(0))
    images, _ = jax.jit(lambda: draw_batch(now, member(), dataset, Hyperparameters.of(config), jnp.arange(8)))()
    return np.asarray(images)


@pytest.mark.parametrize("key", DRAWN)
def test_images_drawn_with_a_key_differ_from_those_without_it(key):
    value, context = DRAWN[key]
    with_it = drawn({**context, key: value})
    assert np.isfinite(with_it).all()
    assert not np.allclose(with_it, drawn(context))


def test_every_key_has_a_test_here_or_a_reason():
    here = {*TRAINED, *(f"augment.{key}" for key in DRAWN), *JUDGED, *PREDICTED}
    excused = tuple(key for keys in ELSEWHERE.values() for key in keys)
    missing = [key for key in flatten(base.get_config()) if key not in here and not key.startswith(excused)]
    assert not missing, "a new key of training needs a line in one of the tables above"
    assert here <= set(flatten(base.get_config()))


# --- what an evaluation decides -------------------------------------------------------------------

LABELS = np.arange(40) % 2
SURE_BUT_WRONG = (0.9, 20.0)
"""Share of right answers and how sure all of them are: better in accuracy, and worse in log-loss, than the next."""
UNSURE = (0.6, 0.1)


@functools.cache
def fresh(decay):
    """The state that a training starts from."""
    config = config_of(train__ema_decay=decay)
    return make_functions(build_model(config.model, 2, SIZE), config).init(member(), noise_dataset())


def judged(evaluations, **changes):
    """The states after evaluations whose logits on the selection rows are right so often, and so sure."""
    config = config_of(**changes)
    who, judge = member(), make_judge(config)
    selection = np.asarray(who.selection_rows)
    dataset = noise_dataset().replace(labels=jnp.asarray(LABELS))
    state, states = fresh(config.train.ema_decay), []
    for i, (share, sureness) in enumerate(evaluations, start=1):
        is_right = np.arange(len(selection)) < round(share * len(selection))
        says = np.where(is_right, LABELS[selection], 1 - LABELS[selection])
        logits = jnp.asarray(sureness * np.eye(2)[says], jnp.float32)
        if i == 1:
            state = state.replace(average=jax.tree.map(lambda leaf: leaf + 1, state.average))
        state = state.replace(epoch=jnp.int32(i))
        state, _ = judge(state, who, dataset.labels, {"selection": logits, "validation": jnp.zeros((10, 2))})
        states.append(state)
    return states


def best_epoch(evaluations, **changes):
    return int(judged(evaluations, **changes)[-1].best.epoch)


def test_the_epoch_that_is_kept_is_the_best_by_the_metric_that_is_named():
    for order in ((SURE_BUT_WRONG, UNSURE), (UNSURE, SURE_BUT_WRONG)):
        by = {name: best_epoch(order, train__early_stopping="restore_best", train__selection_metric=name)
              for name in ("accuracy", "loss", "macro_f1")}  # fmt: skip
        accurate, cautious = order.index(SURE_BUT_WRONG) + 1, order.index(UNSURE) + 1
        assert by == {"accuracy": accurate, "loss": cautious, "macro_f1": accurate}
        assert best_epoch(order) == 2, "without early stopping the last one"


def test_of_epochs_that_score_the_same_the_one_with_the_lowest_loss_is_kept():
    """On few images many epochs do, and the sure among them err most dearly."""
    same = [(0.5, 1.0), (0.8, 4.0), (0.8, 2.0), (0.8, 3.0), (0.6, 0.1)]
    for metric in ("accuracy", "macro_f1"):
        assert best_epoch(same, train__early_stopping="restore_best", train__selection_metric=metric) == 3
    states = judged(same, train__early_stopping="patience", train__patience=2)
    assert [bool(state.is_stopped) for state in states].index(True) == 3, "patience is for the metric alone"


def test_patience_counts_evaluations():
    falling = [(0.9, 1.0), (0.8, 1.0), (0.7, 1.0), (0.6, 1.0)]
    for patience in (1, 2, 3):
        states = judged(falling, train__early_stopping="patience", train__patience=patience)
        assert [bool(state.is_stopped) for state in states].index(True) == patience
    assert not any(bool(state.is_stopped) for state in judged(falling, train__early_stopping="restore_best"))


def test_the_plateau_lowers_the_rate_by_its_factor_after_its_patience():
    worse = [(0.9, 1.0)] + [(0.2, 1.0)] * 4
    for patience, factor in ((1, 0.5), (3, 0.5), (3, 0.1)):
        states = judged(worse, optim__schedule="plateau", optim__plateau_patience=patience,
                        optim__plateau_factor=factor)  # fmt: skip
        scales = [float(state.plateau.scale) for state in states]
        assert scales[patience] == pytest.approx(factor)
        assert scales[:patience] == [1.0] * patience
    assert float(judged(worse)[-1].plateau.scale) == 1.0


def test_a_step_goes_as_far_as_the_plateau_says():
    """With plain gradient descent, a fifth of the way at a fifth of the rate."""
    config, dataset, who = (
        changed({**SGD, "optim.momentum": 0.0, "optim.schedule": "plateau"}),
        noise_dataset(),
        member(),
    )
    functions = make_functions(build_model(config.model, 2, SIZE), config)
    start, step, ways = functions.init(who, dataset), jax.jit(functions.train_steps[0]), []
    for scale in (1.0, 0.2):
        state, _ = step(
            start.replace(plateau=start.plateau._replace(scale=jnp.float32(scale))),
            who,
            dataset,
            Hyperparameters.of(config),
            jnp.arange(8),
        )
        ways.append(jax.tree.map(lambda new, old: np.asarray(new - old), state.params, start.params))
    for whole, fifth in zip(*map(jax.tree.leaves, ways), strict=True):
        assert np.abs(whole).max() > 1e-4
        np.testing.assert_allclose(fifth, 0.2 * whole, rtol=1e-3, atol=1e-6)


def test_the_average_is_what_is_judged_and_kept():
    (state,) = judged([UNSURE], train__ema_decay=0.9)
    for kept, averaged in zip(jax.tree.leaves(state.best.params), jax.tree.leaves(state.average[0]), strict=True):
        np.testing.assert_array_equal(kept, averaged)
    kept, trained_now = (jax.tree.leaves(params)[0] for params in (state.best.params, state.params))
    assert not np.allclose(kept, trained_now)


def test_the_average_is_of_the_weights_after_every_step():
    """By hand in NumPy: its memory is (1 + t) / (10 + t) of itself at step t, and never more than `train.ema_decay`."""
    decay, shares = 0.2, (1 / 10, 2 / 11, 0.2)  # 3 / 12 is more than 0.2
    config, dataset, who = changed((("train.ema_decay", decay),)), noise_dataset(), member()
    functions = make_functions(build_model(config.model, 2, SIZE), config)
    state, step = functions.init(who, dataset), jax.jit(functions.train_steps[0])
    expected = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(state.params)]
    for share, rows in zip(shares, epoch_batches(who, jnp.int32(0), config.train.batch_size), strict=True):
        state, _ = step(state, who, dataset, Hyperparameters.of(config), rows)
        now = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(state.params)]
        expected = [share * old + (1 - share) * new for old, new in zip(expected, now, strict=True)]
    for averaged, by_hand, new in zip(jax.tree.leaves(state.average[0]), expected, now, strict=True):
        np.testing.assert_allclose(averaged, by_hand, rtol=1e-5, atol=1e-7)
        assert not np.allclose(averaged, new, rtol=1e-5, atol=1e-7)


# --- what a prediction averages, what a member weighs ----------------------------------------------


def predicted(**changes):
    config = config_of(model__dense_features=(), **changes)
    model, dataset = build_model(config.model, 2, SIZE), noise_dataset()
    variables = model.init(jax.random.key(0), jnp.zeros((1, *SIZE, 1)), train=False)
    return np.asarray(make_predict(model, config)(variables["params"], {}, dataset.images, jnp.arange(6)))


def test_predictions_average_over_views():
    plain, flipped, shifted = predicted(), predicted(predict__flip=True), predicted(predict__shift_px=3)
    assert not np.allclose(plain, flipped, atol=1e-3)
    assert not np.allclose(plain, shifted, atol=1e-3)
    of_logits = predicted(predict__flip=True, predict__averaging="logits")
    assert not np.allclose(of_logits - of_logits[:, :1], flipped - flipped[:, :1], atol=1e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_views_are_the_image_shifted_in_four_directions_and_their_mirror_images(flip):
    images = np.random.default_rng(0).random((2, *SIZE, 1), np.float32)
    framed = np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="edge")
    height, width = SIZE
    expected = [framed[:, 3 - down : 3 - down + height, 3 - right : 3 - right + width]
                for down, right in ((0, 0), (3, 0), (-3, 0), (0, 3), (0, -3))]  # fmt: skip
    expected += [image[:, :, ::-1] for image in expected] if flip else []
    views = make_views(config_of(predict__shift_px=3, predict__flip=flip).predict)
    np.testing.assert_array_equal([view(images) for view in views], expected)


def test_each_fold_has_a_seed_of_its_own():
    """Or the members of a study would all begin with the same weights and draw the same augmentations."""
    prepared = types.SimpleNamespace(
        splits=types.SimpleNamespace(rows=lambda role: np.arange(4)),
        table=types.SimpleNamespace(labels=np.array([0, 1, 0, 1]), num_classes=2),
    )
    seeds = {}
    for seed in (0, 1, 2**32 - 1):
        for fold in (-1, 0, 1, 2, 9):
            config = small_config(split__fold=fold)
            config.seed = seed
            seeds[seed, fold] = int(make_member(config, prepared).seed)
    for seed in (0, 1, 2**32 - 1):
        assert seeds.pop((seed, -1)) == seeds[seed, 0] == seed, "one split has the config's, as the first fold has"
    assert len(set(seeds.values())) == len(seeds)


def test_balanced_weights_are_those_of_the_training_images():
    """Three of class 0 for each of class 1 in training; elsewhere it is the other way round."""
    config = small_config(train__early_stopping="restore_best")
    labels = np.array([0, 0, 0, 1] * 4 + [1, 1, 1, 0] * 2)
    roles = np.array([TRAIN] * 16 + [SELECTION] * 4 + [VALIDATION] * 4)
    prepared = types.SimpleNamespace(
        splits=types.SimpleNamespace(rows=lambda role: np.flatnonzero(roles == role)),
        table=types.SimpleNamespace(labels=labels, num_classes=2),
    )
    np.testing.assert_array_equal(make_member(config, prepared).class_weights, [1, 1])
    config.train.class_weights = "balanced"
    np.testing.assert_allclose(make_member(config, prepared).class_weights, [16 / 24, 16 / 8])
    assert make_member(config, prepared).selection_rows.tolist() == [16, 17, 18, 19]
    config.split.selection = "validation"
    assert make_member(config, prepared).selection_rows.tolist() == [20, 21, 22, 23]
