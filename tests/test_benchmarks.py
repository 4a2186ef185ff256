"""The benchmark command measures a bundled network, writes its figures, and says what it leaves out and why."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from answers import Answer, Answers, chance, digest
from catalogue import DEFAULT_NETWORKS, NETWORKS, TOPOLOGY_NAMES
from crossed import crossed, decibels, student_95
from depth import STAGES, deviation, resnet
from goals import GOALS, Results, judged
from mobilenet import mobilenet_v2
from products import blas_alone
from row import Row
from stopwatch import Timing, in_turns
from topologies import FITTED, TOPOLOGIES, images, inputs_for

from accelc.compiler.report import Product

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What the command prints and writes for one network in one round."""
    path = tmp_path_factory.mktemp("benchmark") / "speed.json"
    command = [sys.executable, "benchmarks/speed.py", "--networks", "digits_cnn", "--runs", "1", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(path.read_text(encoding="utf-8"))


def test_every_figure_of_a_network_is_measured(measured):
    _, data = measured
    (network,) = data["networks"]
    assert network["name"] == "digits_cnn"
    assert network["equal_to_interpreter"] is True
    names = {"import", "passes", "emit", "compile", "compile calibrated", "load", "first run", "BLAS alone"}
    kinds = ("accelc", "onnxruntime float32", "onnxruntime int8")
    assert names | {*kinds, *(f"{kind} batch" for kind in kinds)} <= network["seconds"].keys()
    assert all(timing["median"] > 0 for timing in network["seconds"].values())
    parts = sum(network["seconds"][part]["median"] for part in ("import", "passes", "emit"))
    assert parts <= network["seconds"]["compile"]["median"]
    assert network["report"]["cycles"] >= max(network["report"]["bounds"].values())


def test_goals_stand_beside_what_was_measured(measured):
    text, data = measured
    goals = {goal["what"]: goal for goal in data["goals"]}
    start = goals["accelc --help"]
    assert start["holds"] == (start["figure"] <= start["limit"] == 0.25)
    assert goals["heavy packages that import accelc loads"]["figure"] == 0
    assert "heavy packages that import accelc loads" in text
    assert not any("resnet" in name for name in goals), "nothing of it was measured"


def test_every_goal_follows_from_its_measurements():
    def row(**seconds: float) -> Row:
        return Row("any", 1, 32, {name.replace("_", " "): Timing([value], [value]) for name, value in seconds.items()})

    rival = {"onnxruntime_int8": 1.0, "onnxruntime_float32": 2.0, "onnxruntime_int8_batch": 0.5}
    fast = row(accelc=1.9, accelc_batch=1.0, **{"compile,_ranges given": 2.5}, **rival)
    names = {name for name in DEFAULT_NETWORKS if not name.startswith(("digits", "resnet8"))}
    whole = ("resnet8 evaluated", "resnet8 from QDQ", "accelc --help")
    processes = {name: Timing([0.2], [0.2]) for name in whole}
    depth = {layers: Timing([1 + 0.02 * layers], [0.0]) for layers in STAGES}
    found = judged(Results(dict.fromkeys(names, fast), processes, [], depth))
    assert len(found) == len(GOALS)
    assert [goal["what"] for goal in found if not goal["holds"]] == ["light_resnet50, ONNX to program, ranges given"]


def test_depth_is_judged_by_the_distance_from_a_straight_line():
    assert deviation({50: 1.0, 101: 2.02, 152: 3.04, 302: 6.04}) < 1e-9
    assert deviation({50: 1.0, 101: 4.0, 152: 9.0, 302: 36.0}) > 0.1
    assert all(layers == 3 * sum(blocks) + 2 for layers, blocks in STAGES.items())
    model = resnet(50)
    onnx.checker.check_model(model)
    assert sum(node.op_type == "Conv" for node in model.graph.node) == 49 + 4, "49 layers, 4 of them with shortcuts"


def test_the_surroundings_are_told_without_naming_a_place(measured):
    text, data = measured
    names = {"processor", "vector instructions", "cores", "python", "numpy", "OPENBLAS_CORETYPE", "onnxruntime"}
    assert names <= data["surroundings"].keys()
    assert "one core" in data["surroundings"]["cores"] or "cannot" in data["surroundings"]["cores"]
    assert str(Path.home()) not in text
    assert ROOT.as_posix() not in text


def test_the_table_shows_measurements_ratios_and_predictions(measured):
    text, _ = measured
    for name in (
        "digits_cnn",
        "ONNX to program",
        "same, ranges given",
        "accelc / int8",
        "accelc / BLAS alone",
        "cycles",
        "utilization",
    ):
        assert name in text


def test_a_network_whose_files_are_absent_is_skipped_and_says_so(tmp_path):
    # A copy of the command beside nothing else: neither the bundled models nor the shared ones are there.
    folder = tmp_path / "project" / "benchmarks"
    folder.mkdir(parents=True)
    for path in (ROOT / "benchmarks").glob("*.py"):
        (folder / path.name).write_bytes(path.read_bytes())
    command = [sys.executable, "speed.py", "--networks", "resnet8", "--runs", "1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "resnet8: skipped, resnet8_cifar10.onnx is not in the folder shared/ beside the repository" in done.stdout


def test_unknown_networks_and_rounds_are_usage_errors():
    for arguments in (["--networks", "alexnet"], ["--runs", "0"]):
        command = [sys.executable, "benchmarks/speed.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2


def test_calls_are_measured_in_turns():
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) or sum(range(2_000_000)) for name in "AB"}
    timings = in_turns(calls, 2, lambda _: None)
    changes = [name for index, name in enumerate(order) if index == 0 or name != order[index - 1]]
    assert changes == ["A", "B", "A", "B"]
    assert [len(timing.processor) for timing in timings.values()] == [2, 2]


def test_the_median_ignores_one_slow_round():
    assert Timing([1.0, 9.0, 2.0], [1.0, 9.0, 2.0]).seconds == 2.0


def test_the_floor_multiplies_the_networks_dense_products(monkeypatch):
    done: list[tuple[int, ...]] = []
    products = [Product(3, 8, 1, (3, 3), 16), Product(1, 1, 8, (3, 3), 16), Product(4, 5, 2, (1, 1), 7)]
    run = blas_alone(products)
    monkeypatch.setattr(np, "matmul", lambda lhs, rhs, out: done.append((*lhs.shape, rhs.shape[1])))
    run()
    assert done == [(16, 27, 8), (7, 4, 5), (7, 4, 5)]


def test_the_default_networks_are_known():
    assert set(DEFAULT_NETWORKS) <= NETWORKS.keys()


def test_the_table_of_cycles_stands_beside_its_bounds(tmp_path):
    path = tmp_path / "cycles.json"
    command = [sys.executable, "benchmarks/cycles.py", "--only", "light_squeezenet@tile32", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(path.read_text(encoding="utf-8"))
    assert set(row["bounds"]) == {"compute", "tiling", "vector", "dram", "schedule"}
    assert row["cycles"] == round(row["ratio"] * max(row["bounds"].values())) >= max(row["bounds"].values())
    assert f"{row['cycles']:,}" in done.stdout
    assert 0 < sum(row["losses"].values()) < 1


def test_the_topology_of_mobilenet_v2():
    model = mobilenet_v2()
    onnx.checker.check_model(model)
    weights = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer if tensor.name.endswith("weight"))
    assert weights == 3_469_760  # the paper's 3.4 million parameters, without biases
    assert sum(node.op_type == "Add" for node in model.graph.node) == 10


def test_networks_of_other_families_keep_their_signals():
    assert tuple(TOPOLOGIES) == TOPOLOGY_NAMES
    model = TOPOLOGIES["like_mobilenet_v3"]()
    onnx.checker.check_model(model)
    kinds = {node.op_type for node in model.graph.node}
    assert {"HardSwish", "HardSigmoid", "BatchNormalization", "GlobalAveragePool", "Mul", "Add"} <= kinds
    session = onnxruntime.InferenceSession(model.SerializeToString())
    rows = [session.run(None, {"input": image[None]})[0] for image in images(FITTED, 9)]
    assert 1.0 < np.concatenate(rows).std(axis=0).mean() < 10.0


def test_the_keyword_transformer_is_one_and_keeps_its_signals():
    model = TOPOLOGIES["like_keyword_transformer"]()
    onnx.checker.check_model(model)
    kinds = {node.op_type for node in model.graph.node}
    assert {"Softmax", "Erf", "ReduceMean", "Sqrt"} <= kinds  # attention, GELU and normalisation in parts
    assert not {"LayerNormalization", "Gelu"} & kinds
    session = onnxruntime.InferenceSession(model.SerializeToString())
    rows = [session.run(None, {"input": one[None]})[0] for one in inputs_for("like_keyword_transformer", 16, 9)]
    assert 0.5 < np.concatenate(rows).std(axis=0).mean() < 10.0


def test_accuracy_stands_beside_onnxruntime_on_the_same_samples(tmp_path):
    path = tmp_path / "accuracy.json"
    command = [sys.executable, "benchmarks/accuracy.py", "--networks", "digits_cnn", "--samples", "120"]
    options = [
        "--precisions",
        "int8",
        "--calibration",
        "64",
        "--rivals",
        "min-max",
        "--draws",
        "3",
        "--json",
        str(path),
    ]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(path.read_text(encoding="utf-8"))
    rows = {row["variant"]: row for row in data["rows"]}
    assert list(rows) == [
        "float32, onnxruntime",
        "int8",
        "ort tensor, min-max",
        "ort channel, min-max",
        "int8 less best onnxruntime",
    ]
    assert rows["float32, onnxruntime"]["loss"] == rows["float32, onnxruntime"]["flips"] == 0
    for row in rows.values():
        assert row["low"] <= row["loss"] <= row["high"]
        assert (row["chance"] is None) == (row["sqnr_db"] is None)
        assert f"{row['network']:22} {row['variant']}" in done.stdout
    assert rows["int8"]["sqnr_db"] > 25.0
    assert rows["int8"]["verdict"] == rows["int8 less best onnxruntime"]["verdict"] == "yes"
    assert [row["variant"] for row in data["draws"]] == [
        f"int8 against ort {k}, min-max" for k in ("tensor", "channel")
    ]
    for row in data["draws"]:
        ours, theirs = np.mean(row["losses"], axis=0)
        mean, low, high = row["worse"]
        assert len(row["losses"]) == 3 and mean == pytest.approx(ours - theirs) and low <= mean <= high
        assert row["sqnr_db"][0] - row["sqnr_db"][1] == pytest.approx(row["gain_db"][0])
        assert row["sqnr_db"][0] > 25.0 and row["verdict"] == "yes"


def test_answers_are_measured_once_and_kept(tmp_path):
    path, made = tmp_path / "answers.json", []

    def make() -> Answer:
        made.append(1)
        return Answer([1, 2], 30.5, (0.25, 0.5), 1.0)

    first = Answers(path).get("a", make)
    assert Answers(path).get("a", make) == first == Answer([1, 2], 30.5, (0.25, 0.5), 1.0)
    assert len(made) == 1
    Answers(path).get("b", make)
    Answers(None).get("a", make)
    assert len(made) == 3
    one, other = np.zeros(2, np.float32), np.ones(2, np.float32)
    assert len({digest("x", one), digest("x", other), digest("y", one), digest(one, "x")}) == 4
    assert digest("x", one.copy()) == digest("x", one)


def test_errors_on_other_samples_cost_what_samples_at_a_border_make_of_them():
    labels = np.zeros(100, np.int64)
    reference = np.tile([1.0, 0.0], (100, 1))
    errors = np.zeros((100, 2))
    errors[:10, 1] = 2.0
    assert chance(reference, errors * 0.4, labels) == (0.0, 0.0)
    mean, deviation = chance(reference, errors, labels)
    assert 4.0 < mean < 6.0 and 0.0 < deviation < 3.0, "half of the ten errors point at the other class"


def test_an_interval_over_draws_and_samples_covers_both():
    for freedom, quantile in ((2, 4.303), (4, 2.776), (10, 2.228), (1e9, 1.960)):
        assert student_95(freedom) == pytest.approx(quantile, rel=0.01)
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        parts = random.normal(0, 0.3, (5, 1)), random.normal(0, 1.0, (1, 60)), random.normal(0, 2.0, (5, 60))
        _, low, high = crossed(7.0 + sum(parts))
        covered += low <= 7.0 <= high
    assert 370 <= covered <= 395, "95 % of 400 are 380, with a standard deviation of 4"
    same = np.tile(random.normal(0, 1.0, 60), (5, 1))
    mean, low, high = crossed(same)
    assert high - mean == pytest.approx(1.959964 * same[0].std(ddof=1) / 60**0.5), "draws that agree are one"


def test_decibels_of_samples_add_up_to_those_of_their_draw():
    noise = np.array([[1.0, 2.0, 6.0], [0.5, 0.5, 0.5]])
    assert decibels(300.0, noise).mean(axis=1) == pytest.approx(10 * np.log10([100.0, 600.0]))
    assert decibels(300.0, noise)[0].argmin() == 2


def test_packing_prints_peaks_and_refuses_what_does_not_fit(tmp_path):
    (tmp_path / "tiny.csv").write_text("id,lower,upper,size\na,0,2,5\nb,1,3,4\n", encoding="utf-8")
    for capacity, status in (("9", 0), ("8", 1)):
        command = [sys.executable, "benchmarks/packing.py", str(tmp_path), "--capacity", capacity, "--budget", "100"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        name, buffers, seed, peak, bound, *rest = done.stdout.splitlines()[1].split()
        assert (name, buffers, seed, peak, bound) == ("tiny", "2", "0", "9", "9")
        assert ("does not fit" in " ".join(rest)) == bool(status)
