"""Every ONNX operator the importer knows, in one table: handler, opsets, restrictions, and what it becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import (
    activation,
    arithmetic,
    attention,
    comparisons,
    control,
    convolution,
    dynamic,
    einsum,
    functions,
    indexing,
    layer_normalization,
    learning,
    movement,
    normalization,
    pooling,
    quantized,
    recurrent,
    reductions,
    resampling,
    selection,
    shapes,
    transposed_convolution,
)
from .lowering import Imported, Lowering, Meaning
from .reading import EXPORTED, FIRST_OPSET, LAST_OPSET

Handler = Callable[[Lowering], Imported | Sequence[Imported | None] | Sequence[Meaning]]


@dataclass(frozen=True, slots=True)
class Operator:
    """One row: `becomes` says how the operator executes, `restrictions` what of it is refused.

    `ignored` names the attributes and inputs that change nothing here. What else a node has beyond the defaults must be
    read by the handler: otherwise an attribute or input of a newer opset would be lost without a word.
    """

    op_type: str
    lower: Handler
    becomes: str
    restrictions: str = ""
    first: int = FIRST_OPSET
    last: int = LAST_OPSET
    domain: str = ""
    ignored: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name with its domain, if it is not the standard's."""
        return f"{self.domain}.{self.op_type}" if self.domain else self.op_type

    @property
    def opsets(self) -> str:
        """The range of opsets in words."""
        return f"{self.first} to {self.last}"


RECURRENT = "constant weights, sequences of full length up to 1024 steps, no clip"
IMAGES = "float32, one or two spatial axes"
DYNAMIC = "behind DynamicQuantizeLinear, with a Cast to float and a Mul by its scale"
ONE_SCALE = "one scale for an activation, any for constants"

OPERATORS: tuple[Operator, ...] = (
    Operator("Abs", functions.lower_abs, "nn.abs"),
    Operator("Acos", functions.lower_acos, "nn.acos"),
    Operator("Acosh", functions.lower_acosh, "nn.acosh", first=9),
    Operator("Add", arithmetic.lower_add, "nn.add"),
    Operator("And", comparisons.lower_and, "nn.mul"),
    Operator("ArgMax", indexing.lower_arg_max, "nn.arg_max", "at most 32768 elements along the axis"),
    Operator("ArgMin", indexing.lower_arg_min, "nn.neg and nn.arg_max", "at most 32768 elements along the axis"),
    Operator("Asin", functions.lower_asin, "nn.asin"),
    Operator("Asinh", functions.lower_asinh, "nn.asinh", first=9),
    Operator("Atan", functions.lower_atan, "nn.atan"),
    Operator("Atanh", functions.lower_atanh, "nn.atanh", first=9),
    Operator(
        "Attention",
        attention.lower_attention,
        "nn.matmul, nn.softmax, nn.matmul",
        "no past, one output; a mask that is constant or float",
        first=23,
        ignored=("qk_matmul_output_mode", "softmax_precision"),
    ),
    Operator("AveragePool", pooling.lower_average_pool, "nn.average_pool", IMAGES),
    Operator(
        "BatchNormalization",
        normalization.lower_batch_normalization,
        "nn.batch_norm",
        "inference form, spatial = 1",
        ignored=("momentum",),
    ),
    Operator(
        "Cast",
        comparisons.lower_cast,
        "nothing; to integers nn.floor, to truth values nn.not_equal",
        "numbers stay float32 inside; any type on constants",
        ignored=("saturate", "round_mode"),
    ),
    Operator(
        "CastLike",
        comparisons.lower_cast_like,
        "nothing; to integers nn.floor, to truth values nn.not_equal",
        "as Cast",
        first=15,
        ignored=("saturate", "round_mode"),
    ),
    Operator("Ceil", functions.lower_ceil, "nn.ceil"),
    Operator("Celu", functions.lower_celu, "nn.elu", first=12),
    Operator("Clip", activation.lower_clip, "nn.clip or nn.relu; nn.sub, nn.relu and nn.add where a bound is computed"),
    Operator("Concat", movement.lower_concat, "nn.concat"),
    Operator("Constant", shapes.lower_constant, "a constant", "no strings"),
    Operator("ConstantOfShape", shapes.lower_constant_of_shape, "a constant", "constant shape", first=9),
    Operator("Conv", convolution.lower_conv, "nn.conv2d", IMAGES),
    Operator("ConvInteger", dynamic.lower_conv_integer, "nn.conv2d", DYNAMIC, first=10),
    Operator(
        "ConvTranspose",
        transposed_convolution.lower_conv_transpose,
        "nn.conv2d, nn.reshape and nn.transpose",
        f"{IMAGES}, constant weight and bias",
    ),
    Operator("Cos", functions.lower_cos, "nn.cos"),
    Operator("Cosh", functions.lower_cosh, "nn.cosh", first=9),
    Operator(
        "CumSum", reductions.lower_cum_sum, "nn.matmul", "constant axis, at most 2048 elements along it", first=11
    ),
    Operator("DepthToSpace", resampling.lower_depth_to_space, "nn.reshape and nn.transpose"),
    Operator(
        "DequantizeLinear",
        quantized.lower_dequantize,
        "quant.dequantize, quant.scale",
        f"{ONE_SCALE}; no blocks",
        first=10,
    ),
    Operator("Div", arithmetic.lower_div, "nn.div"),
    Operator("Dropout", arithmetic.lower_dropout, "nothing", "inference, no mask output", ignored=("ratio", "seed")),
    Operator(
        "DynamicQuantizeLinear",
        dynamic.lower_dynamic_quantize,
        "nothing: what follows computes on real numbers, which are quantized as all others are",
        "read by ConvInteger and MatMulInteger",
        first=11,
    ),
    Operator(
        "Einsum",
        einsum.lower_einsum,
        "nn.matmul, with nn.transpose, nn.reshape and nn.reduce_mean",
        "one or two operands, no ellipsis, no diagonal",
        first=12,
    ),
    Operator("Elu", functions.lower_elu, "nn.elu"),
    Operator("Equal", comparisons.lower_equal, "nn.equal, with nn.sub where both sides vary"),
    Operator("Erf", functions.lower_erf, "nn.erf", first=9),
    Operator("Exp", functions.lower_exp, "nn.exp"),
    Operator("Expand", selection.lower_expand, "nn.gather", "constant shape", first=8),
    Operator("Flatten", shapes.lower_flatten, "nn.reshape"),
    Operator("Floor", functions.lower_floor, "nn.floor"),
    Operator("GRU", recurrent.lower_gru, "nn.matmul, nn.sigmoid, nn.tanh, nn.mul and nn.add, step by step", RECURRENT),
    Operator(
        "Gather",
        movement.lower_gather,
        "nn.gather or nn.slice; nn.embedding",
        "constant indices, or constant data of at most 32768 entries",
    ),
    Operator("Gelu", functions.lower_gelu, "nn.gelu", first=20),
    Operator("Gemm", arithmetic.lower_gemm, "nn.matmul, nn.add where C is no row"),
    Operator("GlobalAveragePool", pooling.lower_global_average_pool, "nn.reduce_mean"),
    Operator("GlobalMaxPool", pooling.lower_global_max_pool, "nn.max_pool", IMAGES),
    Operator("Greater", comparisons.lower_greater, "nn.greater or nn.less, with nn.sub where both sides vary"),
    Operator("GreaterOrEqual", comparisons.lower_greater_or_equal, "as Greater", first=12),
    Operator(
        "GroupNormalization",
        layer_normalization.lower_group_normalization,
        "nn.layer_norm and nn.batch_norm",
        "constant scale and bias",
        first=21,
    ),
    Operator("HardSigmoid", activation.lower_hard_sigmoid, "nn.hard_sigmoid"),
    Operator("HardSwish", activation.lower_hard_swish, "nn.hard_swish", first=14),
    Operator("Identity", arithmetic.lower_identity, "nothing"),
    Operator(
        "If",
        control.lower_if,
        "the branch that is taken",
        "a condition that is known at import",
        ignored=("then_branch", "else_branch"),
    ),
    Operator(
        "InstanceNormalization",
        layer_normalization.lower_instance_normalization,
        "nn.layer_norm and nn.batch_norm",
        "constant scale and bias",
    ),
    Operator("IsNaN", comparisons.lower_is_nan, "nn.is_nan; false of a softmax", first=9),
    Operator("LRN", normalization.lower_lrn, "nn.lrn"),
    Operator(
        "LSTM", recurrent.lower_lstm, "nn.matmul, nn.sigmoid, nn.tanh, nn.mul and nn.add, step by step", RECURRENT
    ),
    Operator(
        "LayerNormalization",
        layer_normalization.lower_layer_normalization,
        "nn.layer_norm",
        "in integers: constant scale and bias",
        first=17,
    ),
    Operator("LeakyRelu", activation.lower_leaky_relu, "nn.leaky_relu"),
    Operator("Less", comparisons.lower_less, "as Greater"),
    Operator("LessOrEqual", comparisons.lower_less_or_equal, "as Greater", first=12),
    Operator("Log", functions.lower_log, "nn.log"),
    Operator(
        "LogSoftmax", normalization.lower_log_softmax, "nn.max_pool, nn.sub, nn.exp, nn.reduce_mean, nn.log, nn.sub"
    ),
    Operator(
        "Loop",
        control.lower_loop,
        "its body, once for every iteration",
        "number of iterations and condition known at import, at most 20000 nodes in all",
        first=11,
        ignored=("body",),
    ),
    Operator("LpNormalization", normalization.lower_lp_normalization, "nn.reduce_mean and nn.div"),
    Operator("MatMul", arithmetic.lower_matmul, "nn.matmul"),
    Operator("MatMulInteger", dynamic.lower_matmul_integer, "nn.matmul", DYNAMIC, first=10),
    Operator("Max", functions.lower_max, "nn.clip, or nn.sub, nn.relu and nn.add"),
    Operator(
        "MaxPool", pooling.lower_max_pool, "nn.max_pool", f"{IMAGES}, no Indices output", ignored=("storage_order",)
    ),
    Operator("Mean", arithmetic.lower_mean, "nn.add and nn.mul"),
    Operator("MeanVarianceNormalization", normalization.lower_mean_variance_normalization, "nn.layer_norm", first=9),
    Operator("Min", functions.lower_min, "nn.clip, or nn.sub, nn.relu and nn.sub"),
    Operator("Mish", functions.lower_mish, "nn.mish", first=18),
    Operator("Mul", arithmetic.lower_mul, "nn.mul"),
    Operator("Neg", functions.lower_neg, "nn.neg"),
    Operator("Not", comparisons.lower_not, "nn.less"),
    Operator(
        "OneHot",
        indexing.lower_one_hot,
        "nn.embedding",
        "float values, constant depth of at most 2048, indices within it",
        first=9,
    ),
    Operator("Or", comparisons.lower_or, "nn.add"),
    Operator("PRelu", activation.lower_prelu, "nn.prelu, nn.leaky_relu, or nn.relu, nn.clip, nn.mul and nn.add"),
    Operator(
        "Pad",
        movement.lower_pad,
        "nn.pad, nn.slice for negative pads, nn.gather for edge, reflect and wrap",
        "constant pads",
    ),
    Operator("Pow", functions.lower_pow, "nn.pow", "one constant exponent"),
    Operator("QLinearConv", quantized.lower_qlinear_conv, "nn.conv2d", f"{IMAGES}; {ONE_SCALE}", first=10),
    Operator("QLinearMatMul", quantized.lower_qlinear_matmul, "nn.matmul", ONE_SCALE, first=10),
    Operator(
        "QuantizeLinear",
        quantized.lower_quantize,
        "quant.quantize",
        f"{ONE_SCALE}; no blocks",
        first=10,
        ignored=("saturate",),
    ),
    Operator(
        "RMSNormalization",
        layer_normalization.lower_rms_normalization,
        "nn.layer_norm",
        "in integers: constant scale",
        first=23,
    ),
    Operator("RNN", recurrent.lower_rnn, "nn.matmul and nn.tanh, step by step", RECURRENT),
    Operator("Reciprocal", functions.lower_reciprocal, "nn.reciprocal"),
    Operator("ReduceL1", reductions.lower_reduce_l1, "nn.abs and nn.reduce_mean", "constant axes"),
    Operator("ReduceL2", reductions.lower_reduce_l2, "nn.pow, nn.reduce_mean and nn.sqrt", "constant axes"),
    Operator("ReduceLogSum", reductions.lower_reduce_log_sum, "nn.reduce_mean and nn.log", "constant axes"),
    Operator(
        "ReduceLogSumExp",
        reductions.lower_reduce_log_sum_exp,
        "nn.max_pool, nn.sub, nn.exp, nn.reduce_mean, nn.log, nn.add",
        "constant axes",
    ),
    Operator("ReduceMax", reductions.lower_reduce_max, "nn.max_pool", "constant axes"),
    Operator("ReduceMean", reductions.lower_reduce_mean, "nn.reduce_mean", "constant axes"),
    Operator("ReduceMin", reductions.lower_reduce_min, "nn.neg, nn.max_pool and nn.neg", "constant axes"),
    Operator("ReduceSum", reductions.lower_reduce_sum, "nn.reduce_mean", "constant axes"),
    Operator("ReduceSumSquare", reductions.lower_reduce_sum_square, "nn.pow and nn.reduce_mean", "constant axes"),
    Operator("Relu", activation.lower_relu, "nn.relu"),
    Operator("Reshape", shapes.lower_reshape, "nn.reshape", "constant shape"),
    Operator(
        "Resize",
        resampling.lower_resize,
        "nn.gather (nearest) or nn.matmul (linear)",
        "constant scales or sizes; linear: one or two spatial axes",
        first=10,
        ignored=("roi", "cubic_coeff_a", "extrapolation_value"),
    ),
    Operator("ReverseSequence", selection.lower_reverse_sequence, "nn.gather", "constant lengths", first=10),
    Operator("Round", functions.lower_round, "nn.round", first=11),
    Operator(
        "Scan",
        control.lower_scan,
        "its body, once for every element",
        "at most 20000 nodes in all",
        first=9,
        ignored=("body",),
    ),
    Operator("Selu", functions.lower_selu, "nn.elu"),
    Operator("Shape", shapes.lower_shape, "a constant"),
    Operator("Sigmoid", activation.lower_sigmoid, "nn.sigmoid"),
    Operator("Sign", functions.lower_sign, "nn.sign", first=9),
    Operator("Sin", functions.lower_sin, "nn.sin"),
    Operator("Sinh", functions.lower_sinh, "nn.sinh", first=9),
    Operator("Size", shapes.lower_size, "a constant"),
    Operator("Slice", movement.lower_slice, "nn.slice, nn.gather for negative steps", "constant bounds"),
    Operator("Softmax", normalization.lower_softmax, "nn.softmax"),
    Operator("Softplus", functions.lower_softplus, "nn.softplus"),
    Operator("Softsign", functions.lower_softsign, "nn.softsign"),
    Operator("SpaceToDepth", resampling.lower_space_to_depth, "nn.reshape and nn.transpose"),
    Operator("Split", movement.lower_split, "nn.slice", "constant sizes"),
    Operator("Sqrt", functions.lower_sqrt, "nn.sqrt"),
    Operator("Squeeze", shapes.lower_squeeze, "nn.reshape", "constant axes"),
    Operator("Sub", arithmetic.lower_sub, "nn.sub"),
    Operator("Sum", arithmetic.lower_sum, "nn.add"),
    Operator("Swish", functions.lower_swish, "nn.silu", first=24),
    Operator("Tan", functions.lower_tan, "nn.tan"),
    Operator("Tanh", activation.lower_tanh, "nn.tanh"),
    Operator("ThresholdedRelu", functions.lower_thresholded_relu, "nn.relu", "alpha = 0", first=10),
    Operator("Tile", selection.lower_tile, "nn.gather", "constant repeats"),
    Operator("Transpose", shapes.lower_transpose, "nn.transpose"),
    Operator("Trilu", selection.lower_trilu, "nn.mul", "constant k", first=14),
    Operator("Unsqueeze", shapes.lower_unsqueeze, "nn.reshape", "constant axes"),
    Operator(
        "Upsample",
        resampling.lower_upsample,
        "nn.gather (nearest) or nn.matmul (linear)",
        "constant scales",
        last=9,
    ),
    Operator("Where", selection.lower_where, "nn.mul and nn.add", first=9),
    Operator("Xor", comparisons.lower_xor, "nn.sub and nn.not_equal"),
)
"""In alphabetical order. Besides these, any deterministic standard operator on constants is evaluated at import."""

_RUNTIME: dict[str, tuple[Handler, str]] = {
    "DequantizeLinear": (quantized.lower_dequantize, "quant.dequantize, quant.scale"),
    "QGemm": (quantized.lower_qgemm, "nn.matmul"),
    "QLinearAdd": (quantized.lower_qlinear_add, "nn.add"),
    "QLinearAveragePool": (quantized.lower_qlinear_average_pool, "nn.average_pool"),
    "QLinearConcat": (quantized.lower_qlinear_concat, "nn.concat"),
    "QLinearGlobalAveragePool": (quantized.lower_qlinear_global_average_pool, "nn.reduce_mean"),
    "QLinearLeakyRelu": (quantized.lower_qlinear_leaky_relu, "nn.leaky_relu"),
    "QLinearMul": (quantized.lower_qlinear_mul, "nn.mul"),
    "QLinearSigmoid": (quantized.lower_qlinear_sigmoid, "nn.sigmoid"),
    "QLinearSoftmax": (quantized.lower_qlinear_softmax, "nn.softmax"),
    "QuantizeLinear": (quantized.lower_quantize, "quant.quantize"),
}
RUNTIME_OPERATORS: tuple[Operator, ...] = tuple(
    Operator(name, lower, becomes, ONE_SCALE, 1, 1, "com.microsoft") for name, (lower, becomes) in _RUNTIME.items()
)
"""The operators of onnxruntime's own domain that its static quantization writes, in alphabetical order."""

_LABELS = "classes 0, 1, ..."
_LEARNING: tuple[tuple[str, Handler, str, str], ...] = (
    ("ArrayFeatureExtractor", learning.lower_array_feature_extractor, "nn.reshape", f"labels of {_LABELS}"),
    ("LinearClassifier", learning.lower_linear_classifier, "nn.matmul, nn.arg_max", f"{_LABELS}, no probit"),
    ("LinearRegressor", learning.lower_linear_regressor, "nn.matmul", "no transform"),
    ("Normalizer", learning.lower_normalizer, "nn.reduce_mean, nn.div", "L1 or L2"),
    ("Scaler", learning.lower_scaler, "nn.sub, nn.mul", ""),
)
LEARNING_OPERATORS: tuple[Operator, ...] = tuple(
    Operator(name, lower, becomes, restrictions, 1, 5, "ai.onnx.ml") for name, lower, becomes, restrictions in _LEARNING
)
"""The operators for classical models that scikit-learn's exporter writes beside products, in alphabetical order."""

EXPORTED_OPERATORS: tuple[Operator, ...] = (
    Operator("Lookup", quantized.lower_lookup, "quant.lookup", "int8", 1, 1, EXPORTED),
)
"""The functions of models that this compiler exports."""

BY_NAME = {
    (operator.domain, operator.op_type): operator
    for operator in (*OPERATORS, *RUNTIME_OPERATORS, *LEARNING_OPERATORS, *EXPORTED_OPERATORS)
}


def find_operator(op_type: str, domain: str = "") -> Operator | None:
    """The row of an operator, by default of the standard's domain."""
    return BY_NAME.get((domain, op_type))
