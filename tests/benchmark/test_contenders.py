"""Which files a benchmark measures beside the given one."""

from bdd_tf.benchmark.contenders import contenders_of
from bdd_tf.edge.tflite.file import parse_tflite


class Maker:
    """Remembers what it was asked for."""

    def __init__(self, folder):
        self.folder, self.made = folder, []

    def untrained(self, backbone, resolution, channels):
        self.made.append((backbone, resolution, channels))
        return self.folder / f"{backbone}-{resolution}-{'-'.join(channels)}.tflite"

    def baseline(self, name, resolution):
        self.made.append((name, resolution))
        return self.folder / f"{name}.tflite"


def test_binary_networks_run_on_the_fastest_kernels_beside_the_file(converted, tmp_path):
    path, maker = converted[0], Maker(tmp_path)
    model = parse_tflite(path.read_bytes())
    found = contenders_of(path, model, [1, 2], ["avx2", "scalar"], ["bnext-s", "vit-b32"], maker)
    others = [(c.name, c.engine, c.kernels, c.threads) for c in found if c.name != path.stem]
    name = "bnext-s-32-rgb-fft-lbp"
    assert others == [
        (name, "litert", "avx2", 1), (name, "litert", "avx2", 2),
        ("vit-b32 32", "litert", None, 1), ("vit-b32 32", "litert", None, 2),
    ]  # fmt: skip
    assert set(maker.made) == {("bnext-s", 32, ("rgb", "fft", "lbp")), ("vit-b32", 32)}
    assert [(c.kernels, c.threads) for c in found if c.name == path.stem] == [
        ("avx2", 1), ("scalar", 1), ("avx2", 2), ("scalar", 2),
    ]  # fmt: skip
