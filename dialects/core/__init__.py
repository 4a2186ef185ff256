"""The IR core: types, operations, modules, text form, verifier, interpreter."""
