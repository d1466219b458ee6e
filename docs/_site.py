"""Makes one site of the documents: the README is its first page, and what they link to is there."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
ALONG = ("benchmarks", "launch", "configs")
SINGLE = ("CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "constraints.txt")


def on_files(files: Files, config: Any) -> Files:
    """Adds the README and the folders that documents link into."""
    text = (ROOT / "README.md").read_text()
    files.append(File.generated(config, "index.md", content=text))
    paths = [path for name in ALONG for path in sorted((ROOT / name).rglob("*")) if path.is_file()]
    for path in (*paths, *(ROOT / name for name in SINGLE)):
        if "__pycache__" not in path.parts:
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Points links from where a document lies in the tree to where it lies in the site."""
    uri = page.file.src_uri
    if uri == "index.md":
        return re.sub(r"\]\(docs/", "](", markdown)
    if "/" not in uri:
        return re.sub(r"\]\(\.\./", "](", markdown)
    return re.sub(r"\]\(\.\./docs/", "](../", markdown)
