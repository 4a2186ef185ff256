"""`python -m accelc` is the command `accelc`."""

from .compiler.cli import main

if __name__ == "__main__":
    main()
