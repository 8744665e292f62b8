"""The real adb program, with a server of our own behind it: its own words and exit codes."""

import json
import subprocess

import pytest

from bdd_tf.cli import main
from tests.devices.loopback import MODEL

RUN = ["--against", "none", "--threads", "1", "--rounds", "1", "--model", str(MODEL)]


def bench(*arguments, device="adb"):
    return main(["benchmark", "--device", device, *RUN, *arguments])


def test_from_copying_to_the_table(real_adb, stand_in, capsys):
    assert bench("--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["kernels"] for r in lines] == ["default", "indirect"]
    assert "sync:" in real_adb.services
    assert real_adb.phones.left() == []


@pytest.mark.parametrize(
    ("attached", "said"),
    [
        ({}, "no Android device is attached"),
        ({"A1": "device", "B2": "device"}, "several Android devices are attached"),
        ({"A1": "unauthorized"}, "does not trust this computer yet"),
        ({"A1": "offline"}, "is offline"),
        ({"A1": "no permissions"}, "udev rules"),
    ],
)
def test_devices_that_are_not_ready(real_adb, stand_in, capsys, attached, said):
    real_adb.phones.set(**attached)
    assert bench() == 1
    assert said in capsys.readouterr().err


def test_unplugged_at_any_moment(real_adb, stand_in, capsys):
    numbers = []
    for number in range(1, 60, 2):
        real_adb.phones.set(PHONE1="device", unplug=number)
        code = bench()
        said = capsys.readouterr().err
        for left in real_adb.phones.root.iterdir():
            subprocess.run(["rm", "-r", left], check=True)
        if code == 0:
            break
        numbers.append(number)
        assert code == 1
        assert "the connection to adb:PHONE1 broke (unplugged" in said
    assert len(numbers) > 4


@pytest.mark.parametrize(
    ("state", "said"),
    [("unauthorized", "does not trust"), ("offline", "broke (unplugged"), ("no permissions", "udev rules")],
)
def test_a_device_that_changes_state_after_it_was_listed(
    real_adb, stand_in, capsys, monkeypatch, state, said
):
    monkeypatch.setattr("bdd_tf.devices.adb._choose", lambda *_: "PHONE1")
    real_adb.phones.set(PHONE1=state)
    assert bench() == 1
    assert said in capsys.readouterr().err


def test_no_space_is_left(real_adb, stand_in, capsys):
    real_adb.phones.set(PHONE1="device", refuse="No space left on device")
    assert bench() == 1
    assert "no space is left on the device" in capsys.readouterr().err
    assert real_adb.phones.left() == []
