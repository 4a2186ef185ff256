"""Channel padding: where the channels of a tensor lie when some places are left empty, and how that propagates."""
