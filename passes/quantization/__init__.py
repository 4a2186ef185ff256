"""From float to integers: calibration statistics, value ranges, weight quantization, conversion of operations."""
