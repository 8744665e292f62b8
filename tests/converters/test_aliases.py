"""Modules that stored results name by a former path."""

import json
from importlib import util

import pytest

from converters import torch_pack
from converters.release import RESULTS


def test_packing_is_found_by_its_former_path():
    from bdd_tf.pytorch import pack

    assert torch_pack.main is pack.main


def test_training_is_found_by_its_former_path():
    pytest.importorskip("torch", reason="pip install -e .[torch]")
    from bdd_tf.pytorch import train
    from converters import torch_training

    assert torch_training.main is train.main


def test_every_module_that_a_stored_result_names_exists():
    named = {json.loads(path.read_text())["module"] for path in RESULTS.glob("*/trainer.json")}
    assert named
    assert all(util.find_spec(name) for name in named)
