"""The documentation: every command in it parses, every link leads somewhere, the README stays short.

Checked without running anything: `bdd` lines by the parser of their verb, `make` lines by `make -n`, Python programs and
modules by their existence. In a code block a command must be complete. In running text it may leave required arguments
out and use placeholders for values (``bdd convert --run NAME``), but its verb, options and targets must exist.
"""

import argparse
import functools
import importlib.util
import itertools
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from bdd_tf import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    ROOT / "data" / "README.md",
    ROOT / "notebooks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
README_LINES = 150

_FENCE = re.compile(r"^ *```")
_INLINE = re.compile(r"`([^`\n]+)`")
_COMMAND = re.compile(r"(?:\S+/)?(bdd|make|python)\s")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]*)\)")
_VARIABLE = re.compile(r"([A-Z_]+)=")


def _lines(page: Path) -> tuple[list[str], str]:
    """Lines of a page's code blocks, continued lines joined, and the text outside of them."""
    code, text, inside, joined = [], [], False, ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            text.append(line)
        elif line.endswith("\\"):
            joined += line[:-1]
        else:
            code.append(joined + line)
            joined = ""
    assert not inside, f"{page}: a code block does not end"
    return code, "\n".join(text)


def _commands(line: str) -> list[list[str]]:
    """The commands of one line, as words: split at ``&&``, ``|`` and ``;``, without prompt, comment and variables set."""
    line = line.strip().removeprefix("$ ")
    if not _COMMAND.match(line):
        return []
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split, lexer.commenters = True, "#"
    found = [
        list(words)
        for separator, words in itertools.groupby(lexer, lambda word: not word.strip("&|;"))
        if not separator
    ]
    return [words for words in found if Path(words[0]).name in ("bdd", "make", "python")]


def _in_blocks() -> list[tuple[str, list[str]]]:
    return [
        (str(page.relative_to(ROOT)), words)
        for page in PAGES
        for line in _lines(page)[0]
        for words in _commands(line)
    ]


@functools.cache
def _spans(page: Path) -> list[str]:
    """Text in single backticks, outside of code blocks. A paragraph may break inside of it."""
    paragraphs = (re.sub(r"\n\s*", " ", paragraph) for paragraph in _lines(page)[1].split("\n\n"))
    return [span for paragraph in paragraphs for span in _INLINE.findall(paragraph)]


def _in_text() -> list[tuple[str, list[str]]]:
    return [
        (str(page.relative_to(ROOT)), words)
        for page in PAGES
        for span in _spans(page)
        for words in _commands(span)
    ]


def _of(program: str, commands: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    return [(page, words) for page, words in commands if Path(words[0]).name == program]


@functools.cache
def _lenient_parser(verb: str) -> argparse.ArgumentParser:
    """The parser of a verb that requires nothing and takes any text as a value."""
    parser = argparse.ArgumentParser(f"bdd {verb}", allow_abbrev=False, exit_on_error=False)
    cli.add_arguments(verb, importlib.import_module(cli.module_of(verb)), parser)
    for action in parser._actions:
        action.required, action.type, action.choices = False, None, None
        if not action.option_strings:
            action.nargs = "*"
        elif action.nargs is None:
            action.nargs = "?"
    for group in parser._mutually_exclusive_groups:
        group.required = False
    return parser


def test_pages_hold_commands():
    assert len(_of("bdd", _in_blocks())) > 30
    assert len(_of("make", _in_blocks())) > 30
    assert len(_of("bdd", _in_text())) > 20


def test_bdd_lines_of_code_blocks_parse(monkeypatch, capsys):
    wrong = []
    monkeypatch.setattr("bdd_tf.extensions.load_plugin", lambda plugin: None)
    for page, words in _of("bdd", _in_blocks()):
        verb = words[1]
        assert verb in cli.VERBS, f"{page}: bdd has no verb {verb}"
        monkeypatch.setattr(f"{cli.module_of(verb)}.main", lambda args: 0)
        if cli.main(words[1:]) != 0:
            wrong.append(f"{page}: {shlex.join(words)}\n{capsys.readouterr().err}")
    assert not wrong, "\n".join(wrong)


def test_bdd_lines_in_text_name_verbs_and_options_that_exist():
    wrong = []
    for page, words in _of("bdd", _in_text()):
        if words[1] in ("VERB", "--version"):
            continue
        if words[1] not in cli.VERBS:
            wrong.append(f"{page}: {shlex.join(words)}: no such verb")
        elif words[2:] not in (["--help"], ["-h"]):
            _, unknown = _lenient_parser(words[1]).parse_known_args(words[2:])
            wrong += [f"{page}: {shlex.join(words)}: {word}" for word in unknown]
    assert not wrong, "\n".join(wrong)


def test_options_in_text_exist():
    """``--option`` by itself belongs to some verb, or is named in a program of the repository."""
    options = {
        option for verb in cli.VERBS for a in _lenient_parser(verb)._actions for option in a.option_strings
    }
    folders = ("bdd_tf", "converters", "benchmarks", "tools", "tests")
    sources = "\n".join(
        p.read_text(encoding="utf-8")
        for f in folders
        for p in (ROOT / f).rglob("*.py")
        if p != Path(__file__)
    )
    wrong = []
    for page in PAGES:
        for span in _spans(page):
            option = span.split()[0].split("=")[0]
            if (
                option.startswith("--")
                and option not in options
                and not re.search(rf'"{re.escape(option)}[" =]', sources)
            ):
                wrong.append(f"{page.relative_to(ROOT)}: {option}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_lines_are_accepted_by_make():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    wrong, seen = [], set()
    for page, words in _of("make", _in_blocks() + _in_text()):
        variables = [m.group(1) for word in words[1:] if (m := _VARIABLE.match(word))]
        for name in variables:
            if not re.search(
                rf"\$\({name}\)|\bcall option,{name},|^{name} \?=|\$\(origin {name}\)", makefile, re.M
            ):
                wrong.append(f"{page}: {shlex.join(words)}: the Makefile has no variable {name}")
        targets = tuple(word for word in words[1:] if not _VARIABLE.match(word))
        if targets in seen:
            continue
        seen.add(targets)
        done = subprocess.run(
            ["make", "-n", *targets, *(word for word in words[1:] if _VARIABLE.match(word))],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            wrong.append(f"{page}: {shlex.join(words)}\n{done.stderr}")
    assert not wrong, "\n".join(wrong)


def test_python_programs_and_modules_exist():
    wrong = []
    for page, words in _of("python", _in_blocks() + _in_text()):
        if words[1] == "-m" and words[2] != "pip":
            there = importlib.util.find_spec(words[2]) is not None
        elif words[1].endswith(".py"):
            there = (ROOT / words[1]).is_file()
        else:
            continue
        if not there:
            wrong.append(f"{page}: {shlex.join(words)}")
    assert not wrong, "\n".join(wrong)


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", _lines(page)[1], re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", h.lower()).strip()) for h in headings}


def test_links_and_images_resolve():
    wrong = []
    for page in PAGES:
        for link in _LINK.findall(_lines(page)[1]):
            target, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            path = (page.parent / target).resolve() if target else page
            if not path.exists():
                wrong.append(f"{page.relative_to(ROOT)}: {link}")
            elif anchor and anchor not in _anchors(path):
                wrong.append(f"{page.relative_to(ROOT)}: {link}: no such heading")
    assert not wrong, "\n".join(wrong)


#: Where a path in running text may begin, so that pages can say ``edge/detector.py``.
_ROOTS = ("", "bdd_tf", "bdd_tf/edge", "bdd_tf/edge/runtime/src", "bdd_tf/training/native")
#: Beginnings of paths that exist only on a user's machine or after a command.
_GENERATED = ("runs/", "build/", "dist/", "photos/", "cifake/", "data/cache", "app/", "src/main")
#: Folders of data sets, run folders and caches.
_ON_DEVICE = ("checkpoints/", "tensorboard/", "figures/", "workers/", "unpacked/", "train/", "test/")
_PATH = re.compile(r"[\w.-]+(/[\w.-]+)*(/|\.(py|cc|h|md|json|yaml|yml|toml|txt|cff|tflite|map|ipynb|java))")


def test_paths_in_text_exist():
    """A file or folder with a path in running text is there. Words in capitals are placeholders."""
    wrong = []
    for page in PAGES:
        for span in _spans(page):
            if not _PATH.fullmatch(span) or "/" not in span or span.startswith(_GENERATED):
                continue
            if re.search(r"\b(NAME|VERB|ISA|FINGERPRINT|sample-vN)\b", span) or span in _ON_DEVICE:
                continue
            if not any((ROOT / root / span).exists() for root in _ROOTS):
                wrong.append(f"{page.relative_to(ROOT)}: {span}")
    assert not wrong, "\n".join(wrong)


def test_the_site_has_every_page():
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def pages(entry) -> set[str]:
        if isinstance(entry, str):
            return {entry}
        entries = entry if isinstance(entry, list) else entry.values()
        return set().union(*(pages(e) for e in entries))

    listed = pages(config["nav"])
    assert {p.name for p in (ROOT / "docs").glob("*.md")} <= listed
    assert {m.group(1) for m in re.finditer(r"\[[^\]]*\]\(docs/([\w-]+\.md)", PAGES[0].read_text())} <= listed


def test_the_readme_is_short_and_names_the_first_commands():
    text = PAGES[0].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= README_LINES
    assert "make demo" in text
    assert "make test" in text
