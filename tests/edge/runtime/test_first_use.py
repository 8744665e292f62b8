"""A fresh clone compiles the delegate's library when it is first needed."""

import pytest

from bdd_tf.edge import runtime
from bdd_tf.edge.runtime import LIBRARY, RuntimeMissingError, build, library_path
from bdd_tf.errors import BddError


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Paths that were compiled; the sources are not read."""
    paths = []

    def pretend(target=None, output=None):
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(b"library")
        paths.append(output)
        return output

    monkeypatch.delenv("BDD_LCE_LIBRARY", raising=False)
    monkeypatch.setattr(runtime, "_FOLDER", tmp_path)
    monkeypatch.setattr(build, "build", pretend)
    monkeypatch.setattr(build, "compiler", lambda target: ["c++"])
    return paths


def test_the_library_is_compiled_once(compiled, tmp_path, capsys):
    assert library_path() == library_path() == tmp_path / LIBRARY
    assert compiled == [tmp_path / LIBRARY]
    assert capsys.readouterr().err.count("compiling the library") == 1


def test_a_folder_that_cannot_be_written_to_leaves_it_in_the_cache(compiled, tmp_path, monkeypatch):
    monkeypatch.setenv("BDD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runtime.os, "access", lambda path, mode: False)
    assert library_path() == library_path() == tmp_path / "cache" / "runtime" / LIBRARY
    assert len(compiled) == 1


def test_without_a_compiler_the_reason_is_named(compiled, monkeypatch, tmp_path):
    def none(target):
        raise BddError("no C++ compiler for x86_64 is installed.")

    monkeypatch.setattr(build, "compiler", none)
    with pytest.raises(
        RuntimeMissingError, match=r"cannot be compiled: no C\+\+ compiler.*pip install ziglang"
    ):
        library_path()
    monkeypatch.setenv("BDD_LCE_LIBRARY", str(tmp_path / "other.so"))
    with pytest.raises(RuntimeMissingError, match="does not exist"):
        library_path()
    assert compiled == []
