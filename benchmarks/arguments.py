"""What the command lines of several benchmarks share."""

import argparse
from pathlib import Path

from rmu_lab import RmuLabError
from rmu_lab.files import check_file


def result_file(text: str) -> Path:
    """Return the path of a result that can be written, for argparse: tried before the work, not after hours of it."""
    try:
        return check_file(text, parents=True)
    except RmuLabError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
