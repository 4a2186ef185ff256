"""The rules of `canonicalize`, by the operations they are about."""
