"""Builds wheels that contain the compiled delegate and are tagged for its platform.

The environment variable ``BDD_TARGET`` selects the platform, a key of `bdd_tf.edge.runtime.build.TARGETS`. Without it
the wheel is for this machine; if there is no compiler, it is built without the library.
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

from bdd_tf.edge.runtime.build import TARGETS, build, host_target  # noqa: E402
from bdd_tf.errors import BddError  # noqa: E402

TARGET = os.environ.get("BDD_TARGET")


@cache
def library() -> Path | None:
    """The compiled delegate; None if no compiler for this machine is installed."""
    try:
        target = TARGET or host_target()
        return build(target, ROOT / "build" / f"runtime-{target}" / TARGETS[target].library)
    except BddError as error:
        if TARGET:
            raise SystemExit(f"bdd_tf: {error}") from None
        print(
            f"bdd_tf: installed without the library that runs binary networks: {error}\n"
            "bdd_tf: float models work; for binary models, `bdd detect` explains how to get the library.",
            file=sys.stderr,
        )
        return None


class PlatformDistribution(Distribution):
    """A platform-specific distribution if it contains the library."""

    def has_ext_modules(self) -> bool:
        """Whether the distribution contains compiled files."""
        return library() is not None


class BuildWithLibrary(build_py):
    """Adds the library to the folder of its Python module."""

    def run(self) -> None:
        """Copy the modules and the library. An editable install uses the source tree's own library."""
        super().run()
        if not self.editable_mode and library() is not None:
            folder = Path(self.build_lib) / "bdd_tf" / "edge" / "runtime"
            self.copy_file(str(library()), str(folder / library().name))


class PlatformWheel(bdist_wheel):
    """A wheel for any Python 3 on the library's platform."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tag py3-none-PLATFORM."""
        if self.root_is_pure:
            return "py3", "none", "any"
        return "py3", "none", TARGETS[TARGET].platform if TARGET else super().get_tag()[2]


setup(distclass=PlatformDistribution, cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": PlatformWheel})
