"""Read the properties of a device and its present conditions (temperature, clock), each with one shell command."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bdd_tf.devices.base import Device

_FACTS = r"""
echo "machine=$(uname -m)"
echo "bits=$(getconf LONG_BIT 2>/dev/null)"
echo "abi=$(getprop ro.product.cpu.abi 2>/dev/null)"
echo "phone=$(getprop ro.product.manufacturer 2>/dev/null) $(getprop ro.product.model 2>/dev/null)"
echo "android=$(getprop ro.build.version.release 2>/dev/null)"
echo "board=$(tr -d '\000' < /proc/device-tree/model 2>/dev/null)"
echo "cpu=$(sed -n -e 's/^model name[[:space:]]*:[[:space:]]*//p' -e 's/^Hardware[[:space:]]*:[[:space:]]*//p' \
  /proc/cpuinfo 2>/dev/null | head -n 1)"
echo "system=$(. /etc/os-release 2>/dev/null && echo "$PRETTY_NAME")"
echo "taskset=$(command -v taskset)"
echo "allowed=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status 2>/dev/null)"
for c in /sys/devices/system/cpu/cpu[0-9]*; do
  [ -d "$c" ] || continue
  [ "$(cat $c/online 2>/dev/null)" = 0 ] && continue
  echo "core=${c##*cpu} $(cat $c/cpufreq/cpuinfo_max_freq 2>/dev/null)"
done
"""
_CONDITIONS = r"""
for z in /sys/class/thermal/thermal_zone*; do
  [ -r "$z/temp" ] && echo "zone=$(cat $z/temp 2>/dev/null) $(cat $z/type 2>/dev/null)"
done
for c in /sys/devices/system/cpu/cpu[0-9]*; do
  f=$c/cpufreq
  [ -r $f/scaling_cur_freq ] || continue
  echo "core=${c##*cpu} $(cat $f/scaling_cur_freq 2>/dev/null) $(cat $f/scaling_max_freq 2>/dev/null)"
done
echo "throttled=$(vcgencmd get_throttled 2>/dev/null)"
exit 0
"""
#: Bits of the Raspberry Pi's `vcgencmd get_throttled` for the present; the same plus 16 stand for the time since boot.
_PI = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
#: Names of thermal zones that belong to processors, on boards and phones.
_PROCESSOR = re.compile(r"cpu|soc|x86_pkg|bigcore|littlecore|package", re.IGNORECASE)


@dataclass(frozen=True)
class Facts:
    """Properties of a device.

    Attributes:
        machine: Architecture of its programs as in ``uname -m`` (armv7l for a 32-bit system on a 64-bit kernel).
        name: Description for people.
        android: Whether it runs Android.
        cores: Maximum frequency in kHz (0: unknown) by number of each core that we are allowed to use.
        taskset: Whether it has ``taskset``, which pins programs to cores.
    """

    machine: str
    name: str
    android: bool
    cores: dict[int, int]
    taskset: bool

    def fastest(self, count: int) -> list[int]:
        """Return the numbers of the `count` fastest cores, fastest first."""
        return sorted(self.cores, key=lambda core: (-self.cores[core], core))[:count]


@dataclass(frozen=True)
class Conditions:
    """Conditions of a device at one moment.

    Attributes:
        celsius: Temperature of the hottest processor sensor, or of any sensor if none is a processor's; None: not
            readable.
        frequencies: Present frequency of each core in kHz.
        limits: Present limit of each core's frequency in kHz.
        throttled: Present reasons for throttling, from a Raspberry Pi.
        has_been: Reasons for throttling since boot, from a Raspberry Pi.
    """

    celsius: float | None = None
    frequencies: dict[int, int] = field(default_factory=dict)
    limits: dict[int, int] = field(default_factory=dict)
    throttled: tuple[str, ...] = ()
    has_been: tuple[str, ...] = ()


def _pairs(text: str) -> list[tuple[str, str]]:
    return [
        (key, value.strip())
        for key, sign, value in (line.partition("=") for line in text.splitlines())
        if sign
    ]


def core_list(text: str) -> set[int]:
    """Parse a list of numbers in Linux' format, e.g. ``0-3,7``."""
    found: set[int] = set()
    for part in text.split(","):
        if match := re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part):
            found |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return found


def mask(cores: list[int]) -> str:
    """Return the mask of cores for `taskset`, hexadecimal without 0x: util-linux, toybox and BusyBox accept that."""
    return f"{sum(1 << core for core in cores):x}"


def read_facts(device: Device) -> Facts:
    """Read a device's properties.

    Raises:
        DeviceError: If it cannot be reached.
    """
    return parse_facts(device.shell(_FACTS).out)


def parse_facts(text: str) -> Facts:
    """Parse the output of the script for :func:`read_facts`."""
    pairs = _pairs(text)
    said = dict(pairs)
    machine = said.get("machine", "")
    if machine in ("aarch64", "armv8l") and (
        said.get("bits") == "32" or said.get("abi", "").startswith("armeabi")
    ):
        machine = "armv7l"
    cores = {}
    for key, value in pairs:
        if key == "core" and (numbers := re.fullmatch(r"(\d{1,4})(?: (\d{1,9}))?", value)):
            cores[int(numbers[1])] = int(numbers[2] or 0)
    allowed = core_list(said.get("allowed", ""))
    if allowed:
        cores = {core: cores.get(core, 0) for core in sorted(allowed) if core in cores or not cores}
    android = said.get("android", "")
    name = said.get("phone", "") or said.get("board", "") or said.get("cpu", "") or machine or "unknown"
    system = f"Android {android}" if android else said.get("system", "")
    count = len(cores) or 1
    parts = [name, f"{count} core{'s' * (count > 1)}", *([system] if system else []), machine]
    return Facts(machine, ", ".join(parts), bool(android), cores or {0: 0}, bool(said.get("taskset")))


def read_conditions(device: Device) -> Conditions:
    """Read a device's present conditions.

    Raises:
        DeviceError: If it cannot be reached.
    """
    return parse_conditions(device.shell(_CONDITIONS).out)


def parse_conditions(text: str) -> Conditions:
    """Parse the output of the script for :func:`read_conditions`."""
    zones: list[tuple[float, bool]] = []
    frequencies, limits = {}, {}
    flags = 0
    for key, value in _pairs(text):
        if key == "zone" and (match := re.fullmatch(r"(-?\d{1,7})(?: (.*))?", value)):
            number = int(match[1])
            # Thousandths of a degree; older Android versions use tenths or whole degrees.
            celsius = (
                number / 1000 if abs(number) >= 1000 else number / 10 if abs(number) > 150 else float(number)
            )
            if 0 < celsius < 130:  # disabled sensors read 0 or -274
                zones.append((celsius, bool(_PROCESSOR.search(match[2] or ""))))
        elif key == "core" and (match := re.fullmatch(r"(\d{1,4}) (\d{1,9})(?: (\d{1,9}))?", value)):
            frequencies[int(match[1])] = int(match[2])
            if match[3]:
                limits[int(match[1])] = int(match[3])
        elif key == "throttled" and (match := re.fullmatch(r"(?:throttled=)?0x([0-9a-fA-F]{1,8})", value)):
            flags = int(match[1], 16)
    processors = [celsius for celsius, processor in zones if processor]
    hottest = max(processors or [celsius for celsius, _ in zones], default=None)
    now = tuple(name for bit, name in _PI.items() if flags >> bit & 1)
    ever = tuple(name for bit, name in _PI.items() if flags >> (bit + 16) & 1)
    return Conditions(hottest, frequencies, limits, now, ever)
