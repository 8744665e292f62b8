import pytest

from bdd_tf.benchmark.device_report import throttling
from bdd_tf.devices.probe import Conditions, Facts, core_list, mask, parse_conditions, parse_facts

PHONE = """\
machine=aarch64
bits=
abi=arm64-v8a
phone=Maker Phone 9
android=14
board=
cpu=
system=
taskset=/system/bin/taskset
allowed=0-7
core=0 1804800
core=1 1804800
core=2 1804800
core=3 1804800
core=4 2419200
core=5 2419200
core=6 2419200
core=7 2841600
"""
BOARD = """\
machine=aarch64
bits=32
abi=
phone=\x20
android=
board=Raspberry Pi 4 Model B Rev 1.4
cpu=
system=Raspbian GNU/Linux 12 (bookworm)
taskset=
allowed=0-3
core=0 1800000
core=1 1800000
core=2 1800000
core=3 1800000
"""


def test_a_phone_and_its_fastest_cores():
    facts = parse_facts(PHONE)
    assert facts.android
    assert facts.taskset
    assert facts.machine == "aarch64"
    assert facts.name == "Maker Phone 9, 8 cores, Android 14, aarch64"
    assert facts.fastest(1) == [7]
    assert facts.fastest(4) == [7, 4, 5, 6]
    assert mask(facts.fastest(4)) == "f0"
    assert facts.fastest(99) == [7, 4, 5, 6, 0, 1, 2, 3]


def test_a_32_bit_system_on_a_64_bit_kernel_without_taskset():
    facts = parse_facts(BOARD)
    assert facts.machine == "armv7l"
    assert not facts.android
    assert not facts.taskset
    assert facts.name.startswith("Raspberry Pi 4 Model B Rev 1.4, 4 cores, Raspbian")


def test_only_cores_that_we_may_use_count():
    assert list(parse_facts(PHONE.replace("allowed=0-7", "allowed=0-3")).cores) == [0, 1, 2, 3]
    # No frequencies are readable: any allowed core, in their order.
    bare = "machine=x86_64\nallowed=2-3,5\ntaskset=/usr/bin/taskset\n"
    assert parse_facts(bare).fastest(2) == [2, 3]
    assert parse_facts("machine=x86_64\n").cores == {0: 0}
    assert parse_facts("").machine == ""


@pytest.mark.parametrize(
    ("text", "cores"),
    [("0-3,7", {0, 1, 2, 3, 7}), ("0", {0}), ("", set()), ("x", set()), ("0-99999999999", set())],
)
def test_lists_of_cores(text, cores):
    assert core_list(text) == cores


@pytest.mark.parametrize(
    ("zones", "celsius"),
    [
        (["48312 cpu-thermal", "91000 gpu"], 48.312),  # a processor's sensor before others
        (["52 cpu0", "61 cpu1"], 61),  # whole degrees
        (["512 soc"], 51.2),  # tenths
        (["-274000 cpu0", "0 cpu1"], None),  # sensors that are off
        (["41000 battery"], 41),
        (["41000"], 41),
        (["hot cpu"], None),
        ([], None),
    ],
)
def test_temperatures(zones, celsius):
    assert parse_conditions("".join(f"zone={z}\n" for z in zones)).celsius == celsius


def test_throttling():
    now = parse_conditions("core=0 1800000 1800000\ncore=1 600000 1000000\nthrottled=throttled=0x50005\n")
    assert now.frequencies == {0: 1800000, 1: 600000}
    assert now.throttled == now.has_been == ("under-voltage", "throttled")
    facts = Facts("aarch64", "", False, {0: 1800000, 1: 1800000}, True)
    assert throttling(facts, [now, now]) == [
        "under-voltage",
        "throttled",
        "core 1 capped at 1.00 of 1.80 GHz",
    ]
    assert throttling(facts, [Conditions(limits={0: 1800000})]) == []
    assert parse_conditions("throttled=throttled=0x0\n").throttled == ()
    assert parse_conditions("throttled=\n").throttled == ()
