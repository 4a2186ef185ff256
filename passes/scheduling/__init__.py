"""How whole-layer instructions become strips that fit the memory: residency, chunks, order, prefetch."""
