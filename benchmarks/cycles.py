"""Prints how many cycles programs take beside the lower bounds, and what stands between them.

    python benchmarks/cycles.py [--only NETWORK[@TARGET] ...] [--level N] [--json FILE]

One row a network and target: cycles, the five lower bounds, cycles over the largest, the largest losses of the ledger
as shares of the cycles, cycles lost in SRAM banks, bytes spilled, and processor seconds from the model to the program.
Then, for each, the layers that lose most cycles in banks, what to, and what would change that. Needs the `test` extra;
networks whose files are absent are skipped with a line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
from catalogue import SHARED
from light_networks import light_path
from mobilenet import mobilenet_v2
from stalls import SHOWN, stalls

from accelc.backends.target import load_target
from accelc.compiler.driver import Settings, compile_module, emit
from accelc.compiler.measuring import measure
from accelc.dialects.core.diagnostics import CompileError

LIGHT = ("resnet50", "vgg19", "inception_v1", "squeezenet", "shufflenet")
FILES = {
    "resnet8": "resnet8_cifar10",
    "resnet20": "resnet20_cifar10_bn",
    "kws_dscnn": "kws_dscnn",
    "vww_mobilenetv1": "vww_mobilenetv1_025_96",
    "shufflenetv1": "shufflenetv1_cifar10_bn",
    "shufflenetv2": "shufflenetv2_cifar10_bn",
    "tinyvit": "tinyvit_cifar10",
}
ROWS = (
    ("light_resnet50", "array32"),
    *((f"light_{name}", "tile32") for name in LIGHT),
    *((name, "tile32") for name in FILES),
    ("resnet8", "npu256"),
    ("vww_mobilenetv1", "npu256"),
    ("mobilenet_v2", "npu256"),
)
BOUNDS = ("compute", "tiling", "vector", "dram", "schedule")
SHOWN_LOSSES = 4


def main() -> int:
    """Print the table; 1 if a network does not compile."""
    options = arguments()
    print(
        f"{'network':16} {'target':8} {'cycles':>11} " + " ".join(f"{name:>10}" for name in BOUNDS) + "  x bound  "
        f"{'stalls':>8} {'spilled':>10} {'seconds':>7}  largest losses"
    )
    rows, failed = [], 0
    for name, target in ROWS:
        if options.only and not {name, f"{name}@{target}"} & set(options.only):
            continue
        if not _is_there(name):
            print(f"{name:16} {target:8} skipped: its file is absent")
            continue
        try:
            rows.append(row(name, target, options.level))
        except CompileError as error:
            failed += 1
            print(f"{name:16} {target:8} failed: {error}", flush=True)
            continue
        print(line(rows[-1]), flush=True)
    for found in rows:
        print(stall_lines(found))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 1 if failed else 0


def row(name: str, target: str, level: int) -> dict[str, Any]:
    """Compile one network, from its bytes or its model, and measure the program."""
    source = _source(name)
    start = time.process_time()
    compiled = compile_module(source, Settings(load_target(target), opt_level=level))
    program = emit(compiled)
    seconds = time.process_time() - start
    report = measure(program).to_json()
    bounds = {bound: report["bounds"][f"{bound}_cycles"] for bound in BOUNDS}
    slots, total = report["ledger_slots"], sum(report["ledger_slots"].values())
    losses = {cause: count / total for cause, count in slots.items() if cause != "useful_mac" and count}
    return {
        "network": name,
        "target": target,
        "level": level,
        "cycles": report["cycles"],
        "bounds": bounds,
        "ratio": report["cycles"] / max(bounds.values()),
        "losses": dict(sorted(losses.items(), key=lambda item: -item[1])),
        "bank_stall_cycles": report["sram"]["bank_stall_cycles"],
        "spilled_bytes": report["sram"]["spilled_bytes"],
        "dram_bytes": report["dram_bytes"],
        "instructions": report["instructions"],
        "stalls": [
            {"layer": layer, "kind": kind, "cycles": cycles, "worst": asdict(conflict)}
            for layer, kind, cycles, conflict in stalls(compiled)
        ],
        "compile_seconds": seconds,
    }


def line(found: dict[str, Any]) -> str:
    """A row of the table."""
    bounds = " ".join(f"{found['bounds'][name]:10,}" for name in BOUNDS)
    losses = ", ".join(f"{cause} {share:.1%}" for cause, share in list(found["losses"].items())[:SHOWN_LOSSES])
    return (
        f"{found['network']:16} {found['target']:8} {found['cycles']:11,} {bounds} {found['ratio']:8.3f}  "
        f"{found['bank_stall_cycles']:8,} {found['spilled_bytes']:10,} {found['compile_seconds']:7.1f}  {losses}"
    )


def stall_lines(found: dict[str, Any]) -> str:
    """The layers of a network that lose most cycles in banks, with the worst conflict of each."""
    lost, total = found["stalls"], found["cycles"]
    head = f"{found['network']} on {found['target']}: {found['bank_stall_cycles']:,} of {total:,} cycles in banks"
    lines = [f"{head}, {len(lost)} layers" if lost else f"{head}"]
    for each in lost[:SHOWN]:
        worst = each["worst"]
        lines.append(f"  {each['cycles']:>9,}  {each['layer']} ({each['kind']}): {worst['what']}")
        lines.append(f"             would go with {worst['remedy']}")
    return "\n".join(lines)


def _path(name: str) -> Path:
    if name.startswith("light_"):
        return light_path(name.removeprefix("light_"))
    return SHARED / "models" / f"{FILES[name]}.onnx"


def _is_there(name: str) -> bool:
    return name == "mobilenet_v2" or _path(name).exists()


def _source(name: str) -> Path | onnx.ModelProto:
    return mobilenet_v2() if name == "mobilenet_v2" else _path(name)


def arguments() -> argparse.Namespace:
    """The command line."""
    names = sorted({name for name, _ in ROWS})
    parser = argparse.ArgumentParser("cycles.py", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--only", nargs="+", metavar="NETWORK[@TARGET]", help=f"of {', '.join(names)}")
    add("--level", type=int, default=2, choices=range(4), help="optimization level (default 2)")
    add("--json", metavar="FILE", type=Path, help="write the rows as data")
    options = parser.parse_args()
    known = {*names, *(f"{name}@{target}" for name, target in ROWS)}
    for name in options.only or ():
        if name not in known:
            parser.error(f"unknown network '{name}', expected one of {', '.join(sorted(known))}")
    return options


if __name__ == "__main__":
    sys.exit(main())
