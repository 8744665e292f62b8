"""The wheel holds everything that `bdd` reads: modules, converters, experiments, models and licences."""

from pathlib import Path

import pytest
from setuptools import Distribution
from setuptools.config.pyprojecttoml import apply_configuration

ROOT = Path(__file__).resolve().parents[1]
#: Made by compilers and tools; `setup.py` adds the library of the wheel's platform.
GENERATED = (".so", ".stamp", ".pyc")


@pytest.fixture(scope="module")
def distribution():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        found = apply_configuration(Distribution({"script_name": "setup.py"}), ROOT / "pyproject.toml")
        found.include_package_data = False  # or egg-info is written into the source tree
        found.finalize_options()
        build = found.get_command_obj("build_py")
        build.ensure_finalized()
        found.packed = {Path(path).relative_to(build.build_lib).as_posix() for path in build.get_outputs()}
        yield found


def test_every_file_of_the_packages_is_packed(distribution):
    kept = {
        path.relative_to(ROOT).as_posix()
        for package in ("bdd_tf", "converters")
        for path in (ROOT / package).rglob("*")
        if path.is_file()
        and path.suffix not in GENERATED
        and not any(part.startswith((".", "__pycache__")) for part in path.parts[len(ROOT.parts) :])
    }
    assert sorted(kept - distribution.packed) == []


def test_nothing_else_is_packed(distribution):
    assert {name.partition("/")[0] for name in distribution.packed} == {"bdd_tf", "converters"}
    assert not [name for name in distribution.packed if "__pycache__" in name]
    for name in (
        "bdd_tf/edge/models/photos-bnext-n.tflite",
        "bdd_tf/edge/models/cifake-bnext-n.tflite",
        "bdd_tf/experiments/scratch.yaml",
        "bdd_tf/edge/runtime/src/kernels/scalar.cc",
        "bdd_tf/training/native/src/c_api.cc",
        "bdd_tf/service/page.html",
        "converters/convert.py",
        "converters/photo_model_card.md",
    ):
        assert name in distribution.packed


def test_the_licences_of_code_and_weights_are_packed(distribution):
    assert set(distribution.metadata.license_files) == {"LICENSE", "LICENSE-MODEL.md"}
    assert all((ROOT / name).is_file() for name in distribution.metadata.license_files)
