import os
import re
import subprocess
import sys

import pytest

from bdd_tf.cli import VERBS, main


def test_help_lists_every_verb(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in VERBS)


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "bdd_tf", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: bdd VERB")


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
        (["train", "--dataset", "folder"], "--data-dir"),
        (["train", "--dataset", "folder", "--data-dir", "/nonesuch"], "/nonesuch"),
        (["train", "--dataset", "sample", "--freeze", "1"], "--init"),
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


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["trian"], "unknown verb 'trian'; possible: data, train, .* Did you mean 'train'?"),
        (
            ["train", "--epoch", "3"],
            "unknown option '--epoch'. Did you mean '--epochs'? `bdd train --help` lists",
        ),
        (
            ["detect", "a.png", "--crop", "tile"],
            "unknown value of --crop 'tile'; possible: .* Did you mean 'tiles'?",
        ),
        (["train", "--epochs", "many"], "argument --epochs: invalid int value: 'many'. `bdd train --help`"),
        (["evaluate"], "the following arguments are required: --run. `bdd evaluate --help`"),
        (["evaluate", "--run", "a", "--split", "tets"], "unknown split 'tets'; .* Did you mean 'test'?"),
        (
            ["convert", "--run", "a", "--twin", "int"],
            "unknown twin 'int'; possible: float, int8. Did you mean 'int8'?",
        ),
        (
            ["data", "check", "../nosuch"],
            "there is no file or folder ../nosuch; give a folder, an archive or a CSV.",
        ),
        (["data", "check", "nosuch.csv"], "there is no file or folder nosuch.csv; give"),
        (
            ["data", "check", "cifak"],
            "'cifak' is neither a file or folder that exists nor a data set; data sets: cifake, .* Did you mean 'cifake'?",
        ),
        (["convert", "--untrained", "--output", "new/"], "--output is 'new/', which ends like a folder;"),
        (
            ["convert", "--untrained", "--output", "no/m.tflite"],
            "--output is 'no/m.tflite', but there is no folder no;",
        ),
        (["train", "--dataset", "cifake", "x"], "'x' is one argument too many."),
    ],
)
def test_a_usage_error_is_one_sentence_with_a_suggestion(argv, sentence, capsys):
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert re.match("bdd: error: " + re.escape(sentence).replace(r"\.\*", ".*"), err), err


def test_messages_speak_the_language_of_the_command(capsys, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for level, words in (("", "folder needs --data-dir,"), ("1", "folder needs DATA_DIR=,")):
        monkeypatch.setenv("BDD_MAKE", level)
        assert main(["train", "--dataset", "folder"]) == 2
        assert words in capsys.readouterr().err


def test_the_converter_is_found_from_any_folder(tmp_path):
    code = "import sys; from bdd_tf.cli import main; sys.exit(main(['convert', '--help']))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--untrained" in done.stdout


@pytest.mark.parametrize("verb", ["detect", "train", "evaluate", "convert"])
def test_help_does_not_load_tensorflow(verb):
    code = f"import sys; from bdd_tf.cli import main; main(['{verb}', '--help']); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("arguments", [["runs", "--runs-dir", "."], ["--help"], ["detect", "--help"]])
def test_a_reader_that_leaves_ends_every_verb_quietly(arguments):
    readable, writable = os.pipe()
    os.close(readable)
    command = [sys.executable, "-m", "bdd_tf", *arguments]
    done = subprocess.run(command, stdout=writable, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writable)
    assert done.stderr == ""
    assert done.returncode in ((0, 141) if arguments[-1] == "--help" else (141,))  # argparse ignores it


def test_only_a_process_of_its_own_leaves_what_it_imported_uncollected():
    """A caller of `main` keeps its garbage collection as it is."""
    code = """if True:
        import gc, sys
        from bdd_tf.cli import main
        assert main(["detect", "--help"]) == 0 and gc.get_freeze_count() == 0 and gc.isenabled()
        sys.argv = ["bdd", "detect", "--help"]
        assert main() == 0 and gc.get_freeze_count() > 0 and gc.isenabled()
        gc.disable()
        assert main() == 0 and not gc.isenabled()
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("given", "width"), [("70", 70), ("120", 120), ("none", 80), ("-3", 80)])
def test_help_is_as_wide_as_the_terminal(given, width):
    result = subprocess.run(
        [sys.executable, "-m", "bdd_tf", "detect", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": given},
    )
    assert width - 12 < max(map(len, result.stdout.splitlines())) <= width - 2
