"""HTML in small pieces. Every piece of text is escaped here, so no name from a data set can become markup."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import Final

# Nothing is fetched and nothing runs, whatever a name in the data tries.
POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.92rem; }
th, td { text-align: left; padding: 0.25rem 1.1rem 0.25rem 0; border-bottom: 1px solid #eee; vertical-align: top; }
td { overflow-wrap: break-word; } img { max-width: 100%; height: auto; }
.note { color: #555; font-size: 0.92rem; } .scroll { overflow-x: auto; }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """Return a whole document of parts that the functions below made."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
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


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>"


def note(text: str) -> str:
    """Return a paragraph in small print."""
    return f'<p class="note">{escape(text)}</p>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def picture(png: bytes, words: str) -> str:
    """Return a picture that lies in the document itself, with words for those who do not see it."""
    return f'<p><img alt="{escape(words)}" src="data:image/png;base64,{b64encode(png).decode()}"></p>'
