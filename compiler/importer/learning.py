"""Operators of the domain ai.onnx.ml that are arithmetic: linear models, scaling, norms of rows, labels of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...dialects.core.types import Array
from ...dialects.nn.activation import ClipOp, SigmoidOp
from ...dialects.nn.elementwise import DivOp, MulOp, SubOp
from ...dialects.nn.functions import AbsOp, PowOp, SqrtOp
from ...dialects.nn.indexing import ArgMaxOp
from ...dialects.nn.matmul import MatmulOp
from ...dialects.nn.reduction import ReduceMeanOp
from ...dialects.nn.softmax import SoftmaxOp
from .lowering import Imported, Known, Lowering, Meaning, Unsupported, shape_of


def lower_scaler(lowering: Lowering) -> Imported:
    """Scaler: (x - offset) * scale, a number for each feature or one for all."""
    offset, scale = (Known(name, _numbers(lowering, name)) for name in ("offset", "scale"))
    return lowering.emit(MulOp, lowering.emit(SubOp, lowering.input(0), offset), scale)


def lower_linear_regressor(lowering: Lowering) -> Imported:
    """LinearRegressor: a product with a row of coefficients for each target."""
    targets = lowering.node.integer("targets", 1)
    if lowering.node.text("post_transform", "NONE") != "NONE":
        raise Unsupported(f"post_transform is {lowering.node.text('post_transform', 'NONE')}, expected NONE")
    return _linear(lowering, targets)


def lower_linear_classifier(lowering: Lowering) -> Sequence[Meaning]:
    """LinearClassifier: the label of the largest score, and the scores through a softmax or sigmoids."""
    classes = lowering.node.integers("classlabels_ints") or ()
    if lowering.node.attributes.get("classlabels_strings"):
        raise Unsupported("the classes are texts, expected integers: name them on the host")
    lowering.node.integer("multi_class", 0)  # says what the scores mean, not how they are computed
    _check_labels(classes)
    scores = _linear(lowering, len(classes))
    label = lowering.emit(ArgMaxOp, scores, last=False)
    transform = lowering.node.text("post_transform", "NONE")
    if transform not in ("NONE", "SOFTMAX", "LOGISTIC"):
        raise Unsupported(f"post_transform is {transform}, expected NONE, SOFTMAX or LOGISTIC")
    if transform == "SOFTMAX":
        scores = lowering.emit(SoftmaxOp, scores, axis=1)
    elif transform == "LOGISTIC":
        scores = lowering.emit(SigmoidOp, scores)
    return Meaning(label, "int64"), Meaning(scores)


def lower_normalizer(lowering: Lowering) -> Imported:
    """Normalizer: rows by the sum of their magnitudes (L1) or the root of the sum of squares (L2); zeros stay zero."""
    data, shape, norm = lowering.input(0), lowering.shape(0), lowering.node.text("norm", "MAX")
    if norm not in ("L1", "L2"):
        raise Unsupported(f"norm is {norm}, expected L1 or L2")
    parts = lowering.emit(AbsOp, data) if norm == "L1" else lowering.emit(PowOp, data, exponent=2.0)
    total = lowering.emit(ReduceMeanOp, parts, axes=(len(shape) - 1,), factor=float(shape[-1]))
    total = total if norm == "L1" else lowering.emit(SqrtOp, total)
    return lowering.emit(DivOp, data, lowering.emit(ClipOp, total, min=float(np.finfo(np.float32).tiny)))


def lower_array_feature_extractor(lowering: Lowering) -> Sequence[Meaning]:
    """ArrayFeatureExtractor of labels 0, 1, ... at a computed index: the index, [1, N]."""
    labels, index = lowering.input(0), lowering.input(1)
    if not isinstance(labels, Known) or isinstance(index, Known):
        raise Unsupported("it chooses columns of computed data, expected labels of classes at a computed index")
    _check_labels(labels.array.reshape(-1).tolist())
    return (Meaning(lowering.reshaped(index, (1, int(np.prod(shape_of(index))))), labels.array.dtype.name),)


def _linear(lowering: Lowering, rows: int) -> Imported:
    """X [N, C] times the transpose of the coefficients [rows, C], plus the intercepts."""
    data, shape = lowering.input(0), lowering.shape(0)
    coefficients, intercepts = _numbers(lowering, "coefficients"), _numbers(lowering, "intercepts")
    if len(shape) != 2 or coefficients.size != rows * shape[1] or intercepts.size not in (0, rows):
        raise Unsupported(
            f"{coefficients.size} coefficients and {intercepts.size} intercepts, expected {rows} rows for the features "
            f"of {list(shape)}"
        )
    weights = Known("coefficients", np.ascontiguousarray(coefficients.reshape(rows, shape[1]).T))
    return lowering.emit(MatmulOp, data, weights, Known("intercepts", intercepts) if intercepts.size else None)


def _check_labels(labels: Sequence[int]) -> None:
    if list(labels) != list(range(len(labels))):
        raise Unsupported(f"the labels are {list(labels)[:8]}, expected 0, 1, ...: choose others on the host")


def _numbers(lowering: Lowering, name: str) -> Array:
    value = lowering.node.attributes.get(name)
    return np.asarray(value if isinstance(value, tuple) else (), np.float32)
