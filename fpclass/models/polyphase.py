"""Convolution, bias, ReLU and 2x2 max-pool as one matrix product, for backends whose convolutions are slow.

The four convolution outputs below one pooled pixel see a window of (k + 1) x (k + 1) pixels, or, once 2 x 2 pixels are
gathered into one block of 4C channels, of `taps` x `taps` blocks. So the convolution at the four positions ("phases")
is one matrix of 4F kernels, zero-padded to that window, times the patches of blocks; the pool is the largest of four.

Matrix products are what a CPU does well; moving the data around them is what costs. Hence the rest of this file:
positions are the last axis, so that patches are long contiguous copies; batches are worked through in parts whose
patches stay in the cache; the backward pass is written by hand and keeps one byte per output (which phase won), where
automatic differentiation keeps the values before the pool. docs/performance.md has the measurements.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

EXAMPLES_PER_PART = 8
"""Images whose patches are built at a time on CPU. Chosen: at 120 x 80, 4 costs 9 % more, 16 costs 24 %."""
IMAGE_CHANNELS = 4
"""Inputs with more channels are activations."""
NO_PHASE = 4
"""Winner's code where the ReLU is off, so that no phase gets a gradient."""


def conv_relu_pool(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c f"], bias: Float[Array, " f"]
) -> Float[Array, "n h2 w2 f"]:
    """Computes max_pool_2x2(relu(conv_valid(x, kernel) + bias)); h2 = (h - k + 1) // 2, w2 = (w - k + 1) // 2.

    Differentiable in reverse mode in all three arguments; where outputs tie, the first of the four gets the gradient.

    Raises:
      ValueError: images too small for a single pooled pixel.
    """
    num_images, size, features = x.shape[0], kernel.shape[0], kernel.shape[-1]
    height, width = (x.shape[1] - size + 1) // 2, (x.shape[2] - size + 1) // 2
    if min(height, width) < 1:
        raise ValueError(f"images of {x.shape[1:3]} are too small for a {size}x{size} convolution and a 2x2 pool")
    dtype = jnp.result_type(x, kernel, bias)
    x, kernel, bias = x.astype(dtype), kernel.astype(dtype), bias.astype(dtype)
    part = _examples_per_part(num_images)
    blocks = _to_blocks(x, height + size // 2, width + size // 2, part)
    z: Array = _product_and_pool(blocks, _phase_matrix(kernel), bias, (height, width))
    return z.transpose(0, 4, 2, 3, 1).reshape(num_images, height, width, features)


def _examples_per_part(num_images: int) -> int:
    """The part of a batch that is worked on at a time, a divisor of it; all of it where there is no small cache."""
    if jax.default_backend() != "cpu":
        return num_images
    return max(n for n in range(1, EXAMPLES_PER_PART + 1) if num_images % n == 0)


def _to_blocks(x: Float[Array, "n h w c"], rows: int, columns: int, part: int) -> Float[Array, "s c4 r j p"]:
    """Gathers 2 x 2 pixels into a block and moves positions last: [parts, 4C, rows, columns, examples of a part].

    An even kernel reaches one pixel further than it needs to; its weights there are zero, and so are the pixels.
    """
    n, h, w, c = x.shape
    x = jnp.pad(x, ((0, 0), (0, max(0, 2 * rows - h)), (0, max(0, 2 * columns - w)), (0, 0)))
    x = x[:, : 2 * rows, : 2 * columns].reshape(n // part, part, rows, 2, columns, 2, c)

    def gather(x: Array) -> Array:
        return x.transpose(2, 4, 5, 1, 3, 0).reshape(4 * c, rows, columns, part)

    # Images come from augmentation, and XLA would fuse it into this transposition, drawing an example's random numbers
    # again at every pixel. The border of a loop stops it; activations come out of a loop already.
    return lax.map(gather, x) if c <= IMAGE_CHANNELS else jax.vmap(gather)(x)


def _phase_matrix(kernel: Float[Array, "k k c f"]) -> Float[Array, "f4 t"]:
    """The kernel at the four phases: [4 phases x F, taps x taps x 4C]."""
    size, _, channels, features = kernel.shape
    taps = size // 2 + 1
    rest = 2 * taps - size
    phases = [jnp.pad(kernel, ((i, rest - i), (j, rest - j), (0, 0), (0, 0))) for i in range(2) for j in range(2)]
    matrix = jnp.stack(phases).reshape(4, taps, 2, taps, 2, channels, features)
    return matrix.transpose(0, 6, 1, 3, 2, 4, 5).reshape(4 * features, -1)


def _patches(blocks: Float[Array, "c4 r j p"], height: int, width: int) -> Float[Array, "t l"]:
    """The window of every output, as a column: [taps x taps x 4C, height x width x examples]."""
    channels, rows, columns, part = blocks.shape
    taps = rows - height + 1
    flat = blocks.reshape(channels, rows, columns * part)  # two merged axes make the copies longer
    shifts = [
        flat[:, i : i + height, j * part : (j + width) * part] for i in range(taps) for j in range(columns - width + 1)
    ]
    return jnp.concatenate(shifts).reshape(-1, height * width * part)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _product_and_pool(
    blocks: Float[Array, "s c4 r j p"],
    matrix: Float[Array, "f4 t"],
    bias: Float[Array, " f"],
    pooled_size: tuple[int, int],
) -> Float[Array, "s f h2 w2 p"]:
    """The convolution at all phases, bias, ReLU and pool, part by part."""
    return _forward(blocks, matrix, bias, pooled_size)[0]


def _forward(blocks, matrix, bias, pooled_size):
    """As `_product_and_pool`; also what the backward pass needs."""

    def one_part(_, part_blocks):
        y = (matrix @ _patches(part_blocks, *pooled_size)).reshape(4, bias.shape[0], -1)
        # Chained rather than .max(0): as slices they fuse with what follows into one pass.
        largest = jnp.maximum(jnp.maximum(y[0], y[1]), jnp.maximum(y[2], y[3]))
        z = largest + bias[:, None]
        winner = jnp.where(y[0] == largest, 0, jnp.where(y[1] == largest, 1, jnp.where(y[2] == largest, 2, 3)))
        pooled = jax.nn.relu(z).reshape(-1, *pooled_size, part_blocks.shape[-1])
        return None, (pooled, jnp.where(z > 0, winner, NO_PHASE).astype(jnp.uint8))

    _, (z, winner) = lax.scan(one_part, None, blocks)
    return z, (blocks, matrix, winner)


def _backward(pooled_size, residuals, z_gradient):
    """Gradients of blocks, matrix and bias. The patches are built again: cheaper than reading them from memory."""
    blocks, matrix, winner = residuals
    build = partial(_patches, height=pooled_size[0], width=pooled_size[1])
    scatter = jax.linear_transpose(build, jax.ShapeDtypeStruct(blocks.shape[1:], blocks.dtype))
    phases = jnp.arange(4, dtype=jnp.uint8)[:, None, None]

    def one_part(sums, inputs):
        part_blocks, part_winner, gradient = inputs
        gradient = gradient.reshape(part_winner.shape)
        matrix_sum, bias_sum = sums
        y_gradient = jnp.where(part_winner == phases, gradient, 0).reshape(matrix.shape[0], -1)
        (blocks_gradient,) = scatter(matrix.T @ y_gradient)
        matrix_sum += y_gradient @ build(part_blocks).T
        bias_sum += jnp.where(part_winner < NO_PHASE, gradient, 0).sum(1)
        return (matrix_sum, bias_sum), blocks_gradient

    sums = jnp.zeros_like(matrix), jnp.zeros_like(z_gradient, shape=z_gradient.shape[1:2])
    (matrix_gradient, bias_gradient), blocks_gradient = lax.scan(one_part, sums, (blocks, winner, z_gradient))
    return blocks_gradient, matrix_gradient, bias_gradient


_product_and_pool.defvjp(_forward, _backward)
