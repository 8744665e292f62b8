"""larq-zoo's networks on our runtime against Keras, and every case of operators, on several TFLite runtimes.

    make test-runtimes

Weights are random and BN-calibrated on photographs (pretrained ones are a download away); the runtimes beside the
installed one are fetched by pip into build/runtimes. Whole nets are compared by their median difference and their
first choice: a sign next to its threshold flips with the last bit of a float (see tools/agreement.py). The
median counts without XNNPACK, whose float convolutions round otherwise than Keras': in Real-to-binary with random
weights that flips signs on most images, whatever runs the binary operators.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "runtimes"
NETS = ("QuickNetSmall", "QuickNet", "BiRealNet", "BinaryDenseNet28", "RealToBinaryNet")
RUNTIMES = {"ai_edge_litert": None, "ai_edge_litert==1.4.0": "ai-edge-litert==1.4.0",
            "tflite_runtime==2.14.0": "tflite-runtime==2.14.0", "tensorflow.lite": None}  # fmt: skip
IMAGES = 16
#: Of the logits' standard deviation.
MEDIAN_LIMIT = 1e-3
FIRST_CHOICES = 0.9


def zoo(name):
    """A network with calibrated weights, ending in logits."""
    from larq_zoo import literature, sota

    from bdd_tf.legacy_keras import tf
    from converters.sample_images import photographs

    tf.keras.utils.set_random_seed(1)
    network = getattr(sota if hasattr(sota, name) else literature, name)(weights=None)
    tf.keras.utils.set_random_seed(1)
    dense = [x for x in network.layers if isinstance(x, tf.keras.layers.Dense)][-1]
    dense.activation = tf.keras.activations.linear
    network = tf.keras.Model(network.input, dense.output)
    norms = [x for x in network.layers if isinstance(x, tf.keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    network(photographs(16, 224, seed=1).astype(np.float32) / 127.5 - 1, training=True)
    return network


def prepare(name):
    """Convert a network and store the logits of Keras for the test images."""
    import larq_compute_engine as lce

    from bdd_tf.legacy_keras import tf
    from converters.sample_images import photographs

    path = HOME / f"{name}.tflite"
    if path.exists() and path.with_suffix(".npz").exists():
        return
    network = zoo(name)
    images = photographs(IMAGES, 224).astype(np.float32) / 127.5 - 1
    np.savez(path.with_suffix(".npz"), images=images, logits=network(images, training=False).numpy())
    path.write_bytes(lce.convert_keras_model(network))
    tf.keras.backend.clear_session()


def module_of(runtime):
    """Its Interpreter, and the option that leaves XNNPACK out."""
    import importlib

    if runtime == "tensorflow.lite":
        from bdd_tf.legacy_keras import tf

        resolvers = tf.lite.experimental.OpResolverType
        return tf.lite.Interpreter, resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    module = importlib.import_module(f"{runtime.partition('==')[0]}.interpreter")
    return module.Interpreter, module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def run(runtime):
    """What one runtime makes of all: in a process of its own."""
    from bdd_tf.edge.runtime import available_kernels, lce_delegate
    from tests.edge.runtime.case_runner import load, run_all
    from tests.edge.runtime.fused_nets import NETS as FUSED
    from tests.edge.runtime.fused_nets import fed

    interpreter_class, without_xnnpack = module_of(runtime)
    cases = load(HOME / "cases.npz")
    wrong = run_all(cases, interpreter_class, lce_delegate, available_kernels())
    print(f"{runtime}: {len(cases)} cases, {', '.join(available_kernels())}, 1 and 2 threads, batch 1 and 4: "
          f"{len(wrong)} wrong", *wrong[:5], sep="\n  ")  # fmt: skip

    def outputs(content, x, *, xnnpack=True, **options):
        resolver = {} if xnnpack else {"experimental_op_resolver_type": without_xnnpack}
        interpreter = interpreter_class(
            model_content=content, experimental_delegates=[lce_delegate(**options)], **resolver
        )
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
        try:
            interpreter.allocate_tensors()
        except RuntimeError:
            if len(x) == 1:
                raise
            # Real-to-binary's file has a batch of 1 written into its reshapes, which are the runtime's.
            singles = [outputs(content, image[None], xnnpack=xnnpack, **options) for image in x]
            return [np.concatenate(parts) for parts in zip(*singles, strict=True)]
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        return [interpreter.get_tensor(o["index"]) for o in interpreter.get_output_details()]

    apart = 0.0
    for content in FUSED.values():
        (entry,) = interpreter_class(
            model_content=content, experimental_delegates=[lce_delegate()]
        ).get_input_details()
        x = fed((2, *entry["shape"][1:]), entry["dtype"], 0)
        # TensorFlow 2.19's XNNPACK, after another delegate, miscomputes convolutions whose constants it unpacks.
        unfused = outputs(content, x, fuse=False, xnnpack=False)
        for a, b in zip(outputs(content, x), unfused, strict=True):
            apart = max(apart, float(np.abs(a.astype(float) - b).max() / max(np.abs(b).max(), 1e-9)))
    print(f"  {len(FUSED)} fused stretches against unfused: {apart:.1e} of the scale at most")
    failed = bool(wrong) or apart > 1e-5
    for name in NETS:
        content = (HOME / f"{name}.tflite").read_bytes()
        with np.load(HOME / f"{name}.npz") as saved:
            images, logits = saved["images"], saved["logits"]
        for kernels in available_kernels()[:-1] or available_kernels():
            for threads, batch, xnnpack in ((1, 1, False), (2, 4, False), (1, 1, True)):
                found = np.concatenate(
                    [outputs(content, images[i : i + batch], xnnpack=xnnpack, num_threads=threads, kernels=kernels)[0]
                     for i in range(0, IMAGES, batch)]
                )  # fmt: skip
                median = float(np.median(np.abs(found - logits))) / logits.std()
                same = float((found.argmax(1) == logits.argmax(1)).mean())
                print(f"  {name:18} {kernels:7} {threads} threads, batch {batch}, XNNPACK {'on ' if xnnpack else 'off'}: "
                      f"median {median:.1e}, same first choice {same:.0%}")  # fmt: skip
                failed |= (median > MEDIAN_LIMIT and not xnnpack) or same < FIRST_CHOICES
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runtime", help="run on this one, in this process")
    args = parser.parse_args()
    if args.runtime:
        return run(args.runtime)
    from tests.edge.runtime.case_runner import save
    from tests.edge.runtime.operator_cases import all_cases

    HOME.mkdir(parents=True, exist_ok=True)
    save(all_cases(), HOME / "cases.npz")
    for name in NETS:
        print(f"preparing {name}", flush=True)
        prepare(name)
    codes = {}
    for runtime, package in RUNTIMES.items():
        paths = [str(ROOT)]
        if package:
            target = HOME / package.replace("==", "-")
            if not target.exists():
                pip = [
                    sys.executable,
                    "-m",
                    "pip",
                    "install",
                    "-q",
                    "--no-deps",
                    "--target",
                    str(target),
                    package,
                ]
                subprocess.run(pip, check=True)
            paths.insert(0, str(target))
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        codes[runtime] = subprocess.run(
            [sys.executable, "-m", "tools.runtime.nets", "--runtime", runtime], cwd=ROOT, env=env, check=False
        ).returncode
    print(json.dumps(codes))
    return max(codes.values())


if __name__ == "__main__":
    sys.exit(main())
