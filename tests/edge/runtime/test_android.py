"""The Android port as far as it can be tested without a device: the Java class in a desktop JVM, the NDK's path and flags."""

import shutil
import subprocess
from pathlib import Path

import pytest

from bdd_tf.edge.runtime import build as building
from bdd_tf.edge.runtime import library_path
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


@pytest.mark.skipif(shutil.which("javac") is None, reason="no Java: apt-get install openjdk-17-jdk-headless")
def test_the_java_class_makes_and_frees_delegates(tmp_path):
    (tmp_path / "org" / "tensorflow" / "lite").mkdir(parents=True)
    (tmp_path / "org" / "tensorflow" / "lite" / "Delegate.java").write_text(INTERFACE)
    (tmp_path / "Program.java").write_text(PROGRAM)
    shutil.copy(library_path(), tmp_path / "libbdd_lce.so")
    subprocess.run(
        ["javac", "-Xlint:all", "-Werror", "-d", "out", "-sourcepath", f".:{JAVA}", "Program.java"],
        cwd=tmp_path,
        check=True,
    )
    done = subprocess.run(
        ["java", "-Xcheck:jni", f"-Djava.library.path={tmp_path}", "-cp", "out", "Program"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["true", "0", "threads is 0; it must lie between 1 and 64"]


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
