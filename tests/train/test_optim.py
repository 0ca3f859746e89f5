"""Optimisers and schedules against closed forms, step by step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from configs import base
from fpclass.errors import ConfigError
from fpclass.models.build import build_model
from fpclass.models.network import variable_shapes
from fpclass.train.hyperparameters import Hyperparameters
from fpclass.train.optim import clip_gradients, kernels, learning_rate, make_optimizer, make_plateau

RATE = 0.1
PARAMS = {"kernel": jnp.array([[1.0, -2.0], [3.0, 0.5]]), "bias": jnp.array([1.0, -1.0])}
GRADS = [
    {"kernel": jnp.array([[0.3, -0.1], [2.0, 0.0]]), "bias": jnp.array([-0.5, 4.0])},
    {"kernel": jnp.array([[-0.2, -0.4], [1.0, 0.3]]), "bias": jnp.array([0.25, -1.0])},
    {"kernel": jnp.array([[0.1, 0.9], [-3.0, 0.2]]), "bias": jnp.array([-0.5, 0.0])},
]


def optim_config(**values: object) -> ConfigDict:
    config = base.get_config().optim
    config.update({"learning_rate": RATE, **values})
    return config


def rates(epochs: list[float], num_epochs: int, **values: object) -> np.ndarray:
    """Learning rates after so many epochs."""
    config = base.get_config()
    config.optim, config.train.num_epochs = optim_config(**values), num_epochs
    hyper = Hyperparameters.of(config)
    return np.array([learning_rate(config.optim, hyper, jnp.float32(epoch)) for epoch in epochs])


def run_steps(grads: list[dict[str, Any]] | None = None, **values: object) -> list[dict[str, np.ndarray]]:
    """Parameters before and after every step, in float64 for the comparison."""
    config = optim_config(**values)
    optimizer = make_optimizer(config)
    params, state = PARAMS, optimizer.init(PARAMS)
    path = [params]
    for grad in GRADS if grads is None else grads:
        updates, state = optimizer.update(clip_gradients(grad, config), state, params)
        params = optax.apply_updates(params, jax.tree.map(lambda update: -RATE * update, updates))
        path.append(params)
    return [jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params) for params in path]


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-5, atol=1e-6, err_msg=name)


def adam_by_hand(name: str, decay: float = 0.0) -> np.ndarray:
    """Kingma and Ba, ICLR 2015, algorithm 1; decoupled decay as Loshchilov and Hutter, ICLR 2019, algorithm 2."""
    value = np.asarray(PARAMS[name], np.float64)
    mean, square = np.zeros_like(value), np.zeros_like(value)
    for step, grads in enumerate(GRADS, start=1):
        grad = np.asarray(grads[name], np.float64)
        mean = 0.9 * mean + 0.1 * grad
        square = 0.999 * square + 0.001 * grad**2
        update = mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        value = value - RATE * (update + decay * value)
    return value


def test_the_first_step_of_adam_is_the_learning_rate_whatever_the_gradient() -> None:
    before, after = run_steps(GRADS[:1], name="adam")
    expected = {name: before[name] - RATE * np.sign(np.asarray(GRADS[0][name])) for name in PARAMS}
    assert_close(after, expected)


def test_adam_is_the_adam_of_the_paper_and_of_pytorch() -> None:
    assert_close(run_steps(name="adam")[-1], {name: adam_by_hand(name) for name in PARAMS})


def test_adamw_decays_the_weights_apart_from_the_gradient_and_spares_biases() -> None:
    found = run_steps(name="adamw", weight_decay=0.3)[-1]
    assert_close(found, {"kernel": adam_by_hand("kernel", decay=0.3), "bias": adam_by_hand("bias")})
    assert_close(run_steps(name="adamw")[-1], run_steps(name="adam")[-1])


@pytest.mark.parametrize("momentum", [0.9, 0.5, 0.0])
def test_sgd_with_momentum(momentum: float) -> None:
    """PyTorch's form: v <- momentum v + g, p <- p - rate v; the first step is a plain one."""
    expected = {}
    for name in PARAMS:
        value, velocity = np.asarray(PARAMS[name], np.float64), 0.0
        for grads in GRADS:
            velocity = momentum * velocity + np.asarray(grads[name], np.float64)
            value = value - RATE * velocity
        expected[name] = value
    assert_close(run_steps(name="sgd", momentum=momentum)[-1], expected)


@pytest.mark.parametrize("name", ["swin_t", "vit_b_16", "convnext_tiny"])
def test_the_decay_pulls_at_kernels_alone(name: str) -> None:
    """Positions, class tokens and scales have more than one axis too."""
    config = base.get_config().model
    config.name = name
    shapes = variable_shapes(build_model(config, 2, (224, 224)), (224, 224, 3))["params"]
    chosen = {path for path, is_kernel in flatten_dict(kernels(shapes)).items() if is_kernel}
    assert {path[-1] for path in chosen} == {"kernel"}
    others = {path[-1] for path, leaf in flatten_dict(shapes).items() if path not in chosen and leaf.ndim > 1}
    assert others <= {"position_bias", "class_token", "position_embedding"}
    assert kernels(flatten_dict(shapes)) == flatten_dict(kernels(shapes)), "by path, as the engine has them"


def test_the_decay_of_sgd_does_not_enter_the_momentum_and_spares_biases() -> None:
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    path = run_steps([zero] * 3, name="sgd", weight_decay=0.2)
    start = path[0]
    assert_close(path[-1], {"kernel": start["kernel"] * (1 - RATE * 0.2) ** 3, "bias": start["bias"]})


def test_rmsprop_divides_by_the_running_root_mean_square() -> None:
    expected = {}
    for name in PARAMS:
        value, square, velocity = np.asarray(PARAMS[name], np.float64), 0.0, 0.0
        for grads in GRADS:
            grad = np.asarray(grads[name], np.float64)
            square = 0.9 * square + 0.1 * grad**2
            velocity = 0.9 * velocity + grad / np.sqrt(square + 1e-8)
            value = value - RATE * velocity
        expected[name] = value
    assert_close(run_steps(name="rmsprop", momentum=0.9)[-1], expected)


def test_the_gradient_is_clipped_by_the_norm_of_all_of_it() -> None:
    """By one norm over kernel and bias together, before the optimiser sees it."""
    norms = [np.sqrt(sum(float((np.asarray(part) ** 2).sum()) for part in grads.values())) for grads in GRADS]
    limit = sorted(norms)[1]  # one gradient is longer, one shorter
    shorter = [jax.tree.map(lambda g, n=n: g * min(1, limit / n), grads) for grads, n in zip(GRADS, norms, strict=True)]
    for name in ("sgd", "adam"):
        assert_close(run_steps(name=name, gradient_clip_norm=limit)[-1], run_steps(shorter, name=name)[-1])
    assert_close(run_steps(name="sgd", gradient_clip_norm=max(norms) * 2)[-1], run_steps(name="sgd")[-1])


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_a_constant_schedule(schedule: str) -> None:
    assert rates([0, 1, 20, 1000], 3, schedule=schedule) == pytest.approx([RATE] * 4)


def test_cosine_goes_from_the_full_rate_to_zero() -> None:
    found = rates([step / 10 for step in range(45)], 4, schedule="cosine")
    expected = RATE * 0.5 * (1 + np.cos(np.pi * np.minimum(np.arange(45), 40) / 40))
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert found[0] == pytest.approx(RATE)
    assert found[20] == pytest.approx(RATE / 2)
    assert found[40] == pytest.approx(0, abs=1e-9)


def test_warm_up_rises_in_a_line_and_the_cosine_follows() -> None:
    found = rates([step / 10 for step in range(41)], 4, schedule="cosine", warmup_epochs=1.5)
    np.testing.assert_allclose(found[:15], RATE * np.arange(15) / 15, atol=1e-7)
    np.testing.assert_allclose(found[15:], RATE * 0.5 * (1 + np.cos(np.pi * np.arange(26) / 25)), atol=1e-7)
    assert found.argmax() == 15
    assert found[-1] == pytest.approx(0, abs=1e-9), "the schedule ends with the training, warm-up included"


def test_a_schedule_of_one_epoch_is_no_error() -> None:
    for warmup in (0.0, 0.9):
        assert np.isfinite(rates([0], 1, schedule="cosine", warmup_epochs=warmup)).all()


def test_linear_rises_to_the_full_rate_and_falls_to_zero() -> None:
    found = rates([0, 0.5, 1, 3, 5], 5, schedule="linear", warmup_epochs=1.0)
    assert found / RATE == pytest.approx([0, 0.5, 1, 0.5, 0], abs=1e-6)
    assert rates([0, 1, 4], 4, schedule="linear") / RATE == pytest.approx([1, 0.75, 0], abs=1e-6)


def test_nesterov_looks_ahead() -> None:
    """Sutskever's form: the step is momentum times the new velocity, plus the gradient; optax and PyTorch agree."""
    found = run_steps(name="sgd", momentum=0.9, nesterov=True)
    velocity, expected = jax.tree.map(np.zeros_like, PARAMS), jax.tree.map(np.asarray, PARAMS)
    for grad, now in zip(GRADS, found[1:], strict=True):
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, grad)
        expected = jax.tree.map(lambda p, v, g: p - RATE * (0.9 * v + g), expected, velocity, grad)
        assert_close(now, expected)


def plateau_scales(losses: list[float], **values: object) -> list[float]:
    plateau = make_plateau(optim_config(schedule="plateau", **values))
    state = plateau.init(PARAMS)
    scales = []
    for loss in losses:
        _, state = plateau.update({}, state, value=jnp.asarray(loss))
        scales.append(float(state.scale))
    return scales


def test_plateau_halves_the_rate_after_so_many_evaluations_without_a_better_loss() -> None:
    losses = [1.0, 0.9, 0.95, 0.9, 0.91, 0.92, 0.93, 0.94]
    assert plateau_scales(losses, plateau_patience=3) == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    assert plateau_scales(losses, plateau_patience=3, plateau_factor=0.1) == pytest.approx(
        [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01]
    )


def test_a_better_loss_starts_the_count_again() -> None:
    assert plateau_scales([1.0, 1.1, 1.1, 0.8, 0.9, 0.9, 0.7, 0.7], plateau_patience=3) == [1] * 8


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "adam", "nesterov": True}, "optim.nesterov is True but optim.name is 'adam': that is for sgd"),
        ({"name": "adam", "weight_decay": 0.1}, "optim.weight_decay is 0.1 but optim.name is 'adam': choose adamw"),
        ({"name": "rmsprop", "weight_decay": 0.1}, "optim.weight_decay is 0.1 but optim.name is 'rmsprop'"),
    ],
)
def test_what_does_not_exist_is_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_optimizer(optim_config(**values))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
