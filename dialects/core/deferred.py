"""Modules of other packages that are imported when they are first used: what needs none of them starts sooner."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class DeferredModule:
    """Stands for a module until an attribute is read.

    A file binds one to the module's name where it is not type-checked, and imports the module where it is.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(import_module(self._name), attribute)
        self.__dict__[attribute] = value
        return value
