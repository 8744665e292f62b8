import subprocess
import sys

import pytest

from bdd_tf.cli import VERBS, main


def test_help_lists_every_verb(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in VERBS)


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["detect"], ["train", "--nonsense"], ["evaluate"]])
def test_wrong_usage_is_exit_code_2(argv, capsys):
    assert main(argv) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["train", "--dataset", "nonesuch"], "cifake"),
        (["train", "--dataset", "sample", "--backbone", "resnet"], "bnext-n"),
        (["train", "--dataset", "sample", "--channels", "rgb,lpb"], "lbp"),
        (["train", "--dataset", "sample", "--resolution", "33"], "32"),
        (["train", "--dataset", "folder"], "DATA_DIR"),
        (["train", "--dataset", "folder", "--data-dir", "/nonesuch"], "/nonesuch"),
        (["train", "--dataset", "sample", "--freeze", "1"], "INIT"),
        (["train", "--preset", "nonesuch"], "scratch"),
        (["data", "check", "nonesuch"], "sample"),
        (["evaluate", "--run", "nonesuch"], "nonesuch"),
    ],
)
def test_wrong_names_echo_what_was_given_and_list_what_is_possible(
    argv, named, capsys, cache, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_converter_is_found_from_any_folder(tmp_path):
    code = "import sys; from bdd_tf.cli import main; sys.exit(main(['convert', '--help']))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--untrained" in done.stdout


def test_detect_does_not_load_tensorflow():
    code = "import sys; from bdd_tf.cli import main; main(['detect', '--help']); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
