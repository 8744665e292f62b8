"""The HTML pages: style and script are embedded, and the content security policy allows only these, by hash."""

from __future__ import annotations

import html
from dataclasses import dataclass
from importlib import resources
from typing import Any

from bdd_tf.edge.text import policy_hash


@dataclass(frozen=True)
class Page:
    """A page, and the Content-Security-Policy header to send with it."""

    html: str
    policy: str


def start_page() -> Page:
    """Return the start page, on which images can be dropped."""
    return _assemble(_read("page.html"), _read("page.css"), script())


def script() -> str:
    """Return the script of the start page."""
    return _read("page.cards.js") + _read("page.js")


def listing(description: dict[str, Any]) -> Page:
    """Return the documentation of the API.

    Args:
        description: The OpenAPI document.
    """
    info = description["info"]
    parts = [f"<h1>{html.escape(info['title'])}</h1><p>{html.escape(info['description'])}</p>"]
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            parts.append(
                f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>"
                f"<p>{html.escape(operation['description'])}</p>"
            )
            rows = [(p["name"], p["description"]) for p in operation.get("parameters", [])]
            rows += [(status, answer["description"]) for status, answer in operation["responses"].items()]
            parts.append(
                "<dl>"
                + "".join(f"<dt>{html.escape(n)}</dt><dd>{html.escape(d)}</dd>" for n, d in rows)
                + "</dl>"
            )
    parts.append(
        '<p>Machine-readable description: <a href="/openapi.json">/openapi.json</a>. Web page: <a href="/">/</a>.</p>'
    )
    body = (
        _read("page.html").partition("<body")[0]
        + f'<body><main class="docs">{"".join(parts)}</main></body></html>'
    )
    return _assemble(body, _read("page.css"), "")


def _read(name: str) -> str:
    return (resources.files("bdd_tf.service") / name).read_text("utf-8")


def _assemble(text: str, style: str, script: str) -> Page:
    policy = "; ".join(
        [
            "default-src 'none'",
            f"style-src '{policy_hash(style)}'",
            f"script-src '{policy_hash(script)}'" if script else "script-src 'none'",
            "img-src data: blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
    return Page(text.replace("/* style */", style).replace("/* script */", script), policy)
