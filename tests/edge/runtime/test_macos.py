"""The wheel for macOS on ARM, built here with zig and read as a file: no Mac was there to run it."""

import re
import struct
import zipfile

import pytest

from bdd_tf.edge.runtime import build as building
from bdd_tf.edge.runtime.wheels import build_wheel

TARGET = "macos_arm64"
#: Load commands of Mach-O (mach-o/loader.h).
LC_SYMTAB, LC_LOAD_DYLIB, LC_ID_DYLIB, LC_CODE_SIGNATURE, LC_BUILD_VERSION = 0x2, 0xC, 0xD, 0x1D, 0x32
PRIVATE, EXTERNAL = 0x10, 0x1


def test_a_mac_with_an_arm_processor_is_a_target(monkeypatch):
    monkeypatch.setattr(building.sys, "platform", "darwin")
    monkeypatch.setattr(building.platform, "machine", lambda: "arm64")
    assert building.host_target() == TARGET
    monkeypatch.setattr(building.platform, "machine", lambda: "x86_64")
    with pytest.raises(building.BddError, match="this is darwin on x86_64"):
        building.host_target()


@pytest.mark.slow
def test_the_wheel_holds_a_signed_library_that_needs_macos_alone(tmp_path):
    pytest.importorskip("ziglang")
    wheel = build_wheel(TARGET, tmp_path)
    assert wheel.name.endswith("-py3-none-macosx_11_0_arm64.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith((".so", ".dylib"))]
        assert name == "bdd_tf/edge/runtime/libbdd_lce.dylib"
        content = archive.read(name)
    magic, processor, _, kind, count = struct.unpack_from("<5I", content)
    assert (magic, processor, kind) == (0xFEEDFACF, 0x0100000C, 6)  # 64 bits, ARM, a dynamic library
    commands = {}
    at = 32
    for _ in range(count):
        command, size = struct.unpack_from("<2I", content, at)
        commands.setdefault(command, []).append(content[at : at + size])
        at += size
    assert _text(commands[LC_ID_DYLIB][0]) == "@rpath/libbdd_lce.dylib"
    assert [_text(c) for c in commands[LC_LOAD_DYLIB]] == ["/usr/lib/libSystem.B.dylib"]
    platform, oldest = struct.unpack_from("<2I", commands[LC_BUILD_VERSION][0], 8)
    assert (platform, oldest) == (1, 11 << 16)  # macOS 11.0
    assert LC_CODE_SIGNATURE in commands
    # Weak definitions of operator new and delete come from the C++ library; macOS merges them with its own.
    exported = {
        n
        for n in _external_symbols(content, commands[LC_SYMTAB][0])
        if not n.startswith(("__Z", "__mh_", "___dso"))
    }
    listed = re.findall(
        r"^ +(\w+);$", (building.SOURCES / "delegate" / "exports.map").read_text(), re.MULTILINE
    )
    assert exported == {f"_{name}" for name in listed}


def _text(command):
    """The string at the offset that a dylib command names."""
    (offset,) = struct.unpack_from("<I", command, 8)
    return command[offset:].split(b"\0")[0].decode()


def _external_symbols(content, command):
    """Names of defined symbols that other libraries see."""
    symbols, count, strings, _ = struct.unpack_from("<4I", command, 8)
    for i in range(count):
        name, kind, section = struct.unpack_from("<IBB", content, symbols + 16 * i)
        if kind & EXTERNAL and not kind & PRIVATE and section:
            yield content[strings + name :].split(b"\0")[0].decode()
