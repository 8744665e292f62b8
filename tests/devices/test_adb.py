"""The adb route against a stand-in with the real one's words, and, where there is one, against the real adb."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bdd_tf.cli import main
from tests.devices.loopback import MODEL, STAND_IN, faulty_tool, program, start_endless_benchmark

RUN = ["--against", "none", "--threads", "1", "--rounds", "1", "--model", str(MODEL)]


def bench(*arguments, device="adb"):
    return main(["benchmark", "--device", device, *RUN, *arguments])


def test_a_phone_from_copying_to_the_table(phones, stand_in, tmp_path, capsys):
    out = tmp_path / "out"
    assert bench("--threads", "1,2", "--rounds", "2", "--json", "--output", str(out)) == 0
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    threads = [t for t in (1, 2) if t <= len(os.sched_getaffinity(0))]
    assert [(r["engine"], r["kernels"], r["threads"]) for r in lines] == [
        ("lce", mode, t) for t in threads for mode in ("default", "indirect")
    ]
    base = (2000 + MODEL.stat().st_size // 1000) / 1e3
    assert lines[0]["median_ms"] == pytest.approx(base + 0.01)
    assert lines[1]["ratio"] == pytest.approx((base + 0.31) / (base + 0.01), rel=1e-3)
    assert (lines[0]["runs"], lines[0]["peak_mib"], lines[0]["bytes"]) == (6, 17.2, MODEL.stat().st_size)
    document = json.loads((out / "benchmark.json").read_text())
    assert document["machine"].startswith("Maker Phone, ")
    assert document["machine"].endswith("Android 14, aarch64")
    assert document["device"]["android"]
    assert phones.left() == []


def test_a_table_for_people(phones, stand_in, capsys):
    assert bench() == 0
    out = capsys.readouterr().out
    for words in (
        "batch 1, in turns",
        "median ms",
        "temperature: ",
        "throttled: ",
        "LCE's tool: ",
        "LceBconv2d",
    ):
        assert words in out


def test_one_of_several_by_its_serial(phones, stand_in, capsys):
    phones.set(PHONE1="device", PHONE2="device")
    assert bench(device="adb:PHONE2") == 0
    assert "adb:PHONE2: Maker Phone" in capsys.readouterr().err
    phones.set(PHONE1="device", PHONE2="offline")
    assert bench() == 0  # only one is ready
    assert phones.left() == []


def test_float_baselines_run_next_to_it(phones, stand_in, tmp_path, monkeypatch, capsys):
    baseline = tmp_path / "baseline.tflite"
    baseline.write_bytes(bytes(4) + b"TFL3" + bytes(500_000))
    monkeypatch.setattr("bdd_tf.benchmark.on_device.baseline_file", lambda name, *_: (name, baseline))
    assert bench("--against", "mobilenetv2", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(r["name"], r["kernels"]) for r in lines] == [
        (MODEL.stem, "default"),
        (MODEL.stem, "indirect"),
        ("mobilenetv2", None),
    ]
    assert lines[2]["median_ms"] == pytest.approx(2.51)


@pytest.mark.parametrize(
    ("attached", "device", "said"),
    [
        ({}, "adb", "no Android device is attached"),
        (
            {"A1": "device", "B2": "device"},
            "adb",
            "several Android devices are attached: A1 (device), B2 (device); choose one",
        ),
        ({"A1": "unauthorized"}, "adb", "A1 does not trust this computer yet"),
        ({"A1": "offline"}, "adb", "A1 is offline"),
        ({"A1": "no permissions"}, "adb", "udev rules"),
        ({"A1": "recovery"}, "adb", "recovery system"),
        ({"A1": "strange"}, "adb", "in the state 'strange'"),
        ({"A1": "device"}, "adb:B2", "no Android device B2 is attached; attached: A1 (device)"),
        ({"A1": "device", "B2": "unauthorized"}, "adb:B2", "B2 does not trust"),
    ],
)
def test_devices_that_are_not_ready(phones, stand_in, capsys, attached, device, said):
    phones.set(**attached)
    assert bench(device=device) == 1
    assert said in capsys.readouterr().err


def test_adb_is_not_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bench() == 1
    assert "adb is not installed: apt install adb" in capsys.readouterr().err


def test_adb_cannot_start_its_server(tmp_path, monkeypatch, capsys):
    words = "* daemon not running; starting now at tcp:5037\nerror: cannot connect to daemon at tcp:5037: Connection refused"
    program(tmp_path, "adb", f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert bench() == 1
    assert "adb cannot start its server: error: cannot connect to daemon" in capsys.readouterr().err


@pytest.mark.parametrize("serial", ["-s", "a b", "a;id", "$(id)", "-H evil"])
def test_serials_that_are_none(phones, serial, capsys):
    assert bench(device=f"adb:{serial}") == 2
    assert "is not the serial number" in capsys.readouterr().err


def test_unplugged_at_any_moment(phones, stand_in, capsys):
    """Whichever command it is that loses the device: one sentence, exit code 1, and where something may be left."""
    for number in range(1, 40, 3):
        phones.set(PHONE1="device", unplug=number)
        code = bench()
        said = capsys.readouterr().err
        for left in phones.root.iterdir():
            subprocess.run(["rm", "-r", left], check=True)
        if code == 0:
            break
        # The last command of all is the one that removes our folder.
        assert code == 1
        assert "the connection to adb:PHONE1 broke (unplugged" in said
        assert number == 1 or "may still be on adb:PHONE1" in said
    assert number > 8


def test_the_last_command_lost_does_not_cost_the_results(phones, stand_in, capsys):
    phones.set(PHONE1="device", unplug=10_000)
    assert bench() == 0
    commands = 10_000 - json.loads(phones.state.read_text())["unplug"]
    phones.set(PHONE1="device", unplug=commands)
    capsys.readouterr()
    assert bench() == 0
    said = capsys.readouterr()
    assert "median ms" in said.out
    assert "remove it by hand" in said.err


@pytest.mark.parametrize(
    ("refuse", "said"),
    [
        ("No space left on device", "no space is left on the device"),
        ("couldn't create file: Permission denied", "permission denied"),
        ("couldn't create file: Read-only file system", "read-only"),
        ("fsync failed: Input/output error", "Input/output error"),
    ],
)
def test_a_file_that_does_not_go_there(phones, stand_in, capsys, refuse, said):
    phones.set(PHONE1="device", refuse=refuse)
    assert bench() == 1
    assert said in capsys.readouterr().err
    assert phones.left() == []


def test_a_tool_for_another_machine(phones, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LCE_BENCHMARK", str(Path(sys.executable).resolve()))
    assert bench() == 1
    assert "a program for x86-64, but the device is aarch64: wrong architecture" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\nexit 0\n", "is not LCE's benchmark tool"),
        ("#!/bin/sh\necho hello\n", "its answer to --help is 'hello'"),
        ("#!/bin/sh\necho 'usage: x --graph=' >&2; exit 1\n", "which has no binary operators"),
        ("#!/bin/sh\nkill -ILL $$\n", "lacks an instruction"),
    ],
)
def test_programs_that_are_not_lces_tool_are_refused(phones, tmp_path, monkeypatch, capsys, text, said):
    monkeypatch.setenv("LCE_BENCHMARK", str(program(tmp_path, "tool", text)))
    assert bench() == 1
    assert said in capsys.readouterr().err
    assert phones.left() == []


def test_no_network_for_the_tool(phones, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("LCE_BENCHMARK", raising=False)
    monkeypatch.setenv("BDD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("Network is unreachable"))
    )
    assert bench() == 1
    said = capsys.readouterr().err
    assert "lce_benchmark_model_android_arm64 (Network is unreachable)" in said
    assert "LCE_BENCHMARK=path" in said
    assert phones.left() == []


def test_without_taskset_it_runs_and_says_so(phones, stand_in, capsys):
    program(phones.shims, "taskset", "#!/bin/sh\necho 'sched_setaffinity: Invalid argument' >&2; exit 1\n")
    assert bench() == 0
    said = capsys.readouterr()
    assert "does not let us choose cores" in said.err
    assert "not pinned" in said.out


def test_the_tool_is_pinned_and_gets_its_flags(phones, tmp_path, monkeypatch):
    log = tmp_path / "log"
    body = f'echo "$(taskset -p $$ | sed "s/.*: //") $*" >> {log}; exec "{sys.executable}" "{STAND_IN}" "$@"'
    monkeypatch.setenv("LCE_BENCHMARK", str(faulty_tool(tmp_path, body)))
    assert bench("--against", "lce") == 0
    lines = log.read_text().splitlines()
    assert len(lines) == 4  # two modes: with the profile, and a turn
    core = min(os.sched_getaffinity(0))
    assert all(line.split()[0] == f"{1 << core:x}" for line in lines)
    assert [("--use_indirect_bgemm=true" in line) for line in lines] == [False, True, False, True]
    assert all("--num_threads=1 --use_xnnpack=true" in line for line in lines)
    assert [("--enable_op_profiling=true" in line and "--report_peak" in line) for line in lines] == [
        True,
        True,
        False,
        False,
    ]
    assert all("--num_runs=3 --min_secs=0" in line for line in lines[2:])


@pytest.mark.parametrize("how", [signal.SIGHUP])
def test_stopped_half_way_it_leaves_nothing(phones, tmp_path, how):
    process = start_endless_benchmark(tmp_path, "--device", "adb", *RUN)
    assert len(phones.left()) == 1
    os.killpg(process.pid, how)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert phones.left() == []
    found = subprocess.run(["pgrep", "-f", str(phones.root)], capture_output=True, check=False).stdout
    assert found == b""
