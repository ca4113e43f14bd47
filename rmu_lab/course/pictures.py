"""Pictures as HTML, the one form in which a picture's text reaches a screen reader wherever a notebook is read.

JupyterLab drops the ``alt`` of an ``image/png`` output, and so do sites that are built from notebooks; what all of them keep
is an HTML image that brings its own. Used by every figure and widget.
"""

from __future__ import annotations

import base64
import html
import io

import matplotlib.pyplot as plt
import PIL.Image
from matplotlib.figure import Figure

SCREEN_DPI = 90
"""Pixels an inch of a figure takes in a notebook, whose column is some 900 wide."""
SHARPNESS = 2
"""Pixels drawn for each of them to either side, so that a picture is sharp on a fine screen and when projected."""


def as_png(figure: Figure) -> bytes:
    """Draw a figure sharp and small, and close it.

    It has at most 128 colours, which makes it a third as large in a stored notebook.
    """
    with io.BytesIO() as drawn, io.BytesIO() as file:
        figure.savefig(drawn, format="png", dpi=SHARPNESS * SCREEN_DPI, bbox_inches="tight", pad_inches=0.08)
        plt.close(figure)
        picture = PIL.Image.open(drawn).convert("RGB").quantize(128, dither=PIL.Image.Dither.NONE)
        picture.save(file, format="png", optimize=True)
        return file.getvalue()


def image_html(png: bytes, *, alt: str) -> str:
    """Return an HTML image with its text, as wide on the screen as its pixels are fine.

    Parameters
    ----------
    png
        a picture drawn with `SHARPNESS` pixels for each that it takes on the screen.
    alt
        what it shows in words; it is escaped here.
    """
    with PIL.Image.open(io.BytesIO(png)) as picture:
        width = round(picture.width / SHARPNESS)
    source = base64.b64encode(png).decode()
    # Decoded before it is shown: else a widget that draws anew flashes white.
    return f'<img src="data:image/png;base64,{source}" alt="{html.escape(alt)}" width="{width}" decoding="sync">'
