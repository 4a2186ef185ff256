"""What a fuzz case can find."""


class MismatchError(Exception):
    """Two forms of one thing disagree."""
