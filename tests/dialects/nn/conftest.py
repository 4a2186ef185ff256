"""What tests of operations share that multiply."""

import pytest

from accelc.dialects.nn import products


@pytest.fixture(scope="module", params=["integer kernels", "float kernels"])
def kernels(request):
    """Every test with the kernels of the extra `fast`, and without them."""
    integer = request.param == "integer kernels"
    if integer:
        pytest.importorskip("numkong", reason="numkong is not installed (extra `fast`)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "has_integer_kernels", lambda: integer)
        patch.setattr(products, "KERNEL_DEPTH", 1)
        yield
