"""The functional model: runs programs in numpy, every bit as the machine would."""
