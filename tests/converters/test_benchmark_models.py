"""The cached files of benchmarks."""

from converters import benchmark_models


def test_a_file_that_is_built_is_announced_and_a_cached_one_is_not(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BDD_CACHE", str(tmp_path))
    for _ in range(2):
        assert benchmark_models._cached("net-32", lambda: b"content").read_bytes() == b"content"
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("bdd: building net-32 (once: it is kept in ")
