"""Cross-layer equalisation: which channels share a factor, which factor is best for each, and how weights take it."""
