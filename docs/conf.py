"""How the documents become a site: `scripts/build_docs`. The page of commands is drawn from the commands themselves."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from edgeface import __version__
from edgeface.cli import app as commands

HERE = Path(__file__).parent
GENERATED = HERE / "generated"

project = "edgeface"
version = release = __version__
copyright = "the authors of edgeface"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["build"]
html_theme = "furo"
html_title = f"edgeface {__version__}"
# Nothing on the pages comes from elsewhere: they read the same without a network.
html_copy_source = False
html_show_sphinx = False
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
nitpicky = False

INTRODUCTION = """# Commands

Each command says the same with `--help`. Exit code 0 is done, 1 is something for you to change and is said in one line,
2 is a wrong option; `verify` also ends with 3 and 4, as it says below.
"""


def tree(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield (words to type, command) of a command and all below it, in the order of the help."""
    if isinstance(command, TyperGroup):
        context = typer.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from tree(below, f"{path} {name}")
    else:
        yield path, command


def cell(text: str) -> str:
    """Text for one cell of a table, in which nothing is markup."""
    plain = " ".join(text.split()).replace("\\[", "[")
    return re.sub(r"([\\`*_{}\[\]<>#|$])", r"\\\1", plain)


def rows(command: Any) -> Iterator[str]:
    """Yield the rows of the table of a command: names, default, what it does."""
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or parameter.name == "help":
            continue
        if parameter.param_type_name == "argument":
            names = f"`{(parameter.metavar or parameter.name).upper()}`"
        else:
            names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
        default = parameter.default
        if parameter.required:
            told = "must be given"
        elif default in (None, False, (), "") or callable(default):
            told = ""
        else:
            told = f"`{getattr(default, 'value', default)}`"
        yield f"| {names} | {told} | {cell(parameter.help or '')} |"


def commands_page() -> str:
    """The page of all commands, as Markdown."""
    parts = [INTRODUCTION]
    for words, command in tree(typer.main.get_command(commands), "edgeface"):
        table = list(rows(command))
        parts += [f"## {words}\n", *(f"{part}\n" for part in paragraphs(command.help or ""))]
        if table:
            parts.append("\n".join(["| | default | |", "|---|---|---|", *table]) + "\n")
    return "\n".join(parts)


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a help text, in which nothing is markup but commands to type."""
    for paragraph in re.split(r"\n\s*\n|\f|\x08", text):
        lines = [line.strip() for line in paragraph.strip().splitlines()]
        if lines and all(line.startswith("edgeface ") for line in lines):
            yield "\n".join(["```bash", *lines, "```"])
        elif lines:
            yield cell(paragraph)


def setup(_: Any) -> None:
    """Write what is drawn from the program, before Sphinx looks for pages."""
    GENERATED.mkdir(exist_ok=True)
    page, text = GENERATED / "commands.md", commands_page()
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")
