"""A server on the loopback interface that plays the internet.

`Loopback` maps names to public addresses, to which the rule for addresses is applied as always, and makes connections to them
end at the server.
"""

import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bdd_tf.edge.detect.fetch import Network

PUBLIC = "93.184.216.34"
NAMES = {
    "example.test": [PUBLIC],
    "six.test": ["2606:2800:220:1::1", PUBLIC],
    "inner.test": ["10.1.2.3"],
    "both.test": [PUBLIC, "127.0.0.1"],
    "metadata.test": ["169.254.169.254"],
    "xn--bcher-kva.test": [PUBLIC],
    "mapped.test": ["::ffff:127.0.0.1"],
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers)))
        answer = self.server.answers.get(self.path)
        if answer is None:
            return self.send_error(404)
        if callable(answer):
            return answer(self)
        status, headers, body = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        return None

    def log_message(self, *arguments):
        pass


class Loopback(Network):
    def __init__(self, port):
        self.port, self.connected = port, []

    def resolve(self, host, port):
        if host in NAMES:
            return NAMES[host]
        return super().resolve(host, port)  # numbers, in any notation

    def connect(self, address, port, seconds):
        self.connected.append((address, port))
        if ":" in address:
            raise OSError("this machine has no IPv6")
        return socket.create_connection(("127.0.0.1", self.port), timeout=seconds)


@contextmanager
def serving(context=None):
    """A running server; `answers` maps paths to (status, headers, body) or a function of the handler."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.answers, server.seen = {}, []
    server.handle_error = lambda *arguments: None
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
