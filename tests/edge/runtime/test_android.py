"""The Android port as far as it can be tested without a device: the Java class in a desktop JVM, the NDK's path and flags."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bdd_tf.edge.detector import Detector
from bdd_tf.edge.runtime import build as building
from bdd_tf.edge.runtime import library_path
from bdd_tf.edge.shipped_model import shipped_model
from bdd_tf.errors import BddError, UsageError

JAVA = Path(__file__).resolve().parents[3] / "docs" / "android"
#: As LiteRT's reference documents it: https://developers.google.com/edge/api/tflite/java/org/tensorflow/lite/Delegate
INTERFACE = """package org.tensorflow.lite;
public interface Delegate extends java.io.Closeable {
  long getNativeHandle();
  @Override default void close() {}
}
"""
PROGRAM = """
import bddtf.LceDelegate;
public class Program {
  public static void main(String[] words) {
    LceDelegate two = new LceDelegate(2), one = new LceDelegate(1);
    System.out.println(two.getNativeHandle() != 0 && two.getNativeHandle() != one.getNativeHandle());
    two.close();
    System.out.println(two.getNativeHandle());
    two.close();
    try { new LceDelegate(0); } catch (IllegalArgumentException error) { System.out.println(error.getMessage()); }
    one.close();
  }
}
"""


DETECTOR = """
import bddtf.Detector;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
public class Scores {
  static ByteBuffer read(String path) throws Exception {
    byte[] bytes = Files.readAllBytes(Path.of(path));
    return ByteBuffer.allocateDirect(bytes.length).put(bytes);
  }
  static void refuse(Runnable action) {
    try { action.run(); } catch (RuntimeException error) { System.out.println(error.getMessage()); }
  }
  public static void main(String[] words) throws Exception {
    Detector detector = new Detector(read(words[0]), 2);
    ByteBuffer rgb = read(words[1]), grey = read(words[2]);
    Detector.Verdict verdict = detector.score(rgb, Detector.RGB, 150, 120, 0);
    System.out.println(verdict.probability);
    System.out.println(verdict.threshold + " " + verdict.fake + " " + verdict.crops + " " + verdict.deviation);
    int[] strides = {150, 150, 150};
    // Chroma in turns, as phones deliver it: the second plane starts one byte after the first.
    ByteBuffer u = ByteBuffer.allocateDirect(150 * 60);
    for (int i = 0; i < u.capacity(); i++) u.put(i, (byte) 128);
    ByteBuffer v = u.duplicate().position(1).slice();
    System.out.println(detector.scoreYuv(new ByteBuffer[] {grey, u, v}, 150, 120, strides, 2).probability);
    refuse(() -> detector.score(rgb, Detector.RGBA, 150, 120, 0));
    refuse(() -> detector.score(rgb, Detector.RGB, 0, 120, 0));
    refuse(() -> detector.score(rgb, Detector.RGB, 150, 120, -1));
    refuse(() -> detector.score(ByteBuffer.allocate(54000), Detector.RGB, 150, 120, 0));
    refuse(() -> detector.scoreYuv(new ByteBuffer[] {grey, u, null}, 150, 120, strides, 2));
    refuse(() -> new Detector(rgb, 1));
    refuse(() -> new Detector(rgb, 0));
    detector.close();
    detector.close();
    refuse(() -> detector.score(rgb, Detector.RGB, 150, 120, 0));
  }
}
"""
NEEDS_JAVA = pytest.mark.skipif(
    shutil.which("javac") is None, reason="no Java: apt-get install openjdk-17-jdk-headless"
)


def run_java(folder, program, name, *words):
    (folder / f"{name}.java").write_text(program)
    shutil.copy(library_path(), folder / "libbdd_lce.so")
    subprocess.run(
        ["javac", "-Xlint:all", "-Werror", "-d", "out", "-sourcepath", f".:{JAVA}", f"{name}.java"],
        cwd=folder,
        check=True,
    )
    done = subprocess.run(
        ["java", "-Xcheck:jni", f"-Djava.library.path={folder}", "-cp", "out", name, *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@NEEDS_JAVA
def test_the_java_detector_scores_photographs_without_another_runtime(tmp_path):
    rng = np.random.default_rng(3)
    rgb = rng.integers(0, 256, (120, 150, 3), np.uint8)
    grey = rng.integers(0, 256, (120, 150), np.uint8)
    (tmp_path / "rgb").write_bytes(rgb.tobytes())
    (tmp_path / "grey").write_bytes(grey.tobytes())
    model = shipped_model("photos")
    first, second, third, *refused = run_java(
        tmp_path, DETECTOR, "Scores", model, tmp_path / "rgb", tmp_path / "grey"
    )
    with Detector(model, engine="native") as detector:
        images = rgb, np.repeat(grey[..., None], 3, axis=2)
        expected = [float(detector.predict([image], errors="raise")[0]) for image in images]
        assert [float(first), float(third)] == pytest.approx(expected, abs=1e-6)
        crops = len(detector.cropper()(rgb).images)
        # Noise has more detail than any photograph.
        assert second == f"{detector.threshold} {str(expected[0] >= detector.threshold).lower()} {crops} 5"
    for line, reason in zip(
        refused,
        ("shorter than the image", "1 to 65535", "negative", "direct ByteBuffer", "shorter than the image",
         "not a .tflite file", "threads must be 1 to 64", "closed"),
        strict=True,
    ):  # fmt: skip
        assert reason in line


@NEEDS_JAVA
def test_the_java_class_makes_and_frees_delegates(tmp_path):
    (tmp_path / "org" / "tensorflow" / "lite").mkdir(parents=True)
    (tmp_path / "org" / "tensorflow" / "lite" / "Delegate.java").write_text(INTERFACE)
    assert run_java(tmp_path, PROGRAM, "Program") == [
        "true",
        "0",
        "threads is 0; it must lie between 1 and 64",
    ]


def test_the_ndk_is_asked_for_and_found(tmp_path, monkeypatch):
    monkeypatch.delenv("ANDROID_NDK_HOME", raising=False)
    with pytest.raises(BddError, match="ANDROID_NDK_HOME is not set"):
        building.compiler("android_arm64")
    monkeypatch.setenv("ANDROID_NDK_HOME", str(tmp_path))
    with pytest.raises(BddError, match="holds no compiler for Android"):
        building.compiler("android_arm64")
    place = tmp_path / "toolchains" / "llvm" / "prebuilt" / "linux-x86_64" / "bin"
    place.mkdir(parents=True)
    (place / "aarch64-linux-android24-clang++").touch()
    assert building.compiler("android_arm64") == [str(place / "aarch64-linux-android24-clang++")]
    with pytest.raises(UsageError, match="--output"):
        building.build("android_arm64")


def test_android_gets_no_wheel():
    assert not set(building.ANDROID) & set(building.TARGETS)
