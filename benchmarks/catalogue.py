"""The networks that the benchmarks know, by name, and where their files are. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
EXAMPLES = ROOT / "examples"


@dataclass(frozen=True, slots=True)
class Network:
    """A model and its samples. Without `path` it is the light model `light` of the onnx package, with random weights.

    `calibration` and `test` are .npz files with an array `input`; without them samples are normal noise.
    `batch` is how many samples are also run at once (0: only one by one), `int8_limit` how many points of top-1 8-bit
    integers may lose.
    """

    path: Path | None = None
    light: str = ""
    calibration: Path | None = None
    test: Path | None = None
    batch: int = 32
    int8_limit: float = 0.3


def _shared(name: str, data: str, int8_limit: float = 0.3) -> Network:
    folder = SHARED / "data"
    return Network(
        SHARED / "models" / f"{name}.onnx",
        calibration=folder / f"{data}.calibration.npz",
        test=folder / f"{data}.test.npz",
        int8_limit=int8_limit,
    )


def _example(name: str) -> Network:
    folder = EXAMPLES / "data"
    return Network(
        EXAMPLES / "models" / f"{name}.onnx",
        calibration=folder / "digits.calibration.npz",
        test=folder / "digits.test.npz",
    )


NETWORKS: dict[str, Network] = {
    "resnet8": _shared("resnet8_cifar10", "resnet8_cifar10"),
    "resnet20": _shared("resnet20_cifar10_bn", "resnet20_cifar10"),
    "kws_dscnn": _shared("kws_dscnn", "kws_dscnn"),
    "shufflenetv2": _shared("shufflenetv2_cifar10_bn", "cifar10_jpg"),
    "vww_mobilenetv1": Network(SHARED / "models" / "vww_mobilenetv1_025_96.onnx"),
    "sww_wakeword": Network(SHARED / "models" / "sww_streaming_wakeword.onnx"),
    "ad_autoencoder": Network(SHARED / "models" / "ad_autoencoder.onnx"),
    "shufflenetv1": _shared("shufflenetv1_cifar10_bn", "cifar10_jpg"),
    "shufflenetv2_hardscale": _shared("shufflenetv2_cifar10_hardscale", "cifar10_jpg"),
    "tinyvit": _shared("tinyvit_cifar10", "cifar10_jpg", int8_limit=0.5),
    "light_resnet50": Network(light="resnet50", batch=0),
    "light_squeezenet": Network(light="squeezenet", batch=0),
    "light_shufflenet": Network(light="shufflenet"),
    "light_inception_v1": Network(light="inception_v1", batch=0),
    "light_inception_v2": Network(light="inception_v2", batch=0),
    "light_densenet121": Network(light="densenet121", batch=0),
    "light_alexnet": Network(light="bvlc_alexnet", batch=0),
    "light_zfnet512": Network(light="zfnet512", batch=0),
    "light_vgg19": Network(light="vgg19", batch=0),
    "digits_cnn": _example("digits_cnn"),
    "digits_depthwise": _example("digits_depthwise"),
    "digits_shufflenet": _example("digits_shufflenet"),
}

DEFAULT_NETWORKS = (
    "resnet8",
    "shufflenetv2",
    "vww_mobilenetv1",
    "light_shufflenet",
    "light_resnet50",
    "light_squeezenet",
    "light_inception_v1",
    "light_vgg19",
    "digits_cnn",
    "digits_depthwise",
)

ACCURACY_NETWORKS = tuple(name for name, network in NETWORKS.items() if network.test is not None)
"""Networks with labelled samples."""

TOPOLOGY_NAMES = (
    "like_mobilenet_v2",
    "like_mobilenet_v3",
    "like_efficientnet",
    "like_squeezenet",
    "like_keyword_transformer",
)
"""Networks of `topologies.py`, made with random weights; their labels are the classes of the float network."""
