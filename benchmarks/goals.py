"""What accelc's speed is held against: every goal with its figure of the same run, and whether it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from depth import deviation
from rich import box
from rich.console import Console
from rich.table import Table
from stopwatch import Timing

if TYPE_CHECKING:
    from row import Row

INT8, FLOAT32 = "onnxruntime int8", "onnxruntime float32"


@dataclass
class Results:
    """All that one run has measured: networks, whole processes, compile seconds by layers, and what imports load."""

    rows: Mapping[str, Row]
    processes: Mapping[str, Timing]
    loaded: Sequence[str]
    depth: Mapping[int, Timing] = field(default_factory=dict[int, Timing])


@dataclass(frozen=True)
class Goal:
    """`figure` of the results, None if it was not measured, shall be at most `limit`, in `unit`."""

    what: str
    limit: float
    unit: str
    figure: Callable[[Results], float | None]


def ratio(network: str, rival: str, ours: str = "accelc") -> Callable[[Results], float | None]:
    """One sample, or with `ours` "accelc batch" one of a batch, over that of a rival that takes the same."""

    def figure(results: Results) -> float | None:
        row = results.rows.get(network)
        if row is None:
            return None
        mine, other = row.seconds(ours), row.seconds(rival)
        return None if mine is None or other is None else mine / other

    return figure


def seconds(network: str, what: str) -> Callable[[Results], float | None]:
    """Processor seconds of a measurement of a network."""
    return lambda results: results.rows[network].seconds(what) if network in results.rows else None


def process(name: str) -> Callable[[Results], float | None]:
    """Processor seconds of a whole process."""
    return lambda results: results.processes[name].seconds if name in results.processes else None


def _curvature(results: Results) -> float | None:
    if not results.depth:
        return None
    return 100 * deviation({layers: timing.seconds for layers, timing in results.depth.items()})


def _per_sample(network: str) -> Callable[[Results], float | None]:
    """A sample of a batch over int8's: of a batch too where the quantized model takes one, else one by one."""
    together, alone = ratio(network, f"{INT8} batch", "accelc batch"), ratio(network, INT8, "accelc batch")

    def figure(results: Results) -> float | None:
        found = together(results)
        return alone(results) if found is None else found

    return figure


GOALS: tuple[Goal, ...] = (
    Goal("light_resnet50, one image / int8", 2.0, "x", ratio("light_resnet50", INT8)),
    Goal("light_resnet50, one image / float32", 1.6, "x", ratio("light_resnet50", FLOAT32)),
    *(
        Goal(f"{name}, one image / int8", 2.5, "x", ratio(name, INT8))
        for name in ("light_squeezenet", "light_inception_v1", "light_vgg19")
    ),
    *(
        goal
        for name in ("light_shufflenet", "shufflenetv2", "vww_mobilenetv1")
        for goal in (
            Goal(f"{name}, one sample / int8", 4.0, "x", ratio(name, INT8)),
            Goal(f"{name}, a sample of 32 / int8", 2.0, "x", _per_sample(name)),
        )
    ),
    Goal("resnet8, 500 images evaluated, whole process", 4.0, "s", process("resnet8 evaluated")),
    Goal("resnet8 from QDQ, whole process", 1.0, "s", process("resnet8 from QDQ")),
    Goal("light_resnet50, ONNX to program, ranges given", 2.0, "s", seconds("light_resnet50", "compile, ranges given")),
    Goal("ResNets of 50 to 302 layers, off a straight line", 10.0, "%", _curvature),
    Goal("accelc --help", 0.25, "s", process("accelc --help")),
    Goal("heavy packages that import accelc loads", 0, "", lambda results: float(len(results.loaded))),
)


def judged(results: Results) -> list[dict[str, Any]]:
    """Every goal that was measured: `what`, `limit`, `unit`, `figure` and whether it `holds`."""
    found: list[dict[str, Any]] = []
    for goal in GOALS:
        figure = goal.figure(results)
        if figure is not None:
            holds = figure <= goal.limit
            found.append({"what": goal.what, "limit": goal.limit, "unit": goal.unit, "figure": figure, "holds": holds})
    return found


def show_goals(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    """Print one line a goal."""
    table = Table("goal", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in ("at most", "found", "holds"):
        table.add_column(title, justify="right")
    for goal in found:
        shown = [f"{goal[key]:.3g} {goal['unit']}".strip() for key in ("limit", "figure")]
        table.add_row(goal["what"], *shown, "yes" if goal["holds"] else "no")
    console.print(table)
