"""Connect to the device that an option names, work in a temporary folder there, and clean up after interruptions."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from bdd_tf.console import say
from bdd_tf.devices.adb import AdbDevice, check_serial
from bdd_tf.devices.base import FOLDER, Device, DeviceError
from bdd_tf.devices.ssh import SshDevice, parse_destination
from bdd_tf.errors import UsageError


def parse_device(text: str, parent: str | None) -> Callable[[], Device]:
    """Parse ``--device`` and ``--device-folder``.

    Args:
        text: ``adb``, ``adb:SERIAL`` or ``ssh:DESTINATION``.
        parent: Folder on the device in which the temporary folder is made; None for the default.

    Returns:
        A function that connects to the device, or raises `DeviceError` if it cannot be reached.

    Raises:
        UsageError: If an option is malformed.
    """
    if parent is not None and not FOLDER.fullmatch(f"{parent.rstrip('/')}/bdd-000000"):
        raise UsageError(
            f"--device-folder must be an absolute path of letters, digits, '.', '_' and '-', not {parent!r}."
        )
    parent = parent and parent.rstrip("/")
    kind, colon, rest = text.partition(":")
    if kind == "adb" and (rest or not colon):
        return partial(AdbDevice, check_serial(rest) if rest else None, parent)
    if kind == "ssh":
        return partial(SshDevice, parse_destination(rest), parent)
    raise UsageError(
        f"unknown --device {text!r}; possible: local, adb, adb:SERIAL, ssh:user@host, ssh:user@host:port."
    )


@contextlib.contextmanager
def _handled(signals: Iterable[int], handler: Any) -> Iterator[None]:
    """Handle signals in another way for a while; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, handler) for s in signals}
    try:
        yield
    finally:
        for s, earlier in before.items():
            signal.signal(s, earlier)


def termination_as_interrupt() -> contextlib.AbstractContextManager[None]:
    """Handle SIGTERM and a closed terminal like Ctrl-C, so that the device is cleaned up."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    return _handled((signal.SIGTERM, signal.SIGHUP), interrupt)


def _signals_ignored() -> contextlib.AbstractContextManager[None]:
    """Ignore signals during the clean-up, which takes seconds: a second Ctrl-C must not interrupt it."""
    return _handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN)


@contextlib.contextmanager
def temporary_folder(device: Device) -> Iterator[str]:
    """Make a folder on a device; afterwards end the processes started from it and delete it.

    Yields:
        Its absolute path on the device.
    """
    folder = device.new_folder()
    try:
        device.make_folder(folder)
        yield folder
    finally:
        with _signals_ignored():
            try:
                try:
                    device.remove(folder)
                except DeviceError:
                    device.reconnect()
                    device.remove(folder)
            except DeviceError as error:
                say(f"{folder} may still be on {device.name} ({error}); remove it by hand.", prefix="bdd")
