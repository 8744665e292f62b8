"""Packaging that plain metadata cannot express: a wheel carries the compiled delegate and is tagged for its platform.

``BDD_TARGET`` names the platform (`bdd_tf.edge.runtime.build.TARGETS`) for wheels that go elsewhere; without it the
wheel is for this machine, and where nothing can compile it is built without the library.
"""

import os
import sys
from functools import cache
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from bdd_tf.edge.runtime import LIBRARY  # noqa: E402
from bdd_tf.edge.runtime.build import TARGETS, build, host_target  # noqa: E402
from bdd_tf.errors import BddError  # noqa: E402

TARGET = os.environ.get("BDD_TARGET")


@cache
def library() -> Path | None:
    """The compiled delegate, or None where there is no compiler for this machine."""
    try:
        return build(TARGET, ROOT / "build" / f"runtime-{TARGET or host_target()}" / LIBRARY)
    except BddError as error:
        if TARGET:
            raise SystemExit(f"bdd_tf: {error}") from None
        print(
            f"bdd_tf: installed without the library that runs binary networks: {error}\n"
            "bdd_tf: float models run all the same; `bdd detect` will say what can be done.",
            file=sys.stderr,
        )
        return None


class PlatformDistribution(Distribution):
    """Not pure where there is a library, which then goes where compiled files belong."""

    def has_ext_modules(self) -> bool:
        """Whether files depend on the platform."""
        return library() is not None


class BuildWithLibrary(build_py):
    """Puts the library beside its Python module."""

    def run(self) -> None:
        """Copy modules, then the library; an editable install uses the source tree as it is."""
        super().run()
        if not self.editable_mode and library() is not None:
            folder = Path(self.build_lib) / "bdd_tf" / "edge" / "runtime"
            self.copy_file(str(library()), str(folder / LIBRARY))


class PlatformWheel(bdist_wheel):
    """Any Python 3, but only the platform of the library."""

    def get_tag(self) -> tuple[str, str, str]:
        """py3-none-PLATFORM."""
        if self.root_is_pure:
            return "py3", "none", "any"
        return "py3", "none", TARGETS[TARGET].platform if TARGET else super().get_tag()[2]


setup(distclass=PlatformDistribution, cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": PlatformWheel})
