"""MkDocs hooks: publish some Markdown files from outside docs/ and adapt relative links.

Files are written so that their links work in a checkout and on a code host. In the site, a link to a published file
becomes a link to its page, and a link to any other file of the repository becomes plain text. A link to a file that
does not exist is left as it is, so that the strict build fails on it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

#: Repository path -> path of the page in the site.
PUBLISHED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "data/README.md": "datasets.md",
    "bdd_tf/edge/models/cifake-bnext-n.md": "model-card.md",
    "bdd_tf/edge/models/photos-bnext-n.md": "model-card-photos.md",
    "LICENSE-MODEL.md": "licence-of-models.md",
}
_SOURCE_OF = {page: source for source, page in PUBLISHED.items()}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the published files to the site."""
    for source, page in PUBLISHED.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Adapt the links of a page."""
    source = _SOURCE_OF.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    here = os.path.dirname(page.file.src_uri)  # noqa: PTH120 (a URI)

    def adapt(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups()
        if not target or "://" in target or target.startswith("mailto:"):
            return match.group()
        path = os.path.normpath((Path(source).parent / target).as_posix()).replace(os.sep, "/")
        inside = PUBLISHED.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if inside is not None and files.get_file_from_path(inside) is not None:
            return f"{image}[{text}]({os.path.relpath(inside, here or '.')}{anchor or ''})"
        return text if (ROOT / path).exists() else match.group()

    return _LINK.sub(adapt, markdown)
