"""An adb server whose devices are folders of this machine: the server of the real `adb` program in tests.

It speaks as much of adb's protocol as `devices`, `shell` and `push` need; which devices there are, and when one is
unplugged, the same file tells as for the stand-in.
"""

import json
import os
import socketserver
import struct
import subprocess
import threading

from tests.devices.adb_stand_in import HOME, PERMISSIONS, trouble

VERSION = 41  # of adb 1.0.41, Debian's; another one would end this server and start its own


class Session(socketserver.BaseRequestHandler):
    def exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.request.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def fail(self, text):
        self.request.sendall(b"FAIL" + f"{len(text.encode()):04x}".encode() + text.encode())

    def okay(self, text=None):
        self.request.sendall(b"OKAY" + (b"" if text is None else f"{len(text):04x}{text}".encode()))

    def state(self):
        return json.loads(self.server.phones.state.read_text())

    def handle(self):
        try:
            while self.serve(self.exactly(int(self.exactly(4), 16)).decode()):
                pass
        except (EOFError, ConnectionError):
            pass

    def serve(self, service):
        state = self.state()
        self.server.services.append(service)
        if service == "host:version":
            self.okay(f"{VERSION:04x}")
        elif service == "host:devices":
            self.okay(
                "".join(
                    f"{s}\t{PERMISSIONS if h == 'no permissions' else h}\n"
                    for s, h in state["devices"].items()
                )
            )
        elif service.startswith(("host-serial:", "host:tport:serial:", "host:transport:")):
            if service.startswith("host-serial:"):
                serial, _, asked = service.removeprefix("host-serial:").rpartition(":")
            else:
                serial, asked = service.rpartition(":")[2], "transport"
            if words := trouble(state["devices"], serial):
                self.fail(words)
            elif asked == "features":
                self.okay("shell_v2,cmd")
            else:
                self.okay()
                if "tport" in service:
                    self.request.sendall(struct.pack("<Q", 1))
                return True  # the device's own service comes next
        elif service.startswith("shell"):
            self.okay()
            self.shell(service.partition(":")[2], state)
        elif service == "sync:":
            self.okay()
            self.sync(state)
        else:
            self.fail(f"unknown service {service}")
        return False

    def unplugged(self, state):
        """Whether this is the command at which the device goes."""
        if state["unplug"] is None:
            return False
        state["unplug"] -= 1
        gone = state["unplug"] <= 0
        if gone:
            state["devices"], state["unplug"] = {}, None
        self.server.phones.state.write_text(json.dumps(state))
        return gone

    def shell(self, script, state):
        environment = {**os.environ, "PATH": f"{state['shims']}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["sh", "-c", script.replace(HOME, state["root"])], capture_output=True, env=environment,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        out, err = (
            part.replace(state["root"].encode(), HOME.encode()) for part in (done.stdout, done.stderr)
        )
        gone = self.unplugged(state)
        for number, data in ((1, out[: len(out) // 2] if gone else out), (2, err)):
            if data:
                self.request.sendall(struct.pack("<BI", number, len(data)) + data)
        if not gone:
            self.request.sendall(struct.pack("<BIB", 3, 1, done.returncode & 255))

    def sync(self, state):
        while True:
            name, size = self.exactly(4), struct.unpack("<I", self.exactly(4))[0]
            if name == b"QUIT":
                return
            path = self.exactly(size).decode()
            if name == b"STAT":
                self.request.sendall(b"STAT" + struct.pack("<III", 0, 0, 0))
            elif name == b"SEND":
                path = path.rpartition(",")[0].replace(HOME, state["root"])
                content = b""
                while self.exactly(4) == b"DATA":
                    content += self.exactly(struct.unpack("<I", self.exactly(4))[0])
                self.exactly(4)  # DONE and the time of change
                if self.unplugged(state):
                    return
                words = state["refuse"]
                if not words:
                    with open(path, "wb") as file:  # noqa: PTH123
                        file.write(content)
                    self.request.sendall(b"OKAY" + struct.pack("<I", 0))
                else:
                    self.request.sendall(b"FAIL" + struct.pack("<I", len(words)) + words.encode())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

    def __init__(self, phones):
        super().__init__(("127.0.0.1", 0), Session)
        self.phones, self.services = phones, []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
