import pytest

from bdd_tf.benchmark.lce_tool_runner import run_failure, start_failure
from bdd_tf.devices.base import Device, Done

DEVICE = Device()
DEVICE.name = "adb:PHONE"


@pytest.mark.parametrize(
    ("code", "text", "said"),
    [
        (126, "sh: 1: /f/tool: Exec format error", "another architecture"),  # dash
        (126, "bash: /f/tool: cannot execute binary file: Exec format error", "another architecture"),
        (126, "/system/bin/sh: /f/tool: not executable: 64-bit ELF file", "another architecture"),  # Android's mksh
        (127, "sh: 1: /f/tool: not found", "no loader"),
        (127, "bash: /f/tool: No such file or directory", "no loader"),
        (127, "taskset: failed to execute /f/tool: No such file or directory", "no loader"),
        (126, "sh: /f/tool: Permission denied", "--device-folder"),
        (126, "/system/bin/sh: /f/tool: can't execute: Permission denied", "--device-folder"),
        (1, "/f/tool: /lib/aarch64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by /f/tool)", "GLIBC_2.34"),
        (1, "/f/tool: /lib/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by /f/tool)", "GLIBCXX_3.4.30"),
        (127, "/f/tool: error while loading shared libraries: libz.so.1: cannot open shared object file", "lacks a library"),
        (1, 'CANNOT LINK EXECUTABLE "/f/tool": library "libz.so" not found: needed by main executable', "lacks a library"),
        (132, "Illegal instruction", "SIGILL"),
    ],
)  # fmt: skip
def test_why_a_program_does_not_start(code, text, said):
    failure = start_failure(Done(code, "", text), DEVICE, "/f")
    assert said in str(failure)
    assert failure.exit_code == 1
    # Old Androids have one output for both.
    assert str(start_failure(Done(code, text, ""), DEVICE, "/f")) == str(failure)


@pytest.mark.parametrize(
    ("code", "text"), [(0, ""), (1, "ERROR: Benchmarking failed."), (139, ""), (137, "Killed")]
)
def test_a_program_that_starts_and_fails_is_no_such_case(code, text):
    assert start_failure(Done(code, "", text), DEVICE, "/f") is None


@pytest.mark.parametrize(
    ("code", "out", "err", "said"),
    [
        (139, "INFO: STARTING!\n", "Segmentation fault", "the tool crashed (SIGSEGV): Segmentation fault"),
        (134, "", "FATAL: Out of luck\nAborted", "the tool crashed (SIGABRT): Out of luck"),
        (137, "", "Killed", "the tool was killed (out of memory?)"),
        (1, "INFO: x", "ERROR: Encountered unresolved custom op: LceX.\nERROR: Benchmarking failed.",
         "the tool refused the model: Encountered unresolved custom op: LceX."),
        (3, "", "", "the tool refused the model: exit code 3"),
        (0, "INFO: all went well\n", "", "the tool's output could not be parsed: INFO: all went well"),
        (0, "", "", "the tool's output could not be parsed: it is empty"),
        (250, "", "", "the tool crashed (signal 122): no message"),
    ],
)  # fmt: skip
def test_why_a_model_was_not_measured(code, out, err, said):
    assert run_failure(Done(code, out, err)) == said
