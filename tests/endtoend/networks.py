"""The networks that every level of the compiler must agree on, with their samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from light_networks import light_path, with_random_weights

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
LOGITS = "+logits"
"""Behind a name: the input of a final Softmax is an output too, so that a saturated Softmax hides nothing."""

DIGITS = ("digits_cnn", "digits_shufflenet", "digits_depthwise")
SHARED_DATA = {
    "resnet8_cifar10": "resnet8_cifar10",
    "resnet20_cifar10_bn": "resnet20_cifar10",
    "kws_dscnn": "kws_dscnn",
    "shufflenetv2_cifar10_bn": "cifar10_jpg",
    "shufflenetv1_cifar10_bn": "cifar10_jpg",
    "resnet20_cifar10_rawtorch": "resnet20_cifar10",
    "shufflenetv2_cifar10_rawtorch": "cifar10_jpg",
    "shufflenetv2_cifar10_hardscale": "cifar10_jpg",
    "tinyvit_cifar10": "cifar10_jpg",
}
"""Networks of the shared folder and the data files that belong to them."""

WITHOUT_DATA = ("vww_mobilenetv1_025_96", "sww_streaming_wakeword", "ad_autoencoder")
"""Trained networks of the shared folder that come without data: their samples are noise."""

SMALL_LIGHT = tuple(f"light_{name}{LOGITS}" for name in ("squeezenet", "shufflenet"))
LARGE_LIGHT = (
    *(f"light_{name}{LOGITS}" for name in ("resnet50", "vgg19", "bvlc_alexnet", "inception_v1", "inception_v2")),
    f"light_zfnet512{LOGITS}",
    "light_densenet121",
)
"""Topologies of the onnx package with random weights and inputs of 224 x 224 pixels."""

WITH_LOGITS = tuple(f"{name}{LOGITS}" for name in ("resnet8_cifar10", "kws_dscnn"))
TRAINED = (*DIGITS, *SHARED_DATA, *WITH_LOGITS)
NOISY = (*(f"{name}{LOGITS}" for name in WITHOUT_DATA[:2]), *WITHOUT_DATA[2:])
NETWORKS = (*TRAINED, *NOISY, *SMALL_LIGHT, *LARGE_LIGHT)

CALIBRATED = 16
"""Samples that ranges are taken from; the trained networks have no sample in common with the tested ones."""


class UnavailableError(Exception):
    """A network or its data are not on this machine; says which file is missing."""


@dataclass(frozen=True, eq=False)
class Network:
    """A model with its only input's calibration samples and test samples, first axis samples.

    `trained` networks have real data; others have noise.
    """

    name: str
    model: onnx.ModelProto
    input: str
    calibration: np.ndarray
    test: np.ndarray
    trained: bool

    def samples(self, count: int) -> np.ndarray:
        """`count` test samples and, if trained, two of loud noise, which leave the calibrated ranges and saturate."""
        if len(self.test) < count:
            raise ValueError(f"{self.name} has {len(self.test)} test samples, not {count}")
        if not self.trained:
            return self.test[:count]
        noise = np.random.default_rng(1).standard_normal((2, *self.test.shape[1:]))
        loudest = np.abs(self.calibration).max()
        return np.concatenate([self.test[:count], (noise * loudest).astype(np.float32)])


def available(name: str) -> bool:
    """True if `network` finds all its files; decided without reading them."""
    try:
        _files(name.removesuffix(LOGITS))
    except UnavailableError:
        return False
    return True


@cache
def network(name: str) -> Network:
    """A network by name; UnavailableError if a file is missing, ValueError for an unknown name."""
    base = name.removesuffix(LOGITS)
    model_path, calibration_path, test_path = _files(base)
    model = with_random_weights(model_path) if base.startswith("light_") else onnx.load(model_path)
    if base != name:
        _reveal_logits(model)
    stored = {tensor.name for tensor in model.graph.initializer}
    (given,) = (value for value in model.graph.input if value.name not in stored)
    if calibration_path is None or test_path is None:
        shape = [dimension.dim_value for dimension in given.type.tensor_type.shape.dim]
        noise = np.random.default_rng(0).standard_normal((2 + 8, *shape[1:])).astype(np.float32)
        return Network(name, model, given.name, noise[:2], noise[2:], trained=False)
    calibration, test = (np.load(path)[given.name] for path in (calibration_path, test_path))
    return Network(name, model, given.name, calibration[:CALIBRATED], test, trained=True)


def _files(base: str) -> tuple[Path, Path | None, Path | None]:
    if base in DIGITS:
        folder = ROOT / "examples"
        paths = (folder / f"models/{base}.onnx", *(folder / f"data/digits.{p}.npz" for p in ("calibration", "test")))
    elif base in SHARED_DATA:
        data = SHARED / "data"
        parts = (data / f"{SHARED_DATA[base]}.{part}.npz" for part in ("calibration", "test"))
        paths = (SHARED / f"models/{base}.onnx", *parts)
    elif base in WITHOUT_DATA:
        paths = (SHARED / f"models/{base}.onnx", None, None)
    elif base.startswith("light_"):
        paths = (light_path(base.removeprefix("light_")), None, None)
    else:
        raise ValueError(f"unknown network '{base}', expected one of {', '.join(NETWORKS)}")
    for path in paths:
        if path is not None and not path.is_file():
            raise UnavailableError(
                f"{path.name} is not available: nothing in {path.parents[1].name}/{path.parent.name}"
            )
    return paths


def _reveal_logits(model: onnx.ModelProto) -> None:
    """Make the input of the final Softmax a second output."""
    (output,) = model.graph.output
    (last,) = (node for node in model.graph.node if output.name in node.output)
    if last.op_type != "Softmax":
        raise ValueError(f"the network ends with {last.op_type}, not with Softmax")
    logits = onnx.ValueInfoProto()
    logits.CopyFrom(output)
    logits.name = last.input[0]
    model.graph.output.append(logits)
