"""DenseNet-121."""

from __future__ import annotations

from fpclass.models.densenet import NUM_LAYERS
from fpclass.models.pretrained.rules import Rule, torch_batch_norm, torch_conv, torch_dense, torch_layer


def _dense_layers() -> tuple[Rule, ...]:
    rules: tuple[Rule, ...] = ()
    for block, number in enumerate(NUM_LAYERS, start=1):
        for layer in range(number):  # theirs count from 1
            source, target = rf"features\.denseblock{block}\.denselayer{layer + 1}", f"denseblock{block}_{layer}"
            # The published file has "norm.1.weight", a network of today "norm1.weight".
            rules += torch_batch_norm(rf"{source}\.norm\.?(1|2)", rf"{target}/bn\1")
            rules += torch_layer(rf"{source}\.conv\.?(1|2)", rf"{target}/conv\1", torch_conv)
    return rules


TORCHVISION = (
    *torch_layer(r"features\.conv0", "stem/conv", torch_conv),
    *torch_batch_norm(r"features\.norm0", "stem/bn"),
    *_dense_layers(),
    *torch_batch_norm(r"features\.transition(\d)\.norm", r"transition\1/bn"),
    *torch_layer(r"features\.transition(\d)\.conv", r"transition\1/conv", torch_conv),
    *torch_batch_norm(r"features\.norm5", "norm/bn"),
    *torch_layer("classifier", "head/logits", torch_dense),
)
