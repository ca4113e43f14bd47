"""The exceptions this package raises for what it cannot use."""


class RmuLabError(ValueError):
    """What was wrong (file, line, value) and what to do about it, in one sentence."""


class NotFiniteError(RmuLabError):
    """Something was measured or trained that is not a finite number: the model is broken, not unlearned."""
