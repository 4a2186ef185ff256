"""The rules of `propagate-layouts`."""
