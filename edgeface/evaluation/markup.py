"""HTML in small pieces. Every piece of text is escaped here, so no name from a data set can become markup.

In running text, what stands between two backticks is shown as what one types.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import Final

# Nothing is fetched and nothing runs, whatever a name in the data tries.
POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #ffffff; --dim: #57606a; --line: #d0d7de; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #14181d; --dim: #a3adb8; --line: #3b434c; }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
body { color: var(--ink); background: var(--paper); }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin-top: 1.6rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.92rem; }
th, td { text-align: left; padding: 0.25rem 1.1rem 0.25rem 0; border-bottom: 1px solid var(--line); }
th, td { vertical-align: top; }
th[scope=row] { font-weight: normal; color: var(--dim); }
td { overflow-wrap: break-word; } img { max-width: 100%; height: auto; }
code { font-size: 0.92em; } .note { color: var(--dim); font-size: 0.92rem; } .scroll { overflow-x: auto; }
"""


def page(title: str, parts: Sequence[str], style: str = "") -> str:
    """Return a whole document of parts that the functions below made; `style` is CSS besides `STYLE`."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}{style}</style>",
            "</head>",
            "<body>",
            f"<h1>{escape(title)}</h1>",
            *parts,
            "</body>",
            "</html>",
            "",
        ]
    )


def heading(text: str) -> str:
    """Return a heading of a section."""
    return f"<h2>{escape(text)}</h2>"


def subheading(text: str) -> str:
    """Return a heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{_running(text)}</p>"


def note(text: str) -> str:
    """Return a paragraph in small print."""
    return f'<p class="note">{_running(text)}</p>'


def points(texts: Sequence[str]) -> str:
    """Return a list with a bullet before each text."""
    return "<ul>\n" + "\n".join(f"<li>{_running(text)}</li>" for text in texts) + "\n</ul>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Return a table of what something is called and what it is."""
    body = "\n".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)
    return f'<div class="scroll"><table>\n{body}\n</table></div>'


def picture(png: bytes, words: str) -> str:
    """Return a picture that lies in the document itself, with words for those who do not see it."""
    return f'<p><img alt="{escape(words)}" src="data:image/png;base64,{b64encode(png).decode()}"></p>'


def _running(text: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))
