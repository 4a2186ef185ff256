"""Threads for independent samples: the same results in the same order, one worker an item, BLAS in one thread each."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from machine.modules import conv_module

from accelc.backends.emitter import emit
from accelc.backends.simulator import threads
from accelc.backends.simulator.simulator import Simulator
from accelc.backends.simulator.threads import default_jobs, in_threads
from accelc.backends.target import load_target


@pytest.mark.parametrize("jobs", [1, 2, 3, 40])
def test_results_stand_in_order_and_workers_are_never_shared(jobs):
    busy: set[int] = set()

    def work(worker: int, item: int) -> int:
        assert worker not in busy
        busy.add(worker)
        time.sleep(0.001 * (item % 3))
        busy.remove(worker)
        return item * item

    assert list(in_threads(work, range(20), jobs)) == [n * n for n in range(20)]


def test_jobs_run_side_by_side():
    meeting = threading.Barrier(2, timeout=10)
    assert list(in_threads(lambda worker, item: meeting.wait() >= 0, range(2), 2)) == [True, True]


def test_an_error_of_one_item_is_raised_and_ends_the_rest():
    done: list[int] = []

    def work(worker: int, item: int) -> None:
        if item == 3:
            raise ValueError("three")
        time.sleep(0.01)
        done.append(item)

    with pytest.raises(ValueError, match="three"):
        list(in_threads(work, range(1000), 2))
    assert len(done) < 999


def test_blas_has_one_thread_for_each_of_several_items():
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def blas_threads(worker: int, item: int) -> set[int]:
        return {each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"}

    before = blas_threads(0, 0)
    for jobs in (1, 2):
        assert set().union(*in_threads(blas_threads, range(3), jobs)) == {1}
    assert list(in_threads(blas_threads, range(1), 2)) == [before]
    assert blas_threads(0, 0) == before


def test_one_thread_is_the_default_where_blas_cannot_be_limited(monkeypatch):
    monkeypatch.setattr(threads, "_blas", lambda: None)
    assert default_jobs() == 1
    assert list(in_threads(lambda worker, item: item, range(3), 2)) == [0, 1, 2]


@pytest.mark.parametrize("mode", ["fast", "plain", "checked"])
def test_a_simulation_does_not_depend_on_the_number_of_threads(mode):
    module = conv_module()
    shape = module.main.arguments[0].type.shape
    images = {"image": np.random.default_rng(0).standard_normal((11, *shape[1:]), np.float32)}
    simulator = Simulator(emit(module, load_target("tile32")), mode=mode, chunk=2)
    seen: list[int] = []
    alone = simulator.run(images)["result"]
    for jobs in (2, 5):
        found = simulator.run(images, jobs=jobs, progress=lambda done, _: seen.append(done))["result"]
        np.testing.assert_array_equal(found, alone)
    assert seen == [2, 4, 6, 8, 10, 11] * 2


def test_runs_from_several_threads_take_turns(monkeypatch):
    simulator = Simulator(emit(conv_module(), load_target("tile32")))
    (port,) = simulator.program.inputs
    images = {port.name: np.zeros((2, *port.type.shape[1:]), np.float32)}
    step, running, most = simulator._run_chunk, [], []

    def slow_chunk(*arguments):
        running.append(None)
        most.append(len(running))
        time.sleep(0.005)
        running.pop()
        return step(*arguments)

    monkeypatch.setattr(simulator, "_run_chunk", slow_chunk)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(simulator.run, [images] * 8))) == 8
    assert most == [1] * 8
