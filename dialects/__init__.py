"""The ground: the IR core, then one module or folder per dialect."""
