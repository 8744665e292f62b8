"""Programs with our runtime inside and symbols, for profilers; used by `arm_instructions.py` and `stages.py`."""

import re
from pathlib import Path

from bdd_tf.edge.runtime.build import SOURCES, compile_objects, compiler
from tools.arm.emulate import run


def build_program(target: str, folder: Path) -> Path:
    """Build `run_model.c` for a target of `bdd_tf.edge.runtime.build.TARGETS`; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    command = compiler(target)
    objects = compile_objects(command, target, folder)
    c_compiler = ["cc" if word == "c++" else word for word in command]
    source, main = Path(__file__).with_name("run_model.c"), folder / "run_model.main.o"
    run([*c_compiler, "-O1", f"-I{SOURCES / 'include'}", "-c", source, "-o", main])
    program = folder / "run_model"
    # At fixed addresses, so that blocks can be attributed to symbols.
    run([*command, "-no-pie", "-pthread", *objects, main, "-o", program])
    return program


def readable(name: str) -> str:
    """A C++ function's name without return type, namespaces, template arguments and parameters."""
    name = name.replace("(anonymous namespace)::", "").replace("bdd::", "")
    name = re.sub(r"\[clone .*\]", "", name)
    while (shorter := re.sub(r"<[^<>]*>|\([^()]*\)", "", name)) != name:
        name = shorter
    return re.sub(r"\s*\bconst\b\s*$", "", name).split(" ")[-1]
