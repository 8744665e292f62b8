"""The import graph is a contract: no circles, and packages import only the layers below them."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("bdd_tf", "converters")
#: The edge runs on devices without the rest of the package: it may import these modules and its own.
EDGE_MAY_IMPORT = ("bdd_tf", "bdd_tf.errors", "bdd_tf.files")
#: Packages besides NumPy and Pillow that a module of the edge imports when it needs them; the runtime's interpreter is found
#: by name (`bdd_tf.edge.engines`).
EDGE_EXTRAS = {"bdd_tf.edge.opencv": {"cv2"}}
#: Verbs sit on top of everything else: only they may import `converters`.
MAY_IMPORT_CONVERTERS = ("bdd_tf.cli", "bdd_tf.commands")
#: Training must never import evaluation: `bdd train` evaluates by calling both.
NEVER = (
    ("bdd_tf.training", "bdd_tf.evaluation"),
    ("bdd_tf.benchmark", "bdd_tf.commands"),
    ("bdd_tf.metrics", "bdd_tf.figures"),
    ("converters", "bdd_tf.commands"),
)
#: Modules that may import verbs: the command line, and the verbs themselves.
MAY_IMPORT_VERBS = ("bdd_tf.cli", "bdd_tf.commands")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(p): p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))}


def imports_of(path: Path) -> set[str]:
    """The project's modules that a file imports, at the top or inside functions; not those for type checkers."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else str(node.module))
    return {name for name in found if name in MODULES}


GRAPH = {name: imports_of(path) - {name} for name, path in MODULES.items()}


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1:
                found.append(sorted(component))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def test_a_circle_would_be_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_no_module_imports_itself_through_others():
    assert circles(GRAPH) == []


def test_the_edge_imports_nothing_else_of_the_package():
    wrong = {
        (name, other)
        for name, others in GRAPH.items()
        if within(name, "bdd_tf.edge")
        for other in others
        if not within(other, "bdd_tf.edge") and other not in EDGE_MAY_IMPORT
    }
    assert wrong == set()


def foreign_imports(path: Path) -> set[str]:
    """Top-level names of packages outside the standard library and the project that a file imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - set(PACKAGES)


def test_the_edge_imports_numpy_and_pillow_and_elsewhere_only_what_is_listed():
    found = {
        name: foreign_imports(path) - {"numpy", "PIL"}
        for name, path in MODULES.items()
        if within(name, "bdd_tf.edge")
    }
    assert {name: others for name, others in found.items() if others} == EDGE_EXTRAS


def test_only_verbs_import_converters():
    wrong = {
        (name, other)
        for name, others in GRAPH.items()
        if within(name, "bdd_tf") and not any(within(name, p) for p in MAY_IMPORT_CONVERTERS)
        for other in others
        if within(other, "converters")
    }
    assert wrong == set()


def test_only_the_command_line_imports_verbs():
    wrong = {
        (name, other)
        for name, others in GRAPH.items()
        if not any(within(name, package) for package in MAY_IMPORT_VERBS)
        for other in others
        if within(other, "bdd_tf.commands")
    }
    assert wrong == set()


@pytest.mark.parametrize(("package", "forbidden"), NEVER)
def test_layers(package, forbidden):
    wrong = {
        (name, other)
        for name, others in GRAPH.items()
        if within(name, package)
        for other in others
        if within(other, forbidden)
    }
    assert wrong == set()
