"""Prints what integers cost in top-1: every network and precision, beside onnxruntime's quantize_static, in one run.

    python benchmarks/accuracy.py [--networks NAME ...] [--precisions int8 ...] [--samples N] [--calibration N]
                                  [--rivals all|min-max|none] [--draws K] [--cache FILE] [--json FILE]

Calibration sees at most `--calibration` unlabelled samples of the training part, evaluation all (or `--samples`) of
the test part. `like_*` are small networks of other families with random weights (topologies.py): images are noise with
the spectrum of photographs, spectrograms smooth noise around a word, labels the classes of the float network. Every
program is compiled for tile32 at -O2 and simulated; onnxruntime calibrates on the same samples and runs its models
without graph optimizations (true QDQ semantics). Reference is onnxruntime in float32. Loss is the top-1 of float less
that of the variant, in points, with a 95 % score interval for paired samples (Tango 1998); flips are samples whose
class differs; SQNR is that of the logits. `by chance` is the loss, with its standard deviation, when the same errors of
the logits fall on other samples: what noise of this size costs on these images. With `--cache` answers are kept in a
file, and only those are measured again that a change of the compiler, a model, samples or options may have changed. The
exit status is 1 if a figure misses its limit or a rival. Needs the test extra.

What a quantizer makes of a network also depends on the samples it happens to see. `--draws K` quantizes to int8 from K
random halves of the calibration samples (seed 0), accelc and onnxruntime (min-max, per tensor and per channel) from the
same ones, and prints mean loss, mean SQNR and their paired differences with 95 % intervals over draws and test samples
(crossed.py states the formula). Where onnxruntime is ahead beyond the interval, the share of hits of every class is
shown as well.

This file imports nothing heavy: BLAS reads its settings when it is loaded.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path

from arguments import positive
from catalogue import ACCURACY_NETWORKS, TOPOLOGY_NAMES
from speed import THREAD_VARIABLES

from accelc.compiler.usage import PRECISIONS

MOST_CALIBRATION = 512
FEWEST_DRAWS = 3


def main() -> int:
    """Compare everything in one thread."""
    options = arguments()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        losses = import_module("losses")
    except ModuleNotFoundError as error:
        print(f"{error}; python -m pip install -e '.[test]' installs what the benchmarks need", file=sys.stderr)
        return 1
    return losses.compare(options)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("accuracy.py", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    names = (*ACCURACY_NETWORKS, *TOPOLOGY_NAMES)
    add("--networks", nargs="+", choices=names, default=ACCURACY_NETWORKS, metavar="NAME", help=", ".join(names))
    add("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS, metavar="PRECISION")
    add("--samples", type=positive, default=None, metavar="N", help="test samples of each network (default all)")
    add("--calibration", type=_calibration, default=256, metavar="N", help="calibration samples (default 256)")
    add("--rivals", choices=("all", "min-max", "none"), default="all", help="onnxruntime's calibration methods")
    add(
        "--draws",
        type=_draws,
        default=0,
        metavar="K",
        help="compare int8 over K random halves of the calibration samples",
    )
    add("--cache", metavar="FILE", type=Path, help="answers of earlier runs, kept and taken from there")
    add("--json", metavar="FILE", type=Path, help="write all figures as data")
    return parser.parse_args()


def _calibration(text: str) -> int:
    number = positive(text)
    if number > MOST_CALIBRATION:
        raise argparse.ArgumentTypeError(f"{number}, expected at most {MOST_CALIBRATION}")
    return number


def _draws(text: str) -> int:
    number = positive(text)
    if number < FEWEST_DRAWS:
        raise argparse.ArgumentTypeError(
            f"{number}, expected at least {FEWEST_DRAWS}: fewer say nothing about their spread"
        )
    return number


if __name__ == "__main__":
    sys.exit(main())
