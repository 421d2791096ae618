"""Hooks of the documentation site: the pages beside `docs/` become pages of the site.

The files in the repository link to each other as they lie there, so that they are read as they are;
for the site these links are turned.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# A page of the repository's root, and its name on the site, where README.md would be an index.
_BESIDE = {
    "README.md": "start.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages beside `docs/`."""
    root = Path(config.config_file_path).parent
    for name, page in _BESIDE.items():
        text = (root / name).read_text(encoding="utf-8").replace("](docs/", "](")
        for other, other_page in _BESIDE.items():
            text = text.replace(f"]({other}", f"]({other_page}")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links from pages of `docs/` to those beside it."""
    up = "../" * page.file.src_uri.count("/")
    for name, other in _BESIDE.items():
        markdown = re.sub(rf"\]\({re.escape(f'../{up}{name}')}", f"]({up}{other}", markdown)
    return markdown


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Names the theme's search for screen readers."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"')
