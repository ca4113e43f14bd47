"""Builds notebooks/11 and its solutions."""
import json, sys, re
from pathlib import Path
import nbformat
ROOT = Path("/work/main")
cells = []
def md(text, slide="subslide", tags=()):
    meta = {"slideshow": {"slide_type": slide}}
    if tags: meta["tags"] = list(tags)
    cells.append(nbformat.v4.new_markdown_cell(text.strip("\n"), metadata=meta))
def code(text, slide="subslide", tags=()):
    meta = {"slideshow": {"slide_type": slide}}
    if tags: meta["tags"] = list(tags)
    cells.append(nbformat.v4.new_code_cell(text.strip("\n"), metadata=meta))
exec(Path("/tmp/nb11/cells.py").read_text())
for at, cell in enumerate(cells): cell["id"] = f"never-{at:02}"
nb = nbformat.v4.new_notebook(cells=cells)
old = json.load(open(ROOT/"notebooks/06_adversarial_attacks.ipynb"))
nb["metadata"] = old["metadata"]; nb["nbformat_minor"] = old["nbformat_minor"]
path = ROOT/"notebooks/11_the_model_that_never_knew.ipynb"
nbformat.write(nb, path)
print(len(cells), "cells")
