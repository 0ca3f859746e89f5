"""The network with the weights of a run's best epoch, restored once and used by everything that follows training."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Float, Int

from fpclass.data.decode import Images
from fpclass.errors import RunError
from fpclass.models.build import variable_shapes
from fpclass.run.folder import Run
from fpclass.train import checkpoints
from fpclass.train.placement import engine_for
from fpclass.train.task import build_network


class BestModel:
    """The network of a run with its best weights.

    Attributes:
      run: the run folder.
      num_classes: K.
      model: the network.
    """

    def __init__(self, run: Run, num_classes: int):
        self.run = run
        self.num_classes = num_classes
        self.model: nn.Module = build_network(run.config, num_classes)

    @cached_property
    def variables(self) -> dict[str, Any]:
        """Params and batch_stats of the best epoch.

        Raises:
          RunError: no checkpoint, or one of another model.
        """
        config = self.run.config
        shapes = variable_shapes(self.model, (*config.data.image_size, config.data.channels))
        like = {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
        return checkpoints.restore(self.run.path("checkpoints/best"), like)

    @cached_property
    def epoch(self) -> int:
        """The best epoch.

        Raises:
          RunError: no checkpoint.
        """
        epoch = checkpoints.latest_epoch(self.run.path("checkpoints/best"))
        if epoch is None:
            raise RunError(f"{self.run.folder}: no checkpoint; run `launch.py train` with this --workdir first")
        return epoch

    def predict(self, images: Images, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n K"]:
        """Logits of some rows of these images, float32."""
        params, batch_stats = self.variables["params"], self.variables["batch_stats"]
        engine = engine_for(images, self.model, self.run.config)
        return np.asarray(engine.predict(params, batch_stats, images, rows))
