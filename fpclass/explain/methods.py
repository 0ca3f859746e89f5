"""The methods by which a map is made, each under the name that flags, files and Python know it by.

Nothing heavy is imported before a method is used: flags and their help are made of this table.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import flax.linen as nn
    import numpy as np
    from jaxtyping import Array, Float

    from fpclass.explain.targets import AnyTarget

    MapFunction = Callable[[Float[Array, "n h w c"], AnyTarget], Float[np.ndarray, "n h2 w2"]]
    """From normalised images and what their maps are about to raw maps."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to make maps.

    Attributes:
      title: its name in the literature.
      module: of this package, in which the function of its name is.
      words: what the map shows, in a few.
      source: of the paper.
      needs_stage: it looks at a stage of the network, not at the pixels.
      has_baseline: it covers pixels, or starts from a plain image, whose colour is the setting `baseline`.
      is_signed: maps are also negative, where something speaks against the target.
    """

    name: str
    title: str
    module: str
    words: str
    source: str
    needs_stage: bool = True
    has_baseline: bool = False
    is_signed: bool = False

    @property
    def function(self) -> Callable[..., Array]:
        """(model, variables, normalised images, target) -> raw maps, and where `needs_stage` the name of a stage.

        It is pure and compiled; further settings are keywords.
        """
        return getattr(importlib.import_module(f"fpclass.explain.{self.module}"), self.name)

    def bind(self, model: nn.Module, variables: dict[str, Any], stage: str = "", **settings: Any) -> MapFunction:
        """The function from images and targets to raw maps, float32, of a network.

        Args:
          stage: whose maps, where it needs one; "": `stages.default_stage`.
          settings: of the method.
        """
        import jax
        import numpy as np

        from fpclass.explain.parts import in_shares
        from fpclass.explain.stages import default_stage
        from fpclass.explain.targets import as_target

        def maps(images: Float[Array, "n h w c"], target: AnyTarget) -> Float[np.ndarray, "n h2 w2"]:
            rows = jax.tree.map(np.asarray, (np.asarray(images, np.float32), as_target(target)))
            of_stage = {"stage": stage or default_stage(model, rows[0])} if self.needs_stage else {}
            return in_shares(lambda share: self.function(model, variables, *share, **of_stage, **settings), rows)

        return maps


_METHODS = (
    Method(
        "grad_cam", "Grad-CAM", "cam",
        "channels of a stage, weighted by their mean gradient", "Selvaraju et al., ICCV 2017",
    ),
    Method(
        "grad_cam_plus_plus", "Grad-CAM++", "cam",
        "positive gradients, weighted for several or small objects", "Chattopadhay et al., WACV 2018",
    ),
    Method(
        "hires_cam", "HiResCAM", "cam",
        "what the rest of the network reads at each place", "Draelos and Carin, arXiv:2011.08891",
    ),
    Method(
        "layer_cam", "LayerCAM", "cam",
        "positive gradients place by place, for early stages", "Jiang et al., IEEE TIP 2021",
    ),
    Method(
        "xgrad_cam", "XGrad-CAM", "cam",
        "gradients averaged by activation", "Fu et al., BMVC 2020",
    ),
    Method(
        "score_cam", "Score-CAM", "masking",
        "channels, weighted by the score of the image seen through each", "Wang et al., CVPR 2020 Workshops",
    ),
    Method(
        "ablation_cam", "Ablation-CAM", "masking",
        "channels, weighted by what is lost without each", "Desai and Ramaswamy, WACV 2020",
    ),
    Method(
        "integrated_gradients", "Integrated gradients", "pixels",
        "the difference from a plain image, divided among the pixels", "Sundararajan et al., ICML 2017",
        needs_stage=False, has_baseline=True, is_signed=True,
    ),
    Method(
        "smooth_grad", "SmoothGrad", "pixels",
        "where the network is sensitive, averaged over noise", "Smilkov et al., arXiv:1706.03825", needs_stage=False,
    ),
    Method(
        "occlusion", "Occlusion", "masking",
        "what is lost where a square is covered", "Zeiler and Fergus, ECCV 2014",
        needs_stage=False, has_baseline=True, is_signed=True,
    ),
)  # fmt: skip
METHODS = {method.name: method for method in _METHODS}
