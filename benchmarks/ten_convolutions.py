"""Compare ten 3x3 binary convolutions with the same in float and int8: `python benchmarks/ten_convolutions.py`.

Five 256 -> 256 on 14x14 maps and five 512 -> 512 on 7x7 maps, 1.16 G binary multiply-adds: the kind that dominates BNext-T.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from bdd_tf.benchmark.contenders import Contender
from bdd_tf.benchmark.output import machine, table
from bdd_tf.benchmark.worker import measure
from bdd_tf.edge.runtime import available_kernels
from bdd_tf.legacy_keras import larq as lq
from bdd_tf.legacy_keras import tf


def network(binary: bool) -> tf.keras.Model:
    """Build the ten convolutions as two parallel chains."""
    inputs, outputs = [], []
    for side, width in ((14, 256), (7, 512)):
        x = entry = tf.keras.Input((side, side, width), batch_size=1)
        for _ in range(5):
            quantizers = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"} if binary else {}
            layer = lq.layers.QuantConv2D if binary else tf.keras.layers.Conv2D
            x = layer(
                width, 3, padding="same", use_bias=False, kernel_initializer="glorot_normal", **quantizers
            )(x)
        inputs.append(entry)
        outputs.append(x)
    return tf.keras.Model(inputs, outputs)


def main() -> int:
    """Measure and print the table; return the exit code."""
    import larq_compute_engine as lce

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=30, help="number of turns of each file; default 30")
    parser.add_argument("--threads", type=int, default=1, help="number of threads; default 1")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        binary, real, int8 = (Path(folder) / name for name in ("binary", "float", "int8"))
        binary.write_bytes(lce.convert_keras_model(network(True)))
        model = network(False)
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        real.write_bytes(converter.convert())
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            {i.name: tf.random.normal(i.shape) for i in model.inputs} for _ in range(4)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        int8.write_bytes(converter.convert())
        contenders = [
            Contender("binary", "litert", k, args.threads, str(binary)) for k in available_kernels()
        ]
        contenders += [Contender(p.name, "litert", None, args.threads, str(p)) for p in (real, int8)]
        print(f"{machine()}\n{table(measure(contenders, args.rounds))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
