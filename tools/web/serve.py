"""Serves the page on this machine, as a static host would: ``python -m tools.web.serve [--port 8002]``."""

from __future__ import annotations

import argparse
import functools
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tools.web.build import POLICY, ROOT


class Handler(SimpleHTTPRequestHandler):
    """Files with their types, and headers that a meta element cannot set."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        ".webmanifest": "application/manifest+json",
        ".tflite": "application/octet-stream",
    }

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", f"{POLICY}; frame-ancestors 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server for a folder, bound to this machine; call its ``serve_forever``. Port 0 takes any free one."""
    handler = functools.partial(Handler, directory=str(folder))
    return ThreadingHTTPServer(("127.0.0.1", port), handler)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.web.serve", description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=8002)
    args = parser.parse_args()
    server = serve(ROOT / "build" / "web" / "page", args.port)
    print(f"bdd: the page is at http://127.0.0.1:{server.server_address[1]}/ (Ctrl-C stops)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
