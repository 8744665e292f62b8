"""Which Keras TensorFlow got is decided by what is imported first: each order works or says what to do."""

import os
import subprocess
import sys

import pytest

BLOCK_TENSORFLOW = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
"""
REPORT_ERROR = """
from bdd_tf.errors import BddError
try:
    import bdd_tf.legacy_keras
except BddError as error:
    print(error)
else:
    print("no error")
"""


def python(code: str, **variables: str) -> str:
    """Standard output of a fresh interpreter without a choice of Keras, but for ``variables``."""
    kept = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    environment = {**kept, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_bdd_first_gives_legacy_keras_and_larq_even_where_the_user_chose_keras_3():
    code = """
from bdd_tf.legacy_keras import tf
import larq, tensorflow
assert tensorflow is tf
assert issubclass(larq.layers.QuantConv2D, tf.keras.layers.Layer)
print(tf.keras.Model.__module__.split(".")[0])
"""
    assert python(code, TF_USE_LEGACY_KERAS="0") == "tf_keras"


def test_tensorflow_first_under_legacy_keras_is_fine():
    code = f"import tensorflow\n{REPORT_ERROR}\nimport larq\nprint(tensorflow.keras.Model.__module__)"
    lines = python(code, TF_USE_LEGACY_KERAS="1").splitlines()
    assert lines[0] == "no error"
    assert lines[1].startswith("tf_keras")


def test_keras_3_first_is_one_clear_sentence():
    message = python(f"import tensorflow as tf\ntf.keras.Model\n{REPORT_ERROR}")
    assert len(message.splitlines()) == 1
    for word in ("Keras 3", "TF_USE_LEGACY_KERAS=1", "import bdd_tf's modules before tensorflow"):
        assert word in message


def test_without_tensorflow_the_install_command_is_named():
    message = python(BLOCK_TENSORFLOW + REPORT_ERROR)
    assert len(message.splitlines()) == 1
    assert "pip install -r requirements.txt" in message


def test_light_modules_do_not_load_tensorflow():
    code = """
import sys
import bdd_tf, bdd_tf.config, bdd_tf.errors, bdd_tf.models.registry, bdd_tf.presets
bdd_tf.presets.experiment("paper-cifake-t")
bdd_tf.models.registry.stem_stride("bnext-t", 224)
print(sorted({"tensorflow", "larq", "tf_keras", "keras"} & set(sys.modules)))
"""
    assert python(code) == "[]"


#: Modules that need Larq, each with other imports in front of it.
NEED_LARQ = ("bdd_tf.models.bnext", "bdd_tf.models.operation_counts", "converters.tflite.zero_padding")


@pytest.mark.parametrize("module", NEED_LARQ)
def test_a_module_that_needs_larq_chooses_legacy_keras_before_it_imports_anything(module):
    code = f"""
import os, sys
class First:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "larq", "tf_keras", "keras"):
            print(name, os.environ.get("TF_USE_LEGACY_KERAS"), flush=True)
            os._exit(0)
sys.meta_path.insert(0, First())
import {module}
"""
    assert python(code) == "tensorflow 1"


def test_a_module_that_needs_larq_can_be_the_first_of_ours_that_is_imported():
    # In one process: TensorFlow takes seconds to import, and only ours are forgotten.
    code = f"""
import importlib, sys
for module in {NEED_LARQ}:
    for name in [n for n in sys.modules if n.split(".")[0] in ("bdd_tf", "converters")]:
        del sys.modules[name]
    importlib.import_module(module)
print("imported")
"""
    assert python(code) == "imported"
