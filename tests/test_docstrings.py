"""What ruff does not check of docstrings: shapes of arrays, and errors that are raised."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from bids_unires import __file__ as package

SOURCES = Path(package).parent
# Warp reads the annotations of its kernels as types, and their sources stand in few words.
ARRAYS = ("NDArray", "Tensor", "Affine", "ArrayLike")


@cache
def public_functions() -> list[tuple[str, ast.FunctionDef]]:
    """Public functions of all modules, with the file and line where they are."""
    return [
        (f"{path.relative_to(SOURCES)}:{node.lineno} {node.name}", node)
        for path in sorted(SOURCES.rglob("*.py"))
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]


def test_public_functions_state_the_shapes_of_arrays() -> None:
    silent = [
        place
        for place, function in public_functions()
        if any(array in _annotations(function) for array in ARRAYS)
        and "``(" not in (ast.get_docstring(function) or "")
        and not _refers(function)
    ]
    assert not silent


def test_public_functions_state_the_errors_that_they_raise() -> None:
    silent = [
        place
        for place, function in public_functions()
        if any(isinstance(node, ast.Raise) and node.exc for node in ast.walk(function))
        and "Raises\n" not in (ast.get_docstring(function) or "")
    ]
    assert not silent


def _annotations(function: ast.FunctionDef) -> str:
    returned = ast.unparse(function.returns) if function.returns else ""
    return f"{ast.unparse(function.args)} {returned}"


def _refers(function: ast.FunctionDef) -> bool:
    """Whether the docstring leaves shapes to another one, or an array may have any."""
    docstring = ast.get_docstring(function) or ""
    return any(words in docstring for words in ("As for `", "like `write_image`", "any shape"))
