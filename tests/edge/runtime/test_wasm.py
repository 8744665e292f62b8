"""The WebAssembly module in Node: the same scores as the native library, and errors as sentences."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from bdd_tf.edge.detector import Detector
from bdd_tf.edge.evidence.walker import walk
from bdd_tf.edge.runtime import build as building
from bdd_tf.edge.shipped_model import shipped_model
from tests.edge.evidence.cases import CASES
from tests.edge.evidence.mutations import mutated
from tests.edge.runtime import small_detectors
from tools.web.build import build_package
from tools.web.reference import Reference

ROOT = Path(__file__).resolve().parents[3]
HARNESS = Path(__file__).with_name("wasm_harness.mjs")
#: Difference of a score to that of another native kernel set, unless rounding turns a sign.
TOLERANCE = 1e-5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("node") is None, reason="no node here: apt-get install nodejs"),
]


@pytest.fixture(scope="module")
def module():
    """The module, compiled once and kept in build/."""
    pytest.importorskip("ziglang")
    return building.build("wasm32", ROOT / "build" / "web" / "bdd.wasm")


@pytest.fixture
def node(module, tmp_path):
    """A function: tasks for the harness to its answers."""

    def run(tasks):
        path = tmp_path / "tasks.json"
        path.write_text(json.dumps(tasks))
        done = subprocess.run(
            ["node", HARNESS, ROOT / "web" / "package", module, path],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def inputs(count, side, seed=0):
    """Network inputs: half noise, half smooth shapes with a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side]
    images = rng.integers(0, 256, (count, side, side, 3), np.uint8)
    for i in range(0, count, 2):
        a, b, c = rng.uniform(0.02, 0.6, 3)
        waves = np.stack([np.sin(a * x), np.cos(b * y), np.sin(c * (x + y))], -1) * 90 + 128
        images[i] = np.clip(waves + rng.normal(0, 6, waves.shape), 0, 255).astype(np.uint8)
    return images


def test_the_module_imports_nothing_and_exports_the_c_interface(module):
    shown = subprocess.run(
        ["node", "-e", "const m = new WebAssembly.Module(require('fs').readFileSync(process.argv[1]));"
         "console.log(JSON.stringify([WebAssembly.Module.imports(m), WebAssembly.Module.exports(m).map(e => e.name)]))",
         module],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported, exported = json.loads(shown.stdout)
    assert imported == []
    assert {"memory", "malloc", "free", "_initialize", "bdd_open_memory", "bdd_score", "bdd_close"} <= set(
        exported
    )
    assert "bdd_open_file" not in exported


@pytest.mark.parametrize("name", ["photos", "cifake"])
def test_bundled_models_score_200_inputs_as_native(node, tmp_path, name):
    model = shipped_model(name)
    with Reference(model, batch=8) as reference, Reference(model, "auto", 8) as fastest:
        images = inputs(200, 96 if name == "photos" else 32)
        expected, fast = reference.score_inputs(images), fastest.score_inputs(images)
    assert np.ptp(expected) > 0.5
    (tmp_path / "inputs").write_bytes(images.tobytes())
    task = {"model": str(model), "inputs": str(tmp_path / "inputs")}
    answers = node([{**task, "count": 8, "kernels": "simd128"}, {**task, "count": 1, "kernels": "scalar"}])
    for found in answers:
        scores = np.float32(found["scores"])
        apart = np.abs(scores - fast)
        print(
            f"{name}: native scalar {np.abs(scores - expected).max():.2g}, native fastest {apart.max():.2g}"
        )
        np.testing.assert_array_equal(scores, expected)
        # Sets that fuse products and sums turn a sign now and then (see Reference).
        assert (apart > TOLERANCE).mean() <= 0.02


def photographs(count, seed=1):
    """RGBA images of many sizes: textures, small ones, flat ones, transparent ones."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        width, height = (int(n) for n in rng.integers(20, 260, 2))
        rgba = np.full((height, width, 4), 255, np.uint8)
        if i % 20 == 3:
            rgba[..., :3] = rng.integers(0, 256)  # flat
        else:
            waves = inputs(1, 260, seed=i)[0, :height, :width]
            rgba[..., :3] = waves if i % 5 else rng.integers(0, 256, waves.shape, np.uint8)
        if i % 10 == 7:
            rgba[..., 3] = rng.integers(0, 256, (height, width))
        made.append(rgba)
    return made


@pytest.mark.parametrize("name", ["photos", "cifake"])
def test_200_images_get_the_score_the_crops_and_the_note_of_native(node, tmp_path, name):
    model, images = shipped_model(name), photographs(200)
    listed = []
    for i, rgba in enumerate(images):
        (tmp_path / f"{i}").write_bytes(rgba.tobytes())
        listed.append({"width": rgba.shape[1], "height": rgba.shape[0], "file": str(tmp_path / f"{i}")})
    (found,) = node([{"model": str(model), "images": listed}])
    notes = 0
    with Reference(model) as reference, Detector(model, engine="native") as detector:
        assert found["threshold"] == detector.threshold
        for rgba, answer in zip(images, found["predictions"], strict=True):
            probability, crops = reference.score_image(rgba)
            assert answer["probability"] == pytest.approx(probability, abs=1e-12)
            assert [(*c["box"].values(), c["probability"]) for c in answer["crops"]] == crops
            assert answer["verdict"] == detector.verdicts([probability])[0]
            assert answer["note"] == detector.note(PIL.Image.fromarray(rgba))
            notes += answer["note"] is not None
    assert 20 < notes <= 200


@pytest.mark.parametrize("name", small_detectors.CASES)
def test_small_detectors_score_as_native(node, tmp_path, name):
    content = small_detectors.build(name)
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    images = inputs(12, small_detectors.CASES[name][0])
    (tmp_path / "inputs").write_bytes(images.tobytes())
    with Reference(path, batch=len(images)) as reference:
        expected = reference.score_inputs(images)
    task = {"model": str(path), "inputs": str(tmp_path / "inputs")}
    answers = node([{**task, "count": n, "kernels": k} for n in (1, 5) for k in ("simd128", "scalar")])
    for found in answers:
        np.testing.assert_array_equal(np.float32(found["scores"]), expected)


def test_the_evidence_of_files_is_that_of_native(node, tmp_path):
    """Every case, and damaged ones; thumbnails and signatures are compared in Python only."""
    files = [case.make() for case in CASES.values()] + [content for _, content in mutated(100)]
    for i, content in enumerate(files):
        (tmp_path / f"{i}").write_bytes(content)
    task = {
        "model": str(shipped_model("cifake")),
        "files": [str(tmp_path / f"{i}") for i in range(len(files))],
    }
    (found,) = node([task])
    keys = ("kind", "says", "where", "strength")
    assert found["evidence"] == [
        [{key: item[key] for key in keys} for item in walk(content)] for content in files
    ]
    assert sum(map(len, found["evidence"])) > 100


def test_errors_are_the_sentences_of_the_c_interface(node, tmp_path):
    content = shipped_model("cifake").read_bytes()
    files = {"text": b"no model", "empty": b"", "cut": content[: len(content) // 3]}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    answers = node(
        [{"model": str(tmp_path / name)} for name in (*files, "gone")]
        + [{"model": str(shipped_model("cifake")), "kernels": "avx2"}]
    )
    assert {found["kind"] for found in answers} == {"BddError"}
    said = [found["error"] for found in answers]
    assert "not a .tflite file" in said[0]
    assert said[1] == "the file is empty"
    assert said[2]
    assert said[3].startswith("the model cannot be read: ")
    assert "kernels a set that this machine has" in said[4]


def test_the_package_finds_its_module_and_takes_bytes_and_urls(module, tmp_path):
    """Imported by its name, as an installed package."""
    package = build_package(tmp_path / "built")
    (tmp_path / "node_modules").mkdir()
    package.rename(tmp_path / "node_modules" / "bdd-tf")
    (tmp_path / "use.mjs").write_text(
        """import { BddError, Detector } from "bdd-tf";
        import { readFileSync } from "node:fs";
        import { pathToFileURL } from "node:url";
        const path = process.argv[2], bytes = readFileSync(path), found = [];
        const image = { width: 40, height: 30, data: new Uint8Array(4800).map((_, i) => (i * i) & 255) };
        for (const model of [path, pathToFileURL(path), bytes, new Blob([bytes])]) {
          const detector = await Detector.load(model);
          found.push((await detector.predict(image)).probability);
          const nothing = { width: 0, height: 0, data: new Uint8Array(0) };
          for (const wrong of [{ ...image, width: 41 }, nothing, null, "x", new Blob(["x"])]) {
            const said = await detector.predict(wrong).catch((error) => error);
            if (!(said instanceof BddError)) throw said;
          }
          detector.close();
          detector.close();
          const said = await detector.predict(image).catch((error) => error.message);
          if (said !== "this detector is closed; load the model again") throw new Error(said);
        }
        console.log(JSON.stringify(found));"""
    )
    done = subprocess.run(
        ["node", tmp_path / "use.mjs", shipped_model("cifake")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert len(scores) == 4
    assert len(set(scores)) == 1
