"""The pictures of the slides: `python docs/class/slides/make_images.py` takes them from the notebooks as they are committed.

A picture is found by how its description begins, so that a changed figure is found again and a removed one is an error.
Run it after the notebooks were executed anew.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
import sys
from pathlib import Path

from PIL import Image

SLIDES = Path(__file__).resolve().parent
NOTEBOOKS = SLIDES.parents[2] / "notebooks"
WIDTH = 1400  # pixels, of a slide that is 1280 wide and may be shown on a sharper screen
LARGEST = 100_000  # bytes
PICTURES = {
    "suppressed_or_erased": ("00_start_here", "Three rows from a question to an answer"),
    "before_and_after": ("00_start_here", "Bars of accuracy before and after for three sets"),
    "strength": ("00_start_here", "Accuracy against the strength of the edit"),
    "giant": ("01_representations_and_rmu", "Twelve bars: the first, Mal"),
    "residual_stream": ("01_representations_and_rmu", "A line from token embedding to logits"),
    "loss": ("01_representations_and_rmu", "Left: an arrow pulls a forget token's h"),
    "which_tokens": ("01_representations_and_rmu", "Before: all in one hump at 0"),
    "confidence": ("02_confidence_reduction", "Histograms of MaxLogit of each generated token"),
    "turning": ("02_confidence_reduction", "The same circle of noise about two tips"),
    "left_over": ("02_confidence_reduction", "Before: all near 0 along u"),
    "norms": ("03_coefficient_effects", "Median norm by layer"),
    "coefficients": ("03_coefficient_effects", "Forget accuracy: level up to c = 228"),
    "sensitivity": ("03_coefficient_effects", "Left, fixed noise: both"),
    "training_step": ("04_rmu_training", "Forget texts pass through trained layers"),
    "phases": ("04_rmu_training", "Mean move along u from step 0"),
    "target_above_norm": ("05_adaptive_rmu", "States' norms rise from 43"),
    "by_layer": ("05_adaptive_rmu", "Bio: RMU near the base line from 17 up"),
    "equal_search": ("05_adaptive_rmu", "Points lost on test. One setting"),
    "attack_curves": ("06_adversarial_attacks", "Lowest loss so far against steps"),
    "relearning": ("07_knowledge_recovery", "Accuracy from 40% on: other facts"),
    "gauntlet": ("07_knowledge_recovery", "Ten attacks in rows"),
    "methods": ("08_comparing_methods", "Five methods lie below 10"),
}

_IMAGE = re.compile(r'<img[^>]*?src="data:image/png;base64,([^"]+)"[^>]*?>', re.S)
_ALT = re.compile(r'alt="([^"]*)"')


def figures(notebook: Path) -> dict[str, bytes]:
    """Return the PNG of each figure of an executed notebook by its description."""
    found = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            for match in _IMAGE.finditer("".join(output.get("data", {}).get("text/html", ""))):
                alt = _ALT.search(match.group())
                found[html.unescape(alt.group(1)) if alt else ""] = base64.b64decode(match.group(1))
    return found


def small(png: bytes) -> bytes:
    """Return a picture at most `WIDTH` wide, with a palette in place of full colours."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.quantize(128, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> int:
    """Write all pictures.

    Returns
    -------
    int
        0 if all were found and are small enough, else 1.
    """
    folder, faults = SLIDES / "images", []
    folder.mkdir(exist_ok=True)
    for name, (notebook, begins) in PICTURES.items():
        shown = [png for alt, png in figures(NOTEBOOKS / f"{notebook}.ipynb").items() if alt.startswith(begins)]
        if len(shown) != 1:
            faults.append(
                f"{notebook}.ipynb has {len(shown)} figures whose description begins with {begins!r}; mend PICTURES."
            )
            continue
        png = small(shown[0])
        if len(png) > LARGEST:
            faults.append(f"{name}.png would have {len(png)} bytes, more than {LARGEST}.")
        (folder / f"{name}.png").write_bytes(png)
    print(*faults, sep="\n", file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
