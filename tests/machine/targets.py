"""Hypothesis strategies for machines: the presets, and tiny ones that make every limit bite."""

from collections.abc import Mapping
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from accelc.backends.target import Target, load_target, target_from_data
from accelc.dialects.core.diagnostics import CompileError


def small_target(**sections: Mapping[str, Any]) -> Target:
    """A machine with one 8x8 block, 8 KiB of SRAM in 4 banks and 64 accumulator rows, with some keys replaced."""
    data: dict[str, Any] = {
        "name": "small",
        "description": "made for a test",
        "frequency_mhz": 100.0,
        "array": {
            "lanes": 8,
            "columns": 8,
            "blocks": 1,
            "weight_lines_per_cycle": 1,
            "latency_cycles": 3,
            "int16_rate": 0.25,
            "bf16_rate": 0.25,
        },
        "accumulators": {"rows": 64, "bits": 48},
        "sram": {"banks": 4, "bank_lines": 256, "line_bytes": 8, "read_ports": 1, "write_ports": 1, "interleave": 1},
        "crossbar": {"lines_per_vector": 2, "lane_rotation": True, "reach_banks": 4},
        "vector": {"lanes": 8, "latency_cycles": 4},
        "dma": {"bytes_per_cycle": 2.0, "latency_cycles": 10},
        "dram": {"megabytes": 8},
    }
    for name, keys in sections.items():
        data[name] = {**data[name], **keys}
    return target_from_data(data, file="small.toml")


@st.composite
def tiny_targets(draw: st.DrawFn) -> Target:
    """A machine of 1 to 4 small blocks with little of every memory; what is drawn may be too small for a network."""
    interleave = draw(st.sampled_from([1, 1, 2, 4]))
    banks = interleave * draw(st.sampled_from([1, 2, 3, 4]))
    line = draw(st.sampled_from([4, 8, 16, 32]))
    capacity = draw(st.sampled_from([512, 1024, 2048, 4096, 8192, 16384, 65536]))
    try:
        return small_target(
            array={
                "lanes": draw(st.sampled_from([4, 8, 8, 16, 32])),
                "columns": draw(st.sampled_from([4, 8, 8, 16, 32])),
                "blocks": draw(st.sampled_from([1, 1, 2, 3, 4])),
                "weight_lines_per_cycle": draw(st.sampled_from([1, 2])),
                "int16_rate": draw(st.sampled_from([0.25, 0.25, 0.5, 0.3, 1.0, 0.0])),
                "bf16_rate": draw(st.sampled_from([0.25, 0.3, 1.0])),
            },
            accumulators={"rows": draw(st.sampled_from([8, 16, 32, 64, 128, 512]))},
            sram={
                "banks": banks,
                "bank_lines": max(16, capacity // line // banks),
                "line_bytes": line,
                "interleave": interleave,
                "read_ports": draw(st.sampled_from([1, 2])),
                "swizzle": draw(st.booleans()),
            },
            crossbar={
                "lane_rotation": draw(st.booleans()),
                "lines_per_vector": draw(st.sampled_from([1, 2])),
                "reach_banks": draw(st.integers(interleave, banks)),
                "port_stride_banks": draw(st.sampled_from([0, 0, interleave])),
            },
        )
    except CompileError:  # no group is reached by every port
        assume(False)
        raise


def targets() -> st.SearchStrategy[Target]:
    """A preset or a tiny machine."""
    presets = st.sampled_from(["tile16", "tile32", "array32"]).map(load_target)
    return st.one_of(presets, tiny_targets(), tiny_targets())
