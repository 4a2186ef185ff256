"""Oracle == quantized IR == tile IR == simulated program, bit for bit, and a ledger that balances, on real networks.

By default nearly every network is compiled at every level, the targets taking turns so that every network and level
meets each of them. `python -m pytest -m full tests/endtoend` runs all combinations, and the largest networks.
"""

from __future__ import annotations

import pytest
from endtoend.agreement import LEVELS, TARGETS, check
from endtoend.networks import LARGE_LIGHT, NETWORKS, NOISY, SMALL_LIGHT, TRAINED, UnavailableError, network

Case = tuple[str, str, str]

RAW = tuple(name for name in TRAINED if name.endswith("_rawtorch"))
"""As an exporter wrote them: the same networks as others once they are simplified."""
ALIKE = tuple(name for name in TRAINED if name.endswith("_hardscale") or name.startswith("resnet8_cifar10+"))
"""The same layers as others here: at -O3, which takes longest, those are enough."""
SLOW = (
    "ad_autoencoder",
    "resnet20_cifar10_bn",
    "shufflenetv2_cifar10_bn",
    "tinyvit_cifar10",
    "vww_mobilenetv1_025_96+logits",
)
"""They take 20 seconds to a minute at -O3."""
TURNS: list[Case] = [
    (name, TARGETS[(row + column) % len(TARGETS)], level)
    for row, name in enumerate((*TRAINED, *NOISY))
    for column, level in enumerate(LEVELS)
    if (name not in RAW or level in ("O0", "O2")) and (name not in ALIKE + SLOW or level != "O3")
]
SMALLEST: list[Case] = [(name, target, "O2") for name in TRAINED[:1] for target in ("tile64", *TARGETS)]
LIGHT: list[Case] = [
    *((name, "tile32", level) for name in SMALL_LIGHT for level in ("O0", "O2")),
    (LARGE_LIGHT[0], "tile32", "O2"),
]
DEFAULT = list(dict.fromkeys([*TURNS, *SMALLEST, *LIGHT]))
FULL = [(name, target, level) for name in NETWORKS for level in LEVELS for target in (*TARGETS, "tile64")]


def samples_of(name: str) -> int:
    """Eight samples of the small networks, one where a sample is an image of 224 x 224 pixels."""
    return 1 if name.startswith("light_") else 8


def agree(case: Case, *, thorough: bool, precision: str = "int8") -> None:
    """Fail with a sentence for every form that differs and every sum that is wrong."""
    name, target, level = case
    try:
        network(name)
    except UnavailableError as error:
        pytest.skip(str(error))
    found = check(name, target, level, precision=precision, count=samples_of(name), thorough=thorough)
    assert not found.differences, "\n".join(found.differences)
    assert all(found.equal.values())
    assert found.balanced
    assert found.distinct > 2, "the outputs hold too few different values to tell anything"


WIDE: list[tuple[Case, str]] = [
    ((name, TARGETS[row % len(TARGETS)], level), precision)
    for row, (name, level, precisions) in enumerate(
        (
            ("digits_depthwise", "O2", ("int16", "int16x8", "mixed")),
            ("digits_shufflenet", "O0", ("int16", "mixed")),
            ("resnet8_cifar10", "O2", ("int16", "int16x8", "mixed")),
            ("shufflenetv2_cifar10_bn", "O2", ("int16", "mixed")),
            ("tinyvit_cifar10", "O2", ("int16", "mixed")),
            ("kws_dscnn", "O2", ("int16", "mixed")),
        )
    )
    for precision in precisions
]


FLOATS: list[Case] = [
    (name, target, level)
    for name, target, level in zip(
        ("digits_shufflenet", "digits_depthwise", "resnet8_cifar10", "kws_dscnn"),
        ("tile16", "array32", "tile32", "tile64"),
        LEVELS,
        strict=True,
    )
]


@pytest.mark.parametrize("case", FLOATS, ids="-".join)
def test_every_form_computes_the_same_bits_in_bf16(case: Case) -> None:
    agree(case, precision="bf16", thorough=False)


@pytest.mark.parametrize(
    ("case", "precision"), WIDE, ids=lambda value: value if isinstance(value, str) else "-".join(value)
)
def test_every_form_computes_the_same_bits_in_16_bits(case: Case, precision: str) -> None:
    agree(case, precision=precision, thorough=False)


@pytest.mark.parametrize("case", DEFAULT, ids="-".join)
def test_every_form_computes_the_same_bits(case: Case) -> None:
    agree(case, thorough=False)


@pytest.mark.full
@pytest.mark.parametrize("case", FULL, ids="-".join)
def test_every_form_computes_the_same_bits_everywhere(case: Case) -> None:
    agree(case, thorough=True)
