"""Installs the library for C and C++: ``python -m bdd_tf.edge.runtime.install --prefix /usr/local``.

Writes ``include/bdd.h`` and ``bdd.hpp``, the library in ``lib``, a CMake package (``find_package(bdd)``, target
``bdd::bdd``) and a pkg-config file. Everything is found relative to itself, so the folder can be moved.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from bdd_tf.edge.runtime import library_path
from bdd_tf.edge.runtime.build import SOURCES, TARGETS, build, host_target
from bdd_tf.errors import BddError, UsageError, exit_code

HEADERS = ("bdd.h", "bdd.hpp")

_CMAKE = """\
# Made by bdd_tf: find_package(bdd) defines the target bdd::bdd.
get_filename_component(_bdd_prefix "${{CMAKE_CURRENT_LIST_DIR}}/../../.." ABSOLUTE)
if(NOT TARGET bdd::bdd)
  add_library(bdd::bdd SHARED IMPORTED)
  set_target_properties(bdd::bdd PROPERTIES
    IMPORTED_LOCATION "${{_bdd_prefix}}/lib/{library}"
    IMPORTED_NO_SONAME {no_soname}
    INTERFACE_INCLUDE_DIRECTORIES "${{_bdd_prefix}}/include")
endif()
set(bdd_FOUND TRUE)
unset(_bdd_prefix)
"""

# The same major version works, if it is not older than what is asked for (bdd.h, bdd_version).
_CMAKE_VERSION = """\
set(PACKAGE_VERSION "{version}")
if(PACKAGE_FIND_VERSION_MAJOR STREQUAL "{major}" AND NOT PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
  if(PACKAGE_VERSION VERSION_EQUAL PACKAGE_FIND_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
  endif()
else()
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
endif()
if("${{PACKAGE_FIND_VERSION}}" STREQUAL "")
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
"""

_PKG_CONFIG = """\
prefix=${{pcfiledir}}/../..
Name: bdd
Description: Scores images with binary neural networks that detect AI-made images
Version: {version}
Cflags: -I${{prefix}}/include
Libs: -L${{prefix}}/lib -l{name}
"""


def interface_version() -> str:
    """The version of the C interface, ``MAJOR.MINOR.PATCH``, as `bdd_version` returns it."""
    text = (SOURCES / "interpreter" / "c_api.cc").read_text(encoding="utf-8")
    found = re.search(r'bdd_version\(void\) \{ return "([0-9.]+)"; \}', text)
    if found is None:
        raise BddError("the source of the library names no version; this installation is damaged.")
    return found[1]


def install(prefix: Path, target: str | None = None) -> list[Path]:
    """Write the library and what programs need to use it.

    Args:
        prefix: Folder that gets ``include`` and ``lib``; made if it is missing. Files of an earlier installation are
            replaced one by one, each at once.
        target: A key of `bdd_tf.edge.runtime.build.TARGETS`; None for this machine.

    Returns:
        The files.

    Raises:
        UsageError: If the folder cannot be written.
        BddError: If the library cannot be compiled.
    """
    target = target or host_target()
    version, name = interface_version(), TARGETS[target].library
    values = {
        "version": version,
        "major": version.split(".")[0],
        "library": name,
        "name": Path(name).stem.removeprefix("lib"),
        # Linux's library has no soname: a program records the name by which the linker was given it.
        "no_soname": "FALSE" if name.endswith(".dylib") else "TRUE",
    }
    texts = {
        "lib/cmake/bdd/bddConfig.cmake": _CMAKE,
        "lib/cmake/bdd/bddConfigVersion.cmake": _CMAKE_VERSION,
        "lib/pkgconfig/bdd.pc": _PKG_CONFIG,
    }
    try:
        prefix.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=prefix, prefix=".install-") as scratch:
            new = Path(scratch)
            (new / "lib").mkdir()
            if target == host_target():
                shutil.copy(library_path(), new / "lib" / name)
            else:
                build(target, new / "lib" / name).with_suffix(".stamp").unlink()
            (new / "include").mkdir()
            for header in HEADERS:
                shutil.copy(SOURCES / "include" / header, new / "include")
            for place, text in texts.items():
                (new / place).parent.mkdir(parents=True, exist_ok=True)
                (new / place).write_text(text.format(**values), encoding="utf-8")
            made = []
            for path in sorted(p for p in new.rglob("*") if p.is_file()):
                final = prefix / path.relative_to(new)
                final.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, final)
                made.append(final)
            return made
    except OSError as error:
        raise UsageError(f"{prefix} cannot be written: {error.strerror}.") from None


def main() -> int:
    """Install from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bdd_tf.edge.runtime.install", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--prefix", type=Path, required=True, help="folder that gets include and lib")
    parser.add_argument("--target", choices=list(TARGETS), help="platform (default: this machine)")
    args = parser.parse_args()

    def run() -> None:
        for path in install(args.prefix, args.target):
            print(path)

    return exit_code(run, "bdd")


if __name__ == "__main__":
    sys.exit(main())
