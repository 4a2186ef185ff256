"""The comparison of int8 with onnxruntime over random draws of the calibration samples, the same ones for both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from answers import Answer
from crossed import Estimate, crossed, decibels

SEED = 0


@dataclass
class Drawn:
    """One rival of int8 on one network, means over draws; `worse` is int8's loss less the rival's, in points.

    `losses` holds (int8, rival) of every draw. `gain_db` is what int8 is ahead in SQNR, None where either is exact.
    `recall` are the hits of every class of the test samples in percent, (float, int8, rival), and `tested` the share of
    samples that are given one of these classes, where the rival is ahead.
    """

    network: str
    variant: str
    losses: list[tuple[float, float]]
    loss: Estimate
    worse: Estimate
    sqnr_db: tuple[float, float] | None
    gain_db: Estimate | None
    verdict: str = "yes"
    recall: dict[int, tuple[float, ...]] = field(default_factory=dict[int, tuple[float, ...]])
    tested: tuple[float, ...] = ()


def halves(samples: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """`count` random halves of `samples`, each in its order.

    The spread over random halves is that over samples as many as all of them (the delete-d jackknife with d = n / 2:
    Shao and Wu, "A general theory for jackknife variance estimation", Annals of Statistics 17, 1989).
    """
    random = np.random.default_rng(SEED)
    for _ in range(count):
        yield samples[np.sort(random.permutation(len(samples))[: max(len(samples) // 2, 1)])]


def compare_draws(
    network: str,
    reference: Answer,
    ours: Sequence[Answer],
    rivals: Mapping[str, Sequence[Answer]],
    labels: np.ndarray,
    signal: float,
) -> list[Drawn]:
    """Print and return one row for each of `rivals`: answers, one a draw, like `ours`; `signal` of the float logits."""
    print(
        f"means over {len(ours)} draws of the calibration samples; brackets: 95 % over draws and test samples\n"
        f"{'network':22} {'variant':33} {'loss':>6} {'':15} {'its':>6} {'worse':>6}"
        f"{'':18}{'SQNR':>5} {'its':>6} {'gain':>6}"
    )
    return [_show(_compared(network, name, reference, ours, found, labels, signal)) for name, found in rivals.items()]


def _compared(
    network: str,
    variant: str,
    reference: Answer,
    ours: Sequence[Answer],
    theirs: Sequence[Answer],
    labels: np.ndarray,
    signal: float,
) -> Drawn:
    """One row; `_hits` and noise are [draws, samples]."""
    before = 100.0 * (np.asarray(reference.classes) == labels)
    mine, other = _hits(ours, labels), _hits(theirs, labels)
    worse = crossed(other - mine)
    row = Drawn(
        network=network,
        variant=f"int8 against {variant}",
        losses=[
            (float(before.mean() - a), float(before.mean() - b))
            for a, b in zip(mine.mean(axis=1), other.mean(axis=1), strict=True)
        ],
        loss=crossed(before - mine),
        worse=worse,
        sqnr_db=None,
        gain_db=None,
    )
    noises = [np.asarray([one.noise for one in found]) for found in (ours, theirs)]
    if all(noise.mean(axis=1).all() for noise in noises):
        a, b = (decibels(signal, noise) for noise in noises)
        row.sqnr_db, row.gain_db = (float(a.mean()), float(b.mean())), crossed(a - b)
    if worse.low > 0.0:
        row.verdict = f"worse than {variant} by {worse.mean:.2f} points, beyond the interval over draws and samples"
        classes = np.unique(labels)
        sides = (before[None], mine, other)
        row.recall = {int(c): tuple(float(side[:, labels == c].mean()) for side in sides) for c in classes}
        answers = ([reference], ours, theirs)
        row.tested = tuple(100.0 * float(np.isin([one.classes for one in side], classes).mean()) for side in answers)
    return row


def _hits(found: Sequence[Answer], labels: np.ndarray) -> np.ndarray:
    """100 where a sample is classified as its label says, else 0."""
    return 100.0 * (np.asarray([one.classes for one in found]) == labels)


def _show(row: Drawn) -> Drawn:
    theirs = float(np.mean([other for _, other in row.losses]))
    ratios = f"{'-':>5} {'-':>6}" if row.sqnr_db is None else "{:5.1f} {:6.1f}".format(*row.sqnr_db)
    print(
        f"{row.network:22} {row.variant:33} {_interval(row.loss)} {theirs:6.2f} {_interval(row.worse)}"
        f"  {ratios} {_interval(row.gain_db)}  {row.verdict}",
        flush=True,
    )
    for label, shares in row.recall.items():
        print(f"    class {label}: {_shares(shares)}")
    if row.recall:
        print(f"    given one of these classes: {_shares(row.tested)}", flush=True)
    return row


def _interval(found: Estimate | None) -> str:
    return f"{'-':>22}" if found is None else f"{found.mean:6.2f} {f'[{found.low:.2f}, {found.high:.2f}]':>15}"


def _shares(shares: Sequence[float]) -> str:
    return ", ".join(
        f"{name} {share:.1f} %" for name, share in zip(("float", "int8", "onnxruntime"), shares, strict=True)
    )
