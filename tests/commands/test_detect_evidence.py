"""`bdd detect` shows evidence beside the verdict."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from bdd_tf.cli import main
from tests.edge.evidence.cases import CASES
from tests.edge.evidence.containers import encoded, png, text_chunk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "made.png").write_bytes(CASES["png parameters"].make())
    (tmp_path / "plain.png").write_bytes(encoded("PNG"))
    return tmp_path


def _run(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["detect", "--model", "cifake", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_json_has_the_key_if_there_is_evidence(folder: Path, capsys: pytest.CaptureFixture[str]):
    records = {Path(r["path"]).name: r for r in map(json.loads, _run(capsys, folder, "--json").splitlines())}
    (item,) = records["made.png"]["evidence"]
    assert list(item) == ["kind", "says", "where", "strength"]
    assert item["kind"] == "generator"
    assert "evidence" not in records["plain.png"]
    # The score does not depend on it: both files have the same pixels.
    assert records["made.png"]["fake_probability"] == records["plain.png"]["fake_probability"]


def test_text_has_lines_for_a_single_image(folder: Path, capsys: pytest.CaptureFixture[str]):
    first, second = _run(capsys, folder / "made.png").splitlines()
    assert first.endswith("made.png")
    assert second.startswith('  unverified: text as Stable Diffusion programs write it: "a cat on a roof')
    assert len(_run(capsys, folder / "plain.png").splitlines()) == 1
    assert len(_run(capsys, folder / "made.png", "--quiet").splitlines()) == 1
    assert len(_run(capsys, folder / "made.png", "--no-evidence").splitlines()) == 1


def test_text_of_a_folder_has_lines_on_request(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert len(_run(capsys, folder).splitlines()) == 2
    assert len(_run(capsys, folder, "--evidence").splitlines()) == 3


def test_csv_has_a_column_on_request(folder: Path, capsys: pytest.CaptureFixture[str]):
    plain = list(csv.reader(io.StringIO(_run(capsys, folder, "--csv"))))
    assert plain[0] == ["path", "fake_probability", "verdict", "error", "note"]
    rows = list(csv.DictReader(io.StringIO(_run(capsys, folder, "--csv", "--evidence"))))
    assert {Path(row["path"]).name: row["evidence"] for row in rows} == {
        "made.png": "generator",
        "plain.png": "",
    }


def test_the_contact_sheet_lists_evidence(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "evil.png").write_bytes(png(text_chunk("Software", "<b>Grok")))
    sheet = folder / "sheet.html"
    _run(capsys, folder, "--html", sheet)
    page = sheet.read_text()
    assert page.count("<details") == 2
    assert "text as Stable Diffusion programs write it" in page
    assert "&lt;b&gt;Grok" in page
    assert "<b>Grok" not in page


def test_no_evidence_is_no_key(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert "evidence" not in json.loads(_run(capsys, folder / "made.png", "--json", "--no-evidence"))
