"""What the site takes from outside docs/: benchmarks, security notes and changes become pages, with links to them."""

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {"benchmarks/README.md": "benchmarks.md", "SECURITY.md": "security.md", "CHANGELOG.md": "changes.md"}
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]+)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    for source, page in PAGES.items():
        text = _linked((ROOT / source).read_text(encoding="utf-8"), (ROOT / source).parent)
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point links to files outside docs/ to the pages that were made of them."""
    return markdown if page.file.src_uri in PAGES.values() else _linked(markdown, ROOT / "docs")


def _linked(text: str, folder: Path) -> str:
    """Return Markdown with links to pages in place of links to files relative to a folder.

    Links to other files, such as the README, lead to the home page.
    """

    def link(found: re.Match[str]) -> str:
        target, anchor = (folder / found[1]).resolve(), found[2] or ""
        name = target.relative_to(ROOT).as_posix()
        if name in PAGES:
            return f"]({PAGES[name]}{anchor})"
        if name.startswith("docs/"):
            return f"]({name.removeprefix('docs/')}{anchor})"
        if not target.exists():
            raise PluginError(f"a link leads to {name}, which does not exist")
        return "](index.md)"

    return LINK.sub(link, text)
