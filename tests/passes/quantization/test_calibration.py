"""Calibration: which samples a run takes, what is observed, what is refused."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from accelc.dialects.core.diagnostics import CompileError
from accelc.dialects.core.operation import Module
from accelc.dialects.core.parser import parse_module
from accelc.dialects.registry import CONTEXT
from accelc.passes.framework.environment import Advance, CalibrationData, Environment
from accelc.passes.framework.synthetic import synthetic_count, synthetic_samples
from accelc.passes.insert_quantization import InsertQuantization
from accelc.passes.quantization.calibration import calibrate
from accelc.passes.quantization.ranges import Range
from accelc.passes.quantization.sampling import Samples


def negation(shape: str) -> Module:
    return parse_module(
        f"""const @minus : tensor<f32> = dense<-2.0>
        func @main(%x: tensor<{shape}xf32>) -> tensor<{shape}xf32> {{
          %0 = nn.mul %x, @minus : (tensor<{shape}xf32>, tensor<f32>) -> tensor<{shape}xf32>
          return %0 : tensor<{shape}xf32> -> ()
        }}""",
        CONTEXT,
    )


def ranges(module: Module, **samples: np.ndarray) -> list[Range]:
    values = [*module.main.arguments, *(op.result for op in module.main.body if op.results)]
    found = calibrate(module, CalibrationData(samples), values)
    return [found[value].limits for value in values]


@pytest.mark.parametrize("shape", ["1x2", "2x2", "3x2"])
def test_every_row_is_seen_whatever_the_batch_of_the_model(shape: str) -> None:
    rows = np.arange(-10, 10, dtype=np.float32).reshape(10, 2)
    assert ranges(negation(shape), x=rows) == [Range(-10.0, 9.0), Range(-18.0, 20.0)]


def test_inputs_may_be_whole() -> None:
    whole = np.arange(24, dtype=np.float64).reshape(4, 3, 2)
    assert ranges(negation("3x2"), x=whole) == [Range(0.0, 23.0), Range(-46.0, 0.0)]


def test_arrays_that_are_no_input_are_ignored() -> None:
    assert ranges(negation("1x1"), x=np.ones((3, 1), np.float32), labels=np.zeros(3)) == [Range(1, 1), Range(-2, -2)]


def test_progress_counts_every_sample() -> None:
    counts: list[int] = []

    @contextmanager
    def progress(title: str, total: int) -> Iterator[Advance]:
        assert (title, total) == ("calibrating", 150)
        yield counts.append

    module = negation("1x1")
    calibrate(module, CalibrationData({"x": np.ones((150, 1), np.float32)}), [], progress=progress)
    assert sum(counts) == 150
    assert len(counts) < 10


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ({"y": np.ones((2, 4))}, "no array 'x' for that input of the model, found 'y'"),
        ({"x": np.ones((2, 3))}, r"'x' is float64\[2, 3\], expected float32\[samples, 4\]"),
        ({"x": np.array([["a"] * 4])}, "expected float32"),
    ],
)
def test_unfit_samples_are_refused(samples: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        Samples(negation("1x4").main, CalibrationData(samples))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(bad: float) -> None:
    rows = np.ones((5, 1), np.float32)
    rows[3] = bad
    with pytest.raises(CompileError, match="calibration data of input 'x' hold NaN or infinity"):
        ranges(negation("1x1"), x=rows)


def test_synthetic_samples_are_reproducible() -> None:
    main = negation("2x3").main
    first, again, other = (synthetic_samples(main, 4, seed).samples["x"] for seed in (1, 1, 2))
    assert first.shape == (4, 2, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("shape", "count"), [("1x224x224x3", 2), ("1x8x8x1", 64), ("1x80x80x3", 13)])
def test_large_inputs_need_few_synthetic_samples(shape: str, count: int) -> None:
    assert synthetic_count(negation(shape).main) == count


def test_without_calibration_data_there_is_one_warning() -> None:
    environment = Environment()
    InsertQuantization().run(negation("1x4"), environment)
    (warning,) = [remark for remark in environment.remarks if remark.kind == "warning"]
    assert "not to be relied on" in warning.message
    environment = Environment(calibration=CalibrationData({"x": np.ones((2, 4), np.float32)}))
    InsertQuantization().run(negation("1x4"), environment)
    assert [remark.kind for remark in environment.remarks] == ["analysis", "applied"]


def test_the_number_of_samples_can_be_limited() -> None:
    rows = np.array([[1.0], [2.0], [100.0]], np.float32)
    environment = Environment(calibration=CalibrationData({"x": rows}))
    module = negation("1x1")
    InsertQuantization(samples=2, method="min-max").run(module, environment)
    first = next(iter(module.main.body))
    assert first.result.type.element.scale == pytest.approx(2 / 255)
