"""Run the notebooks and write them with their outputs: `make notebooks`.

The sources are Python files in the percent format (``# %%`` starts a code cell, ``# %% [markdown]`` a text cell), which can
be read, linted and merged. The .ipynb files are generated from them and committed with their outputs, so that they can be
read on a web page. A test checks that both are in sync.
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

from bdd_tf.files import write_atomically

FOLDER = Path(__file__).resolve().parent
SOURCES = FOLDER / "sources"
#: Largest size of a committed notebook in bytes.
LARGEST = 300_000

#: The notebooks in the order in which they are run: the second trains the model that the third uses.
ORDER = ("paper_figures", "training_to_device", "edge", "reading_the_report")

_MARK = re.compile(r"^# %%(?: \[(markdown)\])?$", re.MULTILINE)


def cells(source: str) -> list[tuple[str, str]]:
    """Split a percent file into cells.

    Returns:
        Kind (``"code"`` or ``"markdown"``) and text of each cell.
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
    """Make the notebook of a source, without outputs."""
    made = v4.new_notebook()
    made.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, (kind, text) in enumerate(cells((SOURCES / f"{name}.py").read_text(encoding="utf-8"))):
        cell = v4.new_code_cell(text) if kind == "code" else v4.new_markdown_cell(text)
        cell.id = f"cell-{number}"  # a random ID would change the file with every run
        made.cells.append(cell)
    return made


def execute(name: str, timeout: int = 3600) -> NotebookNode:
    """Run a notebook in its folder.

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
        # Unix sockets, which only this user can access. Over TCP, other users of the machine could read the traffic.
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
    made.metadata = notebook(name).metadata  # without the version of Python, which the kernel adds
    for cell in made.cells:
        _tidy(cell)
    return made


def _tidy(cell: NotebookNode) -> None:
    """Keep only the last state of progress bars, and remove paths of this machine and the runtime's banner."""
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
    """Run and write the notebooks; return the exit code."""
    parser = argparse.ArgumentParser("notebooks/make_notebooks.py", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"notebooks to run: {', '.join(ORDER)}; default: all"
    )
    args = parser.parse_args()
    for name in args.names or ORDER:
        if name not in ORDER:
            print(f"notebooks: unknown notebook {name!r}; possible: {', '.join(ORDER)}.", file=sys.stderr)
            return 2
        began = time.monotonic()
        content = nbformat.writes(execute(name)) + "\n"
        path = FOLDER / f"{name}.ipynb"
        write_atomically(path, content.encode())
        print(f"{path}: {len(content.encode()):,} bytes, {time.monotonic() - began:.0f} s", flush=True)
        if len(content.encode()) > LARGEST:
            print(f"notebooks: {path.name} is larger than {LARGEST:,} bytes.", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
