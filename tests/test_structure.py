"""Limits that keep functions and files readable: lines, parameters and file sizes of the production code."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_FUNCTION_LINES = 80
MAX_PARAMETERS = 7
#: Functions whose parameters another system fixes: the calls of WASI.
FOREIGN = "__imported_wasi_"
MAX_FILE_LINES = 400
#: Number of files that may exceed `MAX_FILE_LINES`.
LONG_FILES = 6

PYTHON_FILES = sorted(p for package in ("bdd_tf", "converters") for p in (ROOT / package).rglob("*.py"))
CPP_FILES = sorted(p for suffix in ("cc", "h") for p in (ROOT / "bdd_tf").glob(f"**/src/**/*.{suffix}"))


@dataclass(frozen=True)
class Function:
    """A function definition.

    Attributes:
        name: Name as written, for messages.
        line: First line of the signature, starting at 1.
        lines: Number of lines from the signature to the end of the body.
        parameters: Number of parameters, without ``self`` and ``cls``.
    """

    name: str
    line: int
    lines: int
    parameters: int


def python_functions(source: str) -> list[Function]:
    """All functions and methods of a module, nested ones included.

    Every parameter counts: positional, keyword-only, ``*args`` and ``**kwargs``. The generated ``__init__`` of a
    dataclass has no definition, so that fields of a dataclass do not count.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            a = node.args
            names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if x]
            count = len(names) - (names[:1] in (["self"], ["cls"]))
            found.append(Function(node.name, node.lineno, node.end_lineno - node.lineno + 1, count))
    return found


def blanked(source: str) -> str:
    """C++ without comments, literals and preprocessor lines, each character replaced by a space; lines stay."""
    pattern = r"""//[^\n]*|/\*.*?\*/|R"\((?:.*?)\)"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'"""
    source = re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m[0]), source, flags=re.DOTALL)
    return re.sub(
        r"^[ \t]*#(?:\\\n|[^\n])*", lambda m: re.sub(r"[^\n]", " ", m[0]), source, flags=re.MULTILINE
    )


def closing(text: str, start: int) -> int:
    """Index of the bracket that closes the one at ``start``."""
    pairs = {"(": ")", "{": "}", "[": "]"}
    opening, close, depth = text[start], pairs[text[start]], 0
    for i in range(start, len(text)):
        depth += (text[i] == opening) - (text[i] == close)
        if depth == 0:
            return i
    raise ValueError(f"unbalanced {opening} in line {text.count(chr(10), 0, start) + 1}")


def parameter_count(text: str) -> int:
    """Number of comma-separated parameters; commas inside brackets and template arguments do not separate."""
    depth, commas = 0, 0
    for c in text:
        depth += (c in "(<{[") - (c in ")>}]")
        commas += c == "," and depth == 0
    return commas + 1 if text.strip() not in ("", "void") else 0


SCOPE = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b[^()=]*$")


def cpp_functions(source: str) -> list[Function]:
    """Functions with bodies, outside of others: a lambda counts as a part of the function around it."""
    text = blanked(source)
    return list(_cpp_functions(text, 0, len(text)))


def _cpp_functions(text: str, start: int, end: int) -> Iterator[Function]:
    head = i = start
    while i < end:
        c = text[i]
        if c in ";}":
            head = i + 1
        elif c in "([":
            i = closing(text, i)
        elif c == "{":
            before, close = text[head:i].strip(), closing(text, i)
            if SCOPE.search(before) and not before.endswith(")"):
                yield from _cpp_functions(text, i + 1, close)
                head = close + 1
            elif (signature := _signature(before)) is not None:
                first = head + len(text[head:i]) - len(text[head:i].lstrip())
                lines = text.count("\n", first, close) + 1
                yield Function(signature[0], text.count("\n", 0, first) + 1, lines, signature[1])
                head = close + 1
            # Otherwise the braces initialise a variable or a member.
            i = close
        i += 1


def _signature(before: str) -> tuple[str, int] | None:
    """Name and number of parameters where the text before a brace is a function's signature."""
    opening = _parameters_at(before)
    if opening is None:
        return None
    close = closing(before, opening)
    rest = before[close + 1 :].strip()
    name = re.search(r"(operator\s*[^\s\w]+|[\w:~]+)\s*$", before[:opening])
    # `x = f(y)` is an expression; default arguments of templates are none.
    if name is None or "=" in re.sub(r"<[^()]*>|operator\W+", "", before[:opening]):
        return None
    # Braces right behind a name among member initialisers belong to that member.
    if rest.startswith(":") and not rest.endswith((")", "}")):
        return None
    return name[1], parameter_count(before[opening + 1 : close])


def _parameters_at(before: str) -> int | None:
    """Index of the parenthesis that opens the parameters: the first outside of template arguments and attributes."""
    for match in re.finditer(r"\(", before):
        word = re.search(r"([\w~]+|operator\s*\W+?)\s*$", before[: match.start()])
        if word and word[1] not in (
            "__attribute__",
            "decltype",
            "alignas",
            "noexcept",
            "sizeof",
            "enable_if_t",
        ):
            return match.start()
    return None


@cache
def production_functions() -> list[tuple[str, Function]]:
    """Every function of the production code with the path of its file."""
    return [
        (str(path.relative_to(ROOT)), function)
        for paths, functions in ((PYTHON_FILES, python_functions), (CPP_FILES, cpp_functions))
        for path in paths
        for function in functions(path.read_text())
    ]


def test_functions_of_python_are_found_with_all_their_parameters():
    source = "class A:\n    def f(self, a, *, b, **c):\n        def inner(): pass\n\n        return a\n"
    assert python_functions(source) == [Function("f", 2, 4, 3), Function("inner", 3, 1, 0)]


def test_functions_of_cpp_are_found_with_all_their_parameters():
    source = """
#define MACRO(x) { x
namespace a {
// int commented() {
template <int N, class T = std::pair<int, int>>
static std::array<T, 2> Sum(const std::map<int, T>& m,
                            int (*callback)(int, int)) {
  auto lambda = [](int x, int y) { return x + y; };
  if (m.empty()) { return {}; }
  const char* text = "}";
  return {N, '{'};
}
struct S : Base {
  S(int a, int b) : Base(a), a_(a), b_{b} {}
  bool operator==(const S& other) const { return a_ == other.a_; }
  int a_ = 0, b_{0};
};
constexpr int kTable[] = {1, 2};
}  // namespace a
"""
    found = [(f.name, f.line, f.lines, f.parameters) for f in cpp_functions(source)]
    assert found == [("Sum", 5, 8, 2), ("S", 14, 1, 2), ("operator==", 15, 1, 1)]


@pytest.mark.parametrize(("what", "most"), [("lines", MAX_FUNCTION_LINES), ("parameters", MAX_PARAMETERS)])
def test_functions_have_few(what, most):
    many = [
        f"{path}:{f.line} {f.name}: {getattr(f, what)}"
        for path, f in production_functions()
        if getattr(f, what) > most and not f.name.startswith(FOREIGN)
    ]
    assert not many, "\n".join(many)


def test_few_files_are_long():
    lengths = {path: len(path.read_text().splitlines()) for path in (*PYTHON_FILES, *CPP_FILES)}
    long = sorted(f"{p.relative_to(ROOT)}: {n}" for p, n in lengths.items() if n > MAX_FILE_LINES)
    assert len(long) <= LONG_FILES, "\n".join(long)
