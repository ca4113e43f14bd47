"""The cells of a notebook that one of its cells needs, so that a browser need not run the whole lesson to show a widget."""

from __future__ import annotations

import ast

import nbformat
from IPython.core.inputtransformer2 import TransformerManager


def cells_needed(notebook: nbformat.NotebookNode, call: str) -> nbformat.NotebookNode:
    """Return a notebook of the first code cell with `call` in its source, after those that define what it uses.

    A cell is kept if it defines a name that a kept cell below it uses and does not define itself; what a cell changes by a
    method call is not seen.
    """
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    last = next(place for place, cell in enumerate(code) if call in cell.source)
    kept, wanted = [code[last]], _used(code[last])
    for cell in reversed(code[:last]):
        defined = _defined(cell)
        if defined & wanted:
            kept.insert(0, cell)
            wanted = (wanted - defined) | _used(cell)
    found = nbformat.from_dict({**notebook, "cells": kept})
    for cell in found.cells:
        cell.update(outputs=[], execution_count=None)
    return found


def _names(cell: nbformat.NotebookNode) -> list[ast.AST]:
    return list(ast.walk(ast.parse(TransformerManager().transform_cell(cell.source))))  # magics are no Python yet


def _used(cell: nbformat.NotebookNode) -> set[str]:
    loaded = {node.id for node in _names(cell) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return loaded - _defined(cell)


def _defined(cell: nbformat.NotebookNode) -> set[str]:
    names = {node.id for node in _names(cell) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in _names(cell):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return names
