"""The committed notebooks are those of their sources, small, without errors; and the quick ones run."""

import sys
from pathlib import Path

import nbformat
import pytest

sys.path.append(str(Path(__file__).parents[1] / "notebooks"))
import make_notebooks as build

ROOT = Path(__file__).parents[1]
#: Trains a network and converts it: minutes.
LONG = ("training_to_device",)


def committed(name):
    return nbformat.read(build.FOLDER / f"{name}.ipynb", as_version=4)


def test_every_source_is_a_notebook_and_every_notebook_has_a_source():
    sources = {path.stem for path in build.SOURCES.glob("*.py")}
    assert sources == {path.stem for path in build.FOLDER.glob("*.ipynb")} == set(build.ORDER)


@pytest.mark.parametrize("name", build.ORDER)
def test_a_committed_notebook_is_in_step_with_its_source(name):
    found, made = committed(name), build.notebook(name)
    nbformat.validate(found)
    cells = [[(cell.id, cell.cell_type, cell.source) for cell in book.cells] for book in (found, made)]
    assert cells[0] == cells[1], f"run `make notebooks NAMES={name}` and commit {name}.ipynb"
    assert found.metadata == made.metadata


@pytest.mark.parametrize("name", build.ORDER)
def test_a_committed_notebook_was_run_to_its_end_and_is_small(name):
    code = [cell for cell in committed(name).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in o.get("data", {}) or "image/jpeg" in o.get("data", {}) for o in outputs)
    assert (build.FOLDER / f"{name}.ipynb").stat().st_size <= build.LARGEST
    assert str(ROOT) not in (build.FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", build.ORDER)
def test_it_runs(name, sample_cache, monkeypatch):
    if name in LONG:
        pytest.skip("it trains a network for minutes; `make notebooks` runs it")
    monkeypatch.setenv("BDD_CACHE", str(sample_cache))
    done = build.execute(name, timeout=600)
    assert all(cell.execution_count for cell in done.cells if cell.cell_type == "code")
    assert done.metadata == committed(name).metadata


def test_a_cell_that_fails_fails_the_notebook(tmp_path, monkeypatch):
    from nbclient.exceptions import CellExecutionError

    (tmp_path / "broken.py").write_text("# %% [markdown]\n# Text\n\n# %%\nprint(1)\n\n# %%\n1 / 0\n")
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        build.execute("broken")


def test_cells_are_cut_at_the_marks():
    source = '# %% [markdown]\n# # Title\n#\n# - point\n\n# %%\nx = 1\n\n\nprint("# %% no mark")\n# %%\n'
    assert build.cells(source) == [
        ("markdown", "# Title\n\n- point"),
        ("code", 'x = 1\n\n\nprint("# %% no mark")'),
        ("code", ""),
    ]
