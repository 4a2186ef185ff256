"""How float operations become operations on bfloat16."""
