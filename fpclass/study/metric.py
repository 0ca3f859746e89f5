"""What the configs of a study are compared by: `study.metric`, and of which class."""

from __future__ import annotations

from collections.abc import Sequence

from fpclass.common.extension import bare
from fpclass.config import Config
from fpclass.errors import ConfigError
from fpclass.run.prepare import positive_class
from fpclass.stats.weighted_metrics import class_of, of_class

POSITIVE_OF_TWO = 1
"""The class that F1 is of where nobody says which: that of ROC curves and thresholds."""


def metric_of(config: Config, classes: Sequence[str], class_names: Sequence[str]) -> str:
    """The metric of a study as `fpclass.stats.weighted_metrics` calls it, "f1[1]" for the F1 of class 1.

    Raises:
      ConfigError: F1 without a class where there are more than two, or of an unknown one.
    """
    metric, positive = config.study.metric, positive_class(config, classes, class_names)
    if metric != "f1":
        return metric
    if positive is None and len(classes) > 2:
        raise ConfigError(
            f"study.metric is 'f1', and there are {len(classes)} classes: name one of them with "
            f"--config.evaluate.positive_class ({', '.join(class_names)}), or take macro_f1, the mean over them"
        )
    return of_class(metric, POSITIVE_OF_TWO if positive is None else positive)


def name_of(metric: str, class_names: Sequence[str]) -> str:
    """How tables and figures call a metric, such as "log_loss" or "f1 of female"."""
    k = class_of(metric)
    return bare(metric) if k is None else f"{metric.partition('[')[0]} of {class_names[k]}"
