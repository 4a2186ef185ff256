"""`python -m accelc` is the command `accelc`."""

from .compiler.start import accelc

if __name__ == "__main__":
    accelc()
