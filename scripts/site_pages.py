"""What `mkdocs.yml` cannot say: pages from outside `docs/`, generated pages, and links as GitHub has them."""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "client/README.md": "client.md",
}
"""Where a file of the repository is in the site; those of `docs/` keep their place."""
COMMAND = "reference/command.md"
TYPESCRIPT = "reference/typescript"

_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that `docs/` does not have."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, COMMAND, content=_command()))
    for name, content in _typescript().items():
        files.append(File.generated(config, f"{TYPESCRIPT}/{name}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001
    """Let links and images lead to the site's files; one to a file outside of the site becomes its text."""
    markdown = re.sub(r"^(```\w+) run$", r"\1", markdown, flags=re.MULTILINE)  # what a test runs
    source = page.file.abs_src_path
    if source is None:
        return markdown
    here = Path(source).parent
    depth = "../" * page.file.src_uri.count("/")

    def linked(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = (here / target).resolve()
        if not path.is_relative_to(ROOT):
            return match[0]
        name = path.relative_to(ROOT).as_posix()
        uri = PAGES.get(name, name.removeprefix("docs/"))
        if files.get_file_from_path(uri) is None:
            return text if path.exists() else match[0]  # MkDocs names the dead one
        return f"[{text}]({depth}{uri}{anchor})"

    return _LINK.sub(linked, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001
    """Refuse a page whose code is not shown as code."""
    if "<p>```" in html:
        raise PluginError(f"{page.file.src_uri}: a block of code that is not recognised")
    return html


def _typescript() -> dict[str, str]:
    """The reference of each entry of the npm package; `client/typedoc.json` lists them."""
    with tempfile.TemporaryDirectory() as folder:
        typedoc = ROOT / "node_modules" / ".bin" / "typedoc"
        subprocess.run([typedoc, "--out", folder], cwd=ROOT / "client", check=True)
        made = {page.stem: page.read_text() for page in Path(folder).glob("*.md") if page.stem != "README"}
    titles = {name: f"roomcast/{name}" if name != "index" else "roomcast" for name in made}
    made = {name: re.sub(r"\A# .*", f"# `{titles[name]}`", text) for name, text in made.items()}
    # The second heading of a name: `#send-1` for TypeDoc, `#send_1` for MkDocs.
    return {name: re.sub(r"(#[\w-]+)-(\d+)\)", r"\1_\2)", text) for name, text in made.items()}


def _command() -> str:
    """The help of every command, as a page."""
    python = ROOT / ".venv" / "bin" / "python"
    typer = [python, "-m", "typer", "roomcast_dev.cli.main", "utils", "docs", "--name", "roomcast"]
    return subprocess.run(typer, cwd=ROOT, capture_output=True, text=True, check=True).stdout
