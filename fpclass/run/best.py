"""The network with the weights of a run's best epoch, restored once and used by everything that follows training."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from fpclass.common.console import program
from fpclass.data.decode import Images
from fpclass.errors import RunError
from fpclass.experiment import is_trained
from fpclass.models.network import HEAD, variable_shapes
from fpclass.run.folder import Run
from fpclass.run.predictions import Predictions
from fpclass.run.prepare import Prepared, check_same_data
from fpclass.run.probe import features_of_all
from fpclass.train import checkpoints
from fpclass.train.engine import Engine
from fpclass.train.inputs.streaming import is_streamed
from fpclass.train.placement import engine_for
from fpclass.train.probes.fit import logits_of
from fpclass.train.trained import TrainedNetwork, Variables


class BestModel(TrainedNetwork):
    """The network of a run with its best weights."""

    def __init__(self, run: Run, num_classes: int):
        super().__init__(run.config, num_classes, self._restore_best)
        self.run = run
        self._engines: dict[bool, Engine] = {}
        self._predicted: dict[str, Float[np.ndarray, "n K"]] = {}

    def of_member(self, run: Run) -> BestModel:
        """The same network with the weights of another training of its config: what is compiled serves both."""
        other = copy.copy(self)
        other.run, other._predicted, other._restore = run, {}, other._restore_best
        other.forget()
        other.__dict__.pop("epoch", None)
        return other

    def _restore_best(self) -> Variables:
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
        epoch = checkpoints.latest_step(self.run.path("checkpoints/best"))
        if epoch is None:
            raise RunError(f"{self.run.folder}: no checkpoint; run `{program()} train` with this --workdir first")
        return epoch

    def predict(self, images: Images, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n K"]:
        """Logits of some rows of these images, float32."""
        with self._lock:
            variables, kind = self.variables, is_streamed(images)
            if kind not in self._engines:
                self._engines[kind] = engine_for(images, self.model, self.run.config)
            predict = self._engines[kind].predict
        return np.asarray(predict(variables["params"], variables["batch_stats"], images, rows))

    def predict_once(self, prepared: Prepared, role: str) -> Float[np.ndarray, "n K"]:
        """Logits of the rows of a role, float32, which several things are fitted on: computed once."""
        if role not in self._predicted:
            self._predicted[role] = self._predict_prepared(prepared, prepared.splits.rows(role))
        return self._predicted[role]

    def _predict_prepared(self, prepared: Prepared, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n K"]:
        """Logits of some rows of prepared data, float32; a probe's from the features that it was fitted to."""
        if is_trained(self.run.config):
            return self.predict(prepared.images, rows)
        network: Any = self.model
        features = features_of_all(prepared, network, self.variables, self.run.config)
        return logits_of(network.head, self.variables["params"][HEAD], features[rows])

    def predict_rows(
        self, prepared: Prepared, roles: tuple[str, ...], filename: str, by: BestModel | None = None
    ) -> Predictions:
        """Predicts the rows of these roles of the splits and writes them as a table into the run folder.

        Args:
          by: whose weights predict; None: these.

        Raises:
          RunError: the data have changed since the run began.
        """
        check_same_data(self.run, prepared)
        rows = np.concatenate([prepared.splits.rows(role) for role in roles])
        logits = (by or self)._predict_prepared(prepared, rows)
        predictions = Predictions.make(prepared.table, prepared.splits, rows, logits, f"seed-{self.run.config.seed}")
        self.run.write_csv(filename, predictions.frame)
        return predictions
