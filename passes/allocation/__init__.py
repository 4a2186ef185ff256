"""Where buffers live in memory: packing lifetimes into addresses, away from bank conflicts."""
