"""Functions of one number that have an operation of their own: exponentials, roots, powers, smooth activations."""

from __future__ import annotations

from ...dialects.nn import functions as nn
from ...dialects.nn import trigonometry
from ...dialects.nn.activation import ClipOp, ReluOp
from ...dialects.nn.elementwise import AddOp, SubOp
from .activation import unary
from .lowering import Imported, Known, Lowering, Unsupported

lower_exp = unary(nn.ExpOp)
lower_log = unary(nn.LogOp)
lower_sqrt = unary(nn.SqrtOp)
lower_reciprocal = unary(nn.ReciprocalOp)
lower_abs = unary(nn.AbsOp)
lower_neg = unary(nn.NegOp)
lower_sign = unary(nn.SignOp)
lower_floor = unary(nn.FloorOp)
lower_ceil = unary(nn.CeilOp)
lower_round = unary(nn.RoundOp)
lower_sin = unary(nn.SinOp)
lower_cos = unary(nn.CosOp)
lower_erf = unary(nn.ErfOp)
lower_softplus = unary(nn.SoftplusOp)
lower_softsign = unary(nn.SoftsignOp)
lower_mish = unary(nn.MishOp)
lower_tan = unary(trigonometry.TanOp)
lower_asin = unary(trigonometry.AsinOp)
lower_acos = unary(trigonometry.AcosOp)
lower_atan = unary(trigonometry.AtanOp)
lower_sinh = unary(trigonometry.SinhOp)
lower_cosh = unary(trigonometry.CoshOp)
lower_asinh = unary(trigonometry.AsinhOp)
lower_acosh = unary(trigonometry.AcoshOp)
lower_atanh = unary(trigonometry.AtanhOp)


def lower_gelu(lowering: Lowering) -> Imported:
    """Gelu: by erf, or with approximate = "tanh"."""
    approximate = lowering.node.text("approximate", "none")
    if approximate not in ("none", "tanh"):
        raise lowering.error(f"approximate is '{approximate}', expected none or tanh")
    return lowering.emit(nn.GeluOp, lowering.input(0), tanh=approximate == "tanh")


def lower_swish(lowering: Lowering) -> Imported:
    """Swish: x * sigmoid(alpha x)."""
    return lowering.emit(nn.SiluOp, lowering.input(0), alpha=lowering.node.number("alpha", 1.0))


def lower_elu(lowering: Lowering) -> Imported:
    """Elu: alpha defaults to 1."""
    return lowering.emit(nn.EluOp, lowering.input(0), alpha=lowering.node.number("alpha", 1.0))


def lower_celu(lowering: Lowering) -> Imported:
    """Celu: max(0, x) + min(0, alpha (exp(x / alpha) - 1))."""
    alpha = lowering.node.number("alpha", 1.0)
    if not alpha > 0:
        raise Unsupported(f"alpha is {alpha}, expected above 0")
    return lowering.emit(nn.EluOp, lowering.input(0), alpha=alpha, width=alpha)


def lower_selu(lowering: Lowering) -> Imported:
    """Selu: gamma (x for x > 0, alpha (exp(x) - 1) below); the defaults are those of the standard."""
    node = lowering.node
    alpha, gamma = node.number("alpha", 1.67326319217681884765625), node.number("gamma", 1.05070102214813232421875)
    return lowering.emit(nn.EluOp, lowering.input(0), alpha=alpha, scale=gamma)


def lower_thresholded_relu(lowering: Lowering) -> Imported:
    """ThresholdedRelu: x where x > alpha, else 0; only alpha = 0, where it is Relu, is continuous."""
    alpha = lowering.node.number("alpha", 1.0)
    if alpha != 0.0:
        raise Unsupported(f"alpha is {alpha}, expected 0")
    return lowering.emit(ReluOp, lowering.input(0))


def lower_pow(lowering: Lowering) -> Imported:
    """Pow with one constant exponent; x^1 is x."""
    exponent = lowering.input(1)
    if not isinstance(exponent, Known):
        raise Unsupported("the exponent is computed at run time, expected a constant")
    values = set(exponent.array.reshape(-1).tolist())
    if len(values) != 1:
        raise Unsupported(f"the exponent holds {len(values)} different numbers, expected one")
    if len(exponent.shape) > len(lowering.shape(0)):
        raise Unsupported("the exponent has more axes than the data")
    value = float(values.pop())
    return lowering.input(0) if value == 1.0 else lowering.emit(nn.PowOp, lowering.input(0), exponent=value)


def lower_min(lowering: Lowering) -> Imported:
    """Min with numbers is nn.clip; of two tensors min(a, b) == a - relu(a - b)."""
    return _extremum(lowering, largest=False)


def lower_max(lowering: Lowering) -> Imported:
    """Max with numbers is nn.clip; of two tensors max(a, b) == b + relu(a - b)."""
    return _extremum(lowering, largest=True)


def _extremum(lowering: Lowering, *, largest: bool) -> Imported:
    inputs = [lowering.input(index) for index in range(len(lowering.inputs))]
    computed = [value for value in inputs if not (isinstance(value, Known) and value.array.size == 1)]
    numbers = [
        float(value.array.reshape(-1)[0]) for value in inputs if value not in computed and isinstance(value, Known)
    ]
    result = computed[0]
    for other in computed[1:]:
        difference = lowering.emit(ReluOp, lowering.emit(SubOp, result, other))
        kept = other if largest else result
        result = lowering.emit(AddOp if largest else SubOp, kept, difference)
    for number in numbers:
        result = lowering.emit(ClipOp, result, **({"min": number} if largest else {"max": number}))
    return result
