"""Runs the notebooks and writes them with their outputs: `make notebooks`.

Sources are Python files in the percent format (``# %%`` begins a cell of code, ``# %% [markdown]`` one of text), which
can be read, linted and merged. The .ipynb files are made of them and never edited by hand; they are committed with their
outputs, for those who read them on a web page. A test holds both in step.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import nbformat.v4 as v4
from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parent
SOURCES = FOLDER / "sources"
LARGEST = 300_000
"""Bytes of a committed notebook, at most."""

ORDER = ("paper_figures", "training_to_device", "edge", "reading_the_report")
"""In which they are run: the second trains the model that the third looks at."""

_MARK = re.compile(r"^# %%(?: \[(markdown)\])?$", re.MULTILINE)


def cells(source: str) -> list[tuple[str, str]]:
    """The cells of a percent file.

    Returns:
        Of each its kind (``"code"`` or ``"markdown"``) and its text.
    """
    parts = _MARK.split(source)[1:]
    found = []
    for kind, body in zip(parts[::2], parts[1::2], strict=True):
        text = body.strip("\n")
        if kind == "markdown":
            text = "\n".join(re.sub(r"^# ?", "", line) for line in text.splitlines())
        found.append((kind or "code", text))
    return found


def notebook(name: str) -> NotebookNode:
    """The notebook of a source, without outputs."""
    made = v4.new_notebook()
    made.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, (kind, text) in enumerate(cells((SOURCES / f"{name}.py").read_text(encoding="utf-8"))):
        cell = v4.new_code_cell(text) if kind == "code" else v4.new_markdown_cell(text)
        cell.id = f"cell-{number}"  # not random: an equal notebook is an equal file
        made.cells.append(cell)
    return made


def execute(name: str, timeout: int = 3600) -> NotebookNode:
    """Run a notebook as a user would, in its own folder.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    from nbclient import NotebookClient
    from traitlets.config import Config

    made = notebook(name)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    root = str(FOLDER.parent)
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = root if path is None else f"{root}{os.pathsep}{path}"
    try:
        # Sockets of this user alone; over TCP every user of the machine could read along, and ipykernel warns.
        with tempfile.TemporaryDirectory(prefix="bdd-") as sockets:
            connection = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
            NotebookClient(
                made,
                timeout=timeout,
                kernel_name="python3",
                record_timing=False,
                config=Config({"KernelManager": connection}),
            ).execute(cwd=str(FOLDER))
    finally:
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path
    made.metadata = notebook(name).metadata  # the kernel has written Python's version into it
    for cell in made.cells:
        _tidy(cell)
    return made


def _tidy(cell: NotebookNode) -> None:
    """Of a progress bar only its last state; no names of this machine's folders, no greeting of the runtime's."""
    cell.metadata.clear()
    if cell.cell_type != "code":
        return
    for output in cell.outputs:
        if output.output_type == "stream":
            lines = (line.rstrip("\r").rsplit("\r", 1)[-1] for line in output.text.split("\n"))
            kept = (line for line in lines if not line.startswith("INFO: Created TensorFlow Lite"))
            output.text = "\n".join(kept).replace(str(FOLDER.parent) + os.sep, "")
    cell.outputs = [o for o in cell.outputs if o.output_type != "stream" or o.text.strip()]


def main() -> int:
    """Run and write; returns the exit code."""
    parser = argparse.ArgumentParser("notebooks/make_notebooks.py", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(ORDER)} (default: all)")
    args = parser.parse_args()
    for name in args.names or ORDER:
        if name not in ORDER:
            print(f"notebooks: unknown notebook {name!r}; possible: {', '.join(ORDER)}.", file=sys.stderr)
            return 2
        began = time.monotonic()
        content = nbformat.writes(execute(name)) + "\n"
        path = FOLDER / f"{name}.ipynb"
        partial = path.with_suffix(".tmp")
        partial.write_text(content, encoding="utf-8")
        partial.replace(path)
        print(f"{path}: {len(content.encode()):,} bytes, {time.monotonic() - began:.0f} s", flush=True)
        if len(content.encode()) > LARGEST:
            print(f"notebooks: {path.name} is larger than {LARGEST:,} bytes.", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
