"""The pass framework, then one file per pass."""
