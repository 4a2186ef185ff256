"""Names the packages: every package of the four folders, under `accelc`."""

from setuptools import find_packages, setup

FLOORS = ("compiler", "passes", "backends", "dialects")

found = find_packages(include=[pattern for floor in FLOORS for pattern in (floor, f"{floor}.*")])
setup(
    # A build frontend runs this file under its own name; without this line it would be packaged as `accelc.setup`.
    script_name="setup.py",
    packages=["accelc", *(f"accelc.{package}" for package in found)],
)
