"""Every operator, alone, in its variants: the imported node computes what onnxruntime computes."""

import numpy as np
import pytest
from models import NEWEST, graph_model, node_model
from onnx import TensorProto, helper, numpy_helper
from reference import assert_imports_exactly, random_inputs

from accelc.compiler.importer import OPERATORS, import_model
from accelc.compiler.importer.kinds import PREDICATES
from accelc.dialects.core.interpreter import run

RNG = np.random.default_rng(7)
IMAGE = (2, 6, 7, 9)


def weights(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def positive(*shape):
    return RNG.uniform(0.5, 2, shape).astype(np.float32)


def tensor(values, dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype))


ALIGNED = {"coordinate_transformation_mode": "align_corners"}
PYTORCH = {"coordinate_transformation_mode": "pytorch_half_pixel"}

CASES = [
    # convolution
    ("Conv", [IMAGE, weights(5, 6, 3, 3)], {}),
    ("Conv", [IMAGE, weights(5, 6, 3, 3), weights(5)], {"pads": [1, 2, 0, 1], "strides": [2, 1]}),
    ("Conv", [IMAGE, weights(5, 6, 3, 3), np.zeros(5, np.float32)], {"kernel_shape": [3, 3]}),
    ("Conv", [IMAGE, weights(4, 3, 2, 3)], {"group": 2, "dilations": [2, 3], "auto_pad": "NOTSET"}),
    ("Conv", [IMAGE, weights(12, 1, 3, 3), weights(12)], {"group": 6, "pads": [1, 1, 1, 1]}),
    ("Conv", [IMAGE, weights(5, 6, 4, 4)], {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    ("Conv", [IMAGE, weights(5, 6, 4, 4)], {"auto_pad": "SAME_LOWER", "strides": [3, 2]}),
    ("Conv", [IMAGE, weights(5, 6, 3, 3)], {"auto_pad": "VALID", "strides": [2, 2]}),
    ("Conv", [IMAGE, (5, 6, 3, 3)], {}),
    ("Conv", [(2, 4, 11), weights(6, 4, 3), weights(6)], {"pads": [2, 1], "strides": [2], "dilations": [2]}),
    ("Conv", [(2, 4, 11), weights(4, 1, 4)], {"group": 4, "auto_pad": "SAME_UPPER"}),
    # normalization
    ("BatchNormalization", [IMAGE, weights(6), weights(6), weights(6), positive(6)], {}),
    ("BatchNormalization", [(3, 6), weights(6), weights(6), weights(6), positive(6)], {"epsilon": 0.1}),
    ("BatchNormalization", [(3, 6, 5), weights(6), weights(6), weights(6), positive(6)], {"momentum": 0.5}),
    ("BatchNormalization", [(2, 6, 2, 3, 4), weights(6), weights(6), weights(6), positive(6)], {}),
    ("LRN", [IMAGE], {"size": 3}),
    ("LRN", [IMAGE], {"size": 5, "alpha": 0.5, "beta": 0.6, "bias": 2.0}),
    ("Softmax", [(2, 6)], {}),
    ("Softmax", [IMAGE], {"axis": 1}),
    ("Softmax", [IMAGE], {"axis": -2}),
    ("Softmax", [(2, 6, 1, 1)], {"axis": 1}),
    # activations
    *((name, [IMAGE], {}) for name in ("Relu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "LeakyRelu")),
    ("HardSigmoid", [(5, 4)], {"alpha": 0.4, "beta": 0.3}),
    ("LeakyRelu", [(5, 4)], {"alpha": 0.3}),
    ("Clip", [(5, 4), np.float32(-0.5), np.float32(0.5)], {}),
    ("Clip", [(5, 4), np.float32(0)], {}),
    ("Clip", [(5, 4), None, np.float32(0.3)], {}),
    ("Clip", [(5, 4), np.float32(1), np.float32(-1)], {}),
    ("Clip", [(5, 4), np.float32(-np.inf), np.float32(np.inf)], {}),
    ("Clip", [(5, 4)], {}),
    ("Clip", [(5, 4), ()], {}),
    ("Clip", [(5, 4), np.float32(-0.2), ()], {}),
    ("Clip", [(5, 4), (), np.float32(np.inf)], {}),
    ("PRelu", [IMAGE, weights(6, 1, 1)], {}),
    ("PRelu", [IMAGE, weights(1)], {}),
    ("PRelu", [IMAGE, weights(9)], {}),
    ("PRelu", [IMAGE, weights(7, 1)], {}),
    ("PRelu", [IMAGE, weights(6, 7, 9)], {}),
    ("PRelu", [IMAGE, (6, 1, 1)], {}),
    ("PRelu", [(2, 6, 5), weights(6, 1)], {}),
    ("PRelu", [(4, 6), weights(6)], {}),
    # functions of one number
    *((name, [IMAGE], {}) for name in ("Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "Neg", "Round", "Selu")),
    *((name, [IMAGE], {}) for name in ("Sign", "Sin", "Softplus", "Softsign", "Celu")),
    *((name, [IMAGE], {}) for name in ("Tan", "Atan", "Sinh", "Cosh", "Asinh")),
    ("Celu", [(5, 4)], {"alpha": 2.5}),
    ("Elu", [(5, 4)], {"alpha": 0.3}),
    ("Selu", [(5, 4)], {"alpha": 2.0, "gamma": 0.5}),
    ("ThresholdedRelu", [(5, 4)], {"alpha": 0.0}),
    ("Pow", [(5, 4), np.float32(2)], {}),
    ("Pow", [(5, 4), np.float32(3)], {}),
    ("Pow", [(5, 4), np.float32(1)], {}),
    ("Pow", [(5, 4), ints(2)], {}),
    ("Max", [IMAGE, np.float32(0.25)], {}),
    ("Max", [IMAGE, IMAGE, weights(6, 1, 1)], {}),
    ("Min", [IMAGE, np.float32([-0.5])], {}),
    ("Min", [IMAGE, weights(9), np.float32(0.5)], {}),
    # normalization by statistics of the data
    ("LayerNormalization", [(2, 3, 8), weights(8)], {}),
    ("LayerNormalization", [(2, 3, 8), weights(8), weights(8)], {"epsilon": 0.1}),
    ("LayerNormalization", [(2, 3, 8), weights(3, 8), weights(3, 8)], {"axis": 1}),
    ("LayerNormalization", [(2, 3, 8), (8,), (8,)], {}),
    ("LogSoftmax", [IMAGE], {"axis": 1}),
    ("LogSoftmax", [(2, 6)], {}),
    ("LpNormalization", [IMAGE], {"axis": 1, "p": 1}),
    ("LpNormalization", [IMAGE], {"axis": -1, "p": 2}),
    ("MeanVarianceNormalization", [IMAGE], {}),
    ("MeanVarianceNormalization", [(3, 4, 5)], {"axes": [0, -1]}),
    ("InstanceNormalization", [IMAGE, weights(6), weights(6)], {"epsilon": 0.1}),
    ("InstanceNormalization", [(2, 4, 11), weights(4), weights(4)], {}),
    # arithmetic
    ("CumSum", [IMAGE, np.array(1)], {}),
    ("CumSum", [(5, 4), np.array(-2)], {"exclusive": 1}),
    ("CumSum", [(5, 4), np.array(1)], {"reverse": 1}),
    ("CumSum", [(7,), np.array(0)], {"reverse": 1, "exclusive": 1}),
    *(("Trilu", [(2, 4, 5), np.array(k)], {"upper": u}) for k in (-7, -1, 0, 2, 9) for u in (0, 1)),
    *((name, [IMAGE, IMAGE], {}) for name in ("Add", "Sub", "Mul")),
    *((name, [IMAGE, weights(6, 1, 1)], {}) for name in ("Add", "Sub", "Mul")),
    *((name, [weights(9), IMAGE], {}) for name in ("Add", "Sub", "Mul")),
    ("Div", [IMAGE, positive(6, 1, 1)], {}),
    ("Div", [IMAGE, np.float32(3)], {}),
    ("Add", [(6, 1, 1), (4, 1, 5, 3)], {}),
    ("Mean", [IMAGE, (7, 1), weights(9)], {}),
    ("Sum", [IMAGE], {}),
    ("Sum", [IMAGE, IMAGE, (7, 1), weights(9)], {}),
    ("Identity", [IMAGE], {}),
    ("Dropout", [IMAGE], {}),
    ("Dropout", [IMAGE, np.float32(0.3), np.array(False)], {}),
    ("Cast", [IMAGE], {"to": TensorProto.FLOAT}),
    # matrix products
    ("MatMul", [(3, 4), weights(4, 5)], {}),
    ("MatMul", [weights(3, 4), (4, 5)], {}),
    ("MatMul", [(2, 1, 3, 4), (6, 4, 5)], {}),
    ("MatMul", [(4,), weights(4, 5)], {}),
    ("MatMul", [(2, 3, 4), weights(4)], {}),
    ("MatMul", [(4,), (4,)], {}),
    ("MatMul", [(4,), (2, 4, 3)], {}),
    ("MatMul", [(2, 3, 1, 4, 5), (3, 2, 5, 6)], {}),
    ("MatMul", [(2, 3, 4), weights(2, 4, 5)], {}),
    ("Gemm", [(3, 4), weights(4, 5)], {}),
    ("Gemm", [(3, 4), weights(4, 5), weights(5)], {"alpha": 0.5, "beta": 2.0}),
    ("Gemm", [(3, 4), weights(5, 4), weights(1, 5)], {"transB": 1, "beta": 0.25}),
    ("Gemm", [(4, 3), weights(4, 5), weights(3, 1)], {"transA": 1}),
    ("Gemm", [(4, 3), (5, 4), weights(3, 5)], {"transA": 1, "transB": 1, "alpha": -1.5}),
    ("Gemm", [(3, 4), (4, 5), weights(5)], {"alpha": 2.0}),
    ("Gemm", [weights(3, 4), (4, 5), (5,)], {"alpha": 2.0, "beta": 3.0}),
    ("Gemm", [(3, 4), weights(4, 5), np.float32(2)], {}),
    ("Gemm", [(3, 4), weights(4, 5), (3, 5)], {"beta": 0.0}),
    ("Einsum", [(2, 3, 4), weights(4, 2, 5)], {"equation": "abc,cde->abde"}),
    ("Einsum", [(2, 3, 2, 5), (2, 4, 2, 5)], {"equation": "bqhd,bkhd->bhqk"}),
    ("Einsum", [(2, 2, 3, 4), (2, 4, 2, 5)], {"equation": "bhqk, bkhd -> bqhd"}),
    ("Einsum", [(2, 3), (3, 4)], {"equation": "ij,jk"}),
    ("Einsum", [(2, 3, 4)], {"equation": "abc->ca"}),
    ("Einsum", [(3,), (4,)], {"equation": "i,j->ij"}),
    ("Einsum", [(2, 3, 4), (3, 5)], {"equation": "abc,bd->ad"}),
    # pooling
    ("MaxPool", [IMAGE], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 2, 1]}),
    ("MaxPool", [IMAGE], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", [IMAGE], {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [0, 0, 1, 1], "ceil_mode": 1}),
    ("MaxPool", [IMAGE], {"kernel_shape": [2, 3], "dilations": [3, 2], "pads": [1, 1, 1, 1]}),
    ("MaxPool", [IMAGE], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("MaxPool", [IMAGE], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ("MaxPool", [IMAGE], {"kernel_shape": [3, 3], "auto_pad": "VALID", "storage_order": 1}),
    ("MaxPool", [(2, 4, 11)], {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 2, 1]}),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 3], "strides": [2, 3], "auto_pad": "SAME_UPPER"}),
    ("AveragePool", [(2, 4, 11)], {"kernel_shape": [4], "strides": [3], "pads": [1, 2], "ceil_mode": 1}),
    ("GlobalAveragePool", [IMAGE], {}),
    ("GlobalAveragePool", [(2, 4, 5)], {}),
    ("GlobalAveragePool", [(2, 4, 3, 2, 5)], {}),
    ("GlobalMaxPool", [IMAGE], {}),
    ("GlobalMaxPool", [(2, 4, 5)], {}),
    ("ReduceMean", [IMAGE], {"axes": [2, 3]}),
    ("ReduceMean", [IMAGE], {"axes": [-1, 2], "keepdims": 0}),
    ("ReduceMean", [IMAGE], {"axes": [1], "keepdims": 0}),
    ("ReduceMean", [IMAGE], {}),
    ("ReduceMean", [IMAGE], {"keepdims": 0}),
    ("ReduceL1", [IMAGE], {"axes": [1, -1]}),
    ("ReduceL2", [IMAGE], {"axes": [2], "keepdims": 0}),
    ("ReduceSumSquare", [IMAGE], {}),
    ("ReduceLogSumExp", [IMAGE], {"axes": [1, 3], "keepdims": 0}),
    ("ReduceLogSumExp", [(5, 4)], {}),
    ("ReduceMax", [(2, 90, 91)], {"axes": [1, 2], "keepdims": 0}),
    ("ReduceMax", [IMAGE], {"axes": [2, 3]}),
    ("ReduceMax", [IMAGE], {"axes": [2, 3], "keepdims": 0}),
    ("ReduceMax", [IMAGE], {"axes": [1], "keepdims": 0}),
    ("ReduceMax", [IMAGE], {"axes": [0, 2]}),
    ("ReduceMax", [(3, 4)], {"keepdims": 0}),
    ("ReduceMin", [IMAGE], {"axes": [-1]}),
    # resampling
    ("Resize", [IMAGE, None, np.float32([1, 1, 2, 3])], {"coordinate_transformation_mode": "asymmetric"}),
    ("Resize", [IMAGE, None, np.float32([1, 1, 2, 2])], {}),
    ("Resize", [IMAGE, None, np.float32([1, 1, 0.6, 1.7])], {"nearest_mode": "ceil"}),
    ("Resize", [IMAGE, None, None, ints(2, 6, 14, 4)], {"nearest_mode": "floor"}),
    ("Resize", [IMAGE, None, None, ints(2, 6, 14, 4)], {"nearest_mode": "round_prefer_ceil"}),
    ("Resize", [IMAGE, None, np.float32([1, 1, 2, 2])], {"mode": "linear"}),
    ("Resize", [IMAGE, None, np.float32([1, 1, 1, 2.5])], {"mode": "linear"}),
    ("Resize", [IMAGE, None, None, ints(2, 6, 5, 13)], {"mode": "linear", **ALIGNED}),
    ("Resize", [IMAGE, None, None, ints(2, 6, 1, 13)], {"mode": "linear", **PYTORCH}),
    ("Resize", [(2, 4, 11), None, np.float32([1, 1, 2])], {"mode": "linear"}),
    ("DepthToSpace", [(2, 12, 3, 5)], {"blocksize": 2}),
    ("DepthToSpace", [(2, 12, 3, 5)], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", [(2, 3, 6, 4)], {"blocksize": 2}),
    ("ConvTranspose", [IMAGE, weights(6, 4, 3, 3)], {}),
    ("ConvTranspose", [IMAGE, weights(6, 4, 2, 2), weights(4)], {"strides": [2, 2]}),
    ("ConvTranspose", [IMAGE, weights(6, 4, 3, 4), weights(4)], {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
    ("ConvTranspose", [IMAGE, weights(6, 4, 3, 3)], {"strides": [2, 2], "output_padding": [1, 1], "pads": [1] * 4}),
    ("ConvTranspose", [IMAGE, weights(6, 2, 3, 3), weights(6)], {"group": 3, "strides": [2, 2]}),
    ("ConvTranspose", [IMAGE, weights(6, 1, 4, 4)], {"group": 6, "strides": [2, 2], "pads": [1] * 4}),
    ("ConvTranspose", [IMAGE, weights(6, 4, 2, 3)], {"strides": [3, 2], "dilations": [2, 3]}),
    ("ConvTranspose", [IMAGE, weights(6, 4, 1, 1)], {"strides": [3, 3]}),
    ("ConvTranspose", [IMAGE, weights(6, 4, 4, 4)], {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("ConvTranspose", [IMAGE, weights(6, 4, 3, 3)], {"strides": [2, 2], "output_shape": [15, 18]}),
    ("ConvTranspose", [(2, 4, 11), weights(4, 3, 4), weights(3)], {"strides": [3], "pads": [1, 2]}),
    # shapes
    ("Reshape", [IMAGE, ints(2, -1)], {}),
    ("Reshape", [IMAGE, ints(0, 3, 0, -1)], {}),
    ("Flatten", [IMAGE], {}),
    ("Flatten", [IMAGE], {"axis": 0}),
    ("Flatten", [IMAGE], {"axis": 4}),
    ("Flatten", [IMAGE], {"axis": -1}),
    ("Transpose", [IMAGE], {}),
    ("Transpose", [IMAGE], {"perm": [0, 2, 1, 3]}),
    ("Squeeze", [(1, 3, 1, 2)], {}),
    ("Squeeze", [(1, 3, 1, 2), ints(-2)], {}),
    ("Unsqueeze", [(3, 2), ints(0, -1)], {}),
    # movement
    ("Concat", [IMAGE, IMAGE], {"axis": 1}),
    ("Concat", [(2, 3), weights(2, 1), (2, 2)], {"axis": -1}),
    ("Concat", [(2, 3)], {"axis": 0}),
    ("Slice", [IMAGE, ints(1, -4), ints(5, 100), ints(1, 3)], {}),
    ("Slice", [IMAGE, ints(0, 1), ints(7, 9), ints(2, -1), ints(2, 3)], {}),
    ("Slice", [IMAGE, ints(-1), ints(-(2**62)), ints(3), ints(-2)], {}),
    ("Slice", [IMAGE, ints(0, 0, 0, 0), ints(9, 9, 9, 9)], {}),
    ("Slice", [IMAGE, ints(5, 0), ints(0, 9), ints(1, 2), ints(-1, 3)], {}),
    ("Pad", [IMAGE, ints(0, 1, 2, 0, 1, 0, 0, 3)], {}),
    ("Pad", [IMAGE, ints(0, 0, 1, 1, 0, 0, 1, 1), np.float32(1.5)], {"mode": "constant"}),
    ("Pad", [IMAGE, ints(0, 0, -1, 1, 0, 0, -2, 1)], {}),
    ("Pad", [IMAGE, ints(0, 0, 2, 1, 0, 0, 1, 3)], {"mode": "reflect"}),
    ("Pad", [IMAGE, ints(0, 1, 2, 0, 0, 0, 1, 3)], {"mode": "edge"}),
    ("Gather", [IMAGE, ints(2, 0, -1)], {"axis": 1}),
    ("Gather", [IMAGE, np.array(-2)], {"axis": 3}),
    ("Gather", [IMAGE, np.array([[0, 1], [2, 2]])], {"axis": 2}),
    ("Gather", [IMAGE, ints(1, 2, 3)], {"axis": 1}),
    ("Expand", [(3, 1, 4), ints(2, 1, 5, 4)], {}),
    ("Expand", [(3, 4), ints(1)], {}),
    ("Tile", [(2, 3), ints(2, 3)], {}),
    ("Where", [np.array([[True, False, True]]), (2, 3), (2, 3)], {}),
    ("Where", [np.array([[True], [False]]), (2, 3), np.float32(5)], {}),
]

OLDER = [  # (opset, case): what attributes said before they became inputs, and other meanings of old
    (7, ("BatchNormalization", [IMAGE, weights(6), weights(6), weights(6), positive(6)], {"spatial": 1})),
    (7, ("Clip", [(5, 4)], {"min": -0.5, "max": 0.25})),
    (7, ("Clip", [(5, 4)], {"min": 0.0})),
    (7, ("Clip", [(5, 4)], {})),
    (7, ("Dropout", [(5, 4)], {"ratio": 0.3})),
    (7, ("Gemm", [(3, 4), weights(4, 5), weights(5)], {})),
    (7, ("AveragePool", [IMAGE], {"kernel_shape": [2, 2], "count_include_pad": 1, "pads": [1, 1, 0, 0]})),
    (7, ("Slice", [IMAGE], {"starts": [1, -4], "ends": [100, -1], "axes": [1, 3]})),
    (7, ("Slice", [IMAGE], {"starts": [1, 1], "ends": [2, 5]})),
    (7, ("Pad", [IMAGE], {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 0.5})),
    (7, ("Pad", [IMAGE], {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "mode": "edge"})),
    (7, ("Squeeze", [(1, 3, 1, 2)], {"axes": [2]})),
    (7, ("Unsqueeze", [(3, 2)], {"axes": [0, 3]})),
    (7, ("Softmax", [(2, 3, 4)], {})),
    (11, ("Softmax", [(2, 3, 4)], {"axis": 0})),
    (9, ("Softmax", [(2, 3, 4)], {"axis": 2})),
    (9, ("Softmax", [(2, 5, 1, 1)], {})),
    (11, ("Unsqueeze", [(3, 2)], {"axes": [-1]})),
    (11, ("Clip", [(5, 4), None, np.float32(0.3)], {})),
    (13, ("ReduceMean", [IMAGE], {"axes": [1, 2]})),
    (18, ("ReduceMean", [IMAGE, ints(1, -1)], {"keepdims": 0})),
    (18, ("ReduceMean", [IMAGE], {"noop_with_empty_axes": 1})),
    (18, ("ReduceMean", [IMAGE, ints(2, 3)], {"noop_with_empty_axes": 1})),
    (13, ("Resize", [IMAGE, None, np.float32([1, 1, 2, 2])], {"mode": "nearest", "exclude_outside": 1})),
    (18, ("Pad", [IMAGE, ints(1, 2, 0, 1), None, ints(3, 1)], {})),
    (19, ("Pad", [IMAGE, ints(1, 2, 0, 1), None, ints(3, 1)], {"mode": "wrap"})),
    (19, ("AveragePool", [IMAGE], {"kernel_shape": [2, 2], "dilations": [2, 3]})),
    (
        19,
        (
            "AveragePool",
            [IMAGE],
            {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1], "count_include_pad": 1},
        ),
    ),
    (20, ("Gelu", [IMAGE], {})),
    (20, ("Gelu", [IMAGE], {"approximate": "tanh"})),
    (18, ("Mish", [IMAGE], {})),
    (24, ("Swish", [IMAGE], {"alpha": 1.5})),
    (21, ("GroupNormalization", [IMAGE, weights(6), weights(6)], {"num_groups": 2, "epsilon": 0.1})),
    (13, ("ReduceSum", [IMAGE, ints(1, -1)], {})),
    (11, ("ReduceSum", [IMAGE], {"axes": [2, 3], "keepdims": 0})),
    (18, ("ReduceMax", [IMAGE, ints(3)], {"keepdims": 0})),
    (7, ("Upsample", [IMAGE], {"scales": [1.0, 1.0, 2.0, 3.0]})),
    (9, ("Upsample", [IMAGE, np.float32([1, 1, 2, 2])], {"mode": "linear"})),
    (10, ("Resize", [IMAGE, np.float32([1, 1, 2, 2])], {"mode": "nearest"})),
    (18, ("Resize", [IMAGE, None, np.float32([2, 3])], {"axes": [2, 3], "mode": "linear"})),
    (23, ("Attention", [(2, 5, 12), (2, 7, 12), (2, 7, 12)], {"q_num_heads": 3, "kv_num_heads": 3})),
    (23, ("Attention", [(2, 4, 5, 3), (2, 2, 5, 3), (2, 2, 5, 3)], {"is_causal": 1, "scale": 0.5})),
    (23, ("Attention", [(1, 2, 5, 3), (1, 2, 4, 3), (1, 2, 4, 3), weights(5, 4)], {"softcap": 2.0})),
    (23, ("RMSNormalization", [(2, 3, 8), weights(8)], {"epsilon": 0.1})),
    (23, ("RMSNormalization", [(2, 3, 8), weights(3, 8)], {"axis": -2})),
    (14, ("Reshape", [IMAGE, ints(6, 2, 63)], {"allowzero": 1})),
]


def label(case):
    op_type, inputs, attributes = case
    shapes = ",".join("-" if v is None else str(list(v) if isinstance(v, tuple) else v.shape) for v in inputs)
    return f"{op_type}({shapes}){attributes}".replace(" ", "")


@pytest.mark.parametrize("case", CASES, ids=label)
def test_operator(case):
    op_type, inputs, attributes = case
    assert_imports_exactly(node_model(op_type, inputs, **attributes))


@pytest.mark.parametrize(("opset", "case"), OLDER, ids=lambda v: label(v) if isinstance(v, tuple) else str(v))
def test_operator_of_another_opset(opset, case):
    op_type, inputs, attributes = case
    assert_imports_exactly(node_model(op_type, inputs, opset=opset, **attributes))


SPLITS = [
    (7, {"axis": 1, "split": [1, 3, 2]}, None, 3),
    (11, {"axis": 1}, None, 2),
    (13, {"axis": 1}, ints(2, 4), 2),
    (13, {"axis": -1}, None, 3),
    (18, {"axis": 2, "num_outputs": 4}, None, 4),
    (18, {"axis": 1, "num_outputs": 3}, None, 3),
    (18, {"axis": 1, "num_outputs": 1}, None, 1),
]


@pytest.mark.parametrize(("opset", "attributes", "sizes", "outputs"), SPLITS)
def test_split(opset, attributes, sizes, outputs):
    inputs = [IMAGE] if sizes is None else [IMAGE, sizes]
    assert_imports_exactly(node_model("Split", inputs, opset=opset, outputs=outputs, **attributes))


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, NEWEST])
def test_a_network_of_each_opset(opset):
    axes = {"axes": [2, 3]} if opset < 18 else {}
    clip = {"min": -1.0, "max": 1.0} if opset < 11 else {}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["conv", "b", "b", "b", "v"], ["bn"]),
        helper.make_node("Clip", ["bn"] if opset < 11 else ["bn", "low", "high"], ["clip"], **clip),
        helper.make_node("MaxPool", ["clip"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("ReduceMean", ["pool"] if opset < 18 else ["pool", "axes"], ["mean"], keepdims=0, **axes),
        helper.make_node("Gemm", ["mean", "m", "c"], ["gemm"]),
        helper.make_node("Softmax", ["gemm"], ["y"]),
    ]
    values = {
        "x": (2, 3, 6, 6),
        "w": weights(4, 3, 3, 3),
        "b": weights(4),
        "v": positive(4),
        "m": weights(4, 5),
        "c": weights(5),
    }
    if opset >= 11:
        values |= {"low": np.float32(-1), "high": np.float32(1)}
    if opset >= 18:
        values |= {"axes": ints(2, 3)}
    module = assert_imports_exactly(graph_model(nodes, values, ["y"], opset=opset))
    labels = ["Conv:conv", "BatchNormalization:bn", "Clip:clip", "MaxPool:pool", "ReduceMean:mean", "Gemm:gemm"]
    found = dict.fromkeys(op.location.layer for op in module.walk())
    assert list(found) == [*labels, "Softmax:y", ""]


@pytest.mark.parametrize(("shape", "size"), [((2, 6, 3, 2), 4), ((2, 6, 5), 3), ((1, 3, 2, 2), 8)])
def test_lrn_by_the_formula_of_the_standard(shape, size):
    # onnxruntime takes another window for even sizes, and only four axes.
    module = import_model(node_model("LRN", [shape], size=size, alpha=0.5, beta=0.6, bias=1.5))
    (x,) = random_inputs(module).values()
    expected = np.empty_like(x)
    for c in range(shape[1]):
        first, last = max(0, c - (size - 1) // 2), min(shape[1] - 1, c + -(-(size - 1) // 2))
        squares = np.square(x[:, first : last + 1]).sum(axis=1)
        expected[:, c] = x[:, c] / (1.5 + 0.5 / size * squares) ** 0.6
    np.testing.assert_allclose(run(module, {"x0": x})["y0"], expected, rtol=1e-5)


CONSTANTS = [
    {"value": tensor([[1.5, -2.0]])},
    {"value": tensor([[1.5, -2.0]], np.float64)},
    {"value": tensor([[1.5, -2.0]], np.float16)},
    {"value_float": 2.5},
    {"value_floats": [2.5, 3.5]},
    {"sparse_value": helper.make_sparse_tensor(tensor([4.0]), tensor([1], np.int64), [2])},
]


@pytest.mark.parametrize("value", CONSTANTS, ids=lambda value: next(iter(value)))
def test_constants_of_every_kind(value):
    nodes = [
        helper.make_node("Constant", [], ["c"], **value),
        helper.make_node("Cast", ["c"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "f"], ["y"]),
    ]
    module = import_model(graph_model(nodes, {"x": (3, 2)}, ["y"]))
    x = random_inputs(module)["x"]
    (kind,) = value
    data = [1.5, -2.0] if kind == "value" else [0.0, 4.0] if kind == "sparse_value" else value[kind]
    np.testing.assert_array_equal(run(module, {"x": x})["y"], x * np.array(data, np.float32))


def test_weights_in_half_and_double_precision_become_float32():
    nodes = [helper.make_node("Mul", ["x", "h"], ["t"]), helper.make_node("Add", ["t", "d"], ["y"])]
    module = import_model(graph_model(nodes, {"x": (2,), "h": np.float16([1, 2]), "d": np.float64([3, 4])}, ["y"]))
    x = np.float32([5, 6])
    np.testing.assert_array_equal(run(module, {"x": x})["y"], np.float32([8, 16]))


OF_SOME_NUMBERS = {
    **dict.fromkeys(("Log", "Reciprocal", "Sqrt", "ReduceLogSum"), "Exp"),
    "Acosh": "Cosh",
    **dict.fromkeys(("Acos", "Asin", "Atanh"), "Sigmoid"),
}
"""Functions that not every number has, and one whose results have them."""


@pytest.mark.parametrize("op_type", OF_SOME_NUMBERS)
def test_functions_of_some_numbers(op_type):
    nodes = [helper.make_node(OF_SOME_NUMBERS[op_type], ["x"], ["z"]), helper.make_node(op_type, ["z"], ["y"])]
    assert_imports_exactly(graph_model(nodes, {"x": IMAGE}, ["y"]))


def test_every_row_of_the_table_has_a_case():
    tested = {case[0] for case in CASES} | {case[0] for _, case in OLDER}
    elsewhere = {"Split", "Constant", "ConstantOfShape", "Shape", "Size", *OF_SOME_NUMBERS}
    elsewhere |= {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger"}  # test_dynamic.py
    elsewhere |= {"DequantizeLinear", "QLinearConv", "QLinearMatMul", "QuantizeLinear"}  # test_quantized.py
    elsewhere |= {*PREDICATES, "CastLike"}  # test_truth_values.py
    elsewhere |= {"ArgMax", "ArgMin", "OneHot"}  # test_indices.py
    elsewhere |= {"GRU", "LSTM", "RNN"}  # test_recurrent.py
    elsewhere |= {"If", "Loop", "ReverseSequence", "Scan"}  # test_branches.py, test_loops.py
    assert {operator.op_type for operator in OPERATORS} == tested | elsewhere
    assert [operator.op_type for operator in OPERATORS] == sorted(operator.op_type for operator in OPERATORS)
