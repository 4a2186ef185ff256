"""How quantized tensor operations become instructions: views, placement, mapping and emission."""
