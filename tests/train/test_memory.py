"""Not enough memory is one line with the keys that ask for less, and no batch is larger than the data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_training import small_config

from fpclass.data.table import Table, make_rows
from fpclass.errors import TrainingError, is_out_of_memory
from fpclass.train import placement
from fpclass.train.memory import fitted_batch, told_in_one_line

TOO_MUCH = 10**14


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: jnp.zeros((TOO_MUCH,)).block_until_ready(),
        lambda: jax.jit(lambda x: jnp.sort(jnp.outer(x, x).ravel()))(jnp.ones(10**7)).block_until_ready(),
        lambda: np.zeros(TOO_MUCH),
        lambda: bytearray(TOO_MUCH * 1000),
    ],
    ids=["array", "program", "numpy", "python"],
)
def test_a_real_allocation_that_is_too_large_is_one_line(allocate) -> None:
    config = small_config(train__batch_size=48, train__accumulate=2, train__remat=True)
    with pytest.raises(TrainingError) as caught, told_in_one_line(config):
        allocate()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for words in (
        "out of memory", "train.batch_size (now 48)", "train.accumulate (now 2)", "train.remat=True (now True",
        "data.image_size (now 24 x 20)",
    ):  # fmt: skip
        assert words in message


@pytest.mark.parametrize(
    "error",
    [
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 21.5GiB.\n[allocator"),
        jax.errors.JaxRuntimeError("INTERNAL: Failed to allocate: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        MemoryError("std::bad_alloc"),
        MemoryError(),
    ],
    ids=["xla", "cuda", "c++", "bare"],
)
def test_what_devices_say_of_their_memory_is_one_line(error: Exception) -> None:
    assert is_out_of_memory(error)
    with pytest.raises(TrainingError) as caught, told_in_one_line(small_config()):
        raise error
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "error", [jax.errors.JaxRuntimeError("INTERNAL: another"), RuntimeError("out of memory, said somebody else")]
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)), told_in_one_line(small_config()):
        raise error


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "num_images", "num_devices", "expected"),
    [
        (32, 1, 100, 1, 32),
        (32, 1, 32, 1, 32),
        (32, 1, 20, 1, 20),
        (10**9, 1, 20, 1, 20),
        (64, 8, 20, 1, 24),
        (64, 1, 21, 4, 24),
        (48, 6, 20, 4, 24),
        (4, 4, 1, 1, 4),
        (32, 1, 0, 1, 1),
    ],
)
def test_a_batch_is_no_larger_than_the_data(batch_size, accumulate, num_images, num_devices, expected) -> None:
    config = small_config(train__batch_size=batch_size, train__accumulate=accumulate)
    fitted = fitted_batch(config, num_images, num_devices)
    assert fitted.train.batch_size == expected
    assert config.train.batch_size == batch_size, "what is written down stays as it was given"
    assert expected % accumulate == 0
    assert (fitted is config) == (expected == batch_size)


def test_engines_take_the_fitted_batch() -> None:
    config = small_config(train__batch_size=10**9)
    names = [f"{i}" for i in range(6)]
    rows = make_rows(names, names, ["a", "b"] * 3, ("a", "b"))
    table = Table(rows, ("a", "b"), ("a", "b"), read=lambda i: b"", source="test")
    images = np.zeros((6, 24, 20, 1), np.uint8)
    assert placement.place_run(config, table, images).engine.batch_size == 6
    assert placement.place_members(config, table, images, 2).engine.batch_size == 6


@pytest.mark.parametrize(("name", "dtype", "is_said"), [("cnn", "bfloat16", True), ("cnn", "float32", False),
                                                        ("resnet18", "bfloat16", False)])  # fmt: skip
def test_a_type_that_makes_it_slower_is_said(name, dtype, is_said, capsys) -> None:
    placement.warn_of_slow_type(small_config(model__name=name, model__compute_dtype=dtype))
    assert ("takes nearly twice as long" in capsys.readouterr().out) == is_said
