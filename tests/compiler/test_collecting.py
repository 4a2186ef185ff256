"""The garbage collector: seldom while compiling, then as the user had it."""

import gc
from collections.abc import Iterator

import pytest

from accelc.compiler.collecting import SELDOM, collecting_seldom


@pytest.fixture
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(("own", "inside"), [(700, SELDOM), (0, 0), (2 * SELDOM, 2 * SELDOM)])
@pytest.mark.usefixtures("thresholds")
def test_the_collector_waits_and_is_as_before(own: int, inside: int) -> None:
    gc.set_threshold(own, 9, 8)
    with collecting_seldom():
        assert gc.get_threshold() == (inside, 9, 8)
        with collecting_seldom():
            pass
        assert gc.get_threshold() == (inside, 9, 8), "the outer one goes on"
    assert gc.get_threshold() == (own, 9, 8)


@pytest.mark.usefixtures("thresholds")
def test_an_error_does_not_leave_it_changed() -> None:
    gc.set_threshold(700, 9, 8)
    with pytest.raises(ValueError, match="inside"), collecting_seldom():
        raise ValueError("inside")
    assert gc.get_threshold() == (700, 9, 8)
