"""The one exception this package raises for input it cannot use."""


class RmuLabError(ValueError):
    """What was wrong (file, line, value) and what to do about it, in one sentence."""
