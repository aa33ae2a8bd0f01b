"""Guidelines for annotators: a Markdown file made into safe HTML, by sections.

A heading that is nothing but code (``## `closed_qa` ``) is a category: the form offers it, and
its section is shown when it is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import escape

from hinlap.data.text_file import read_utf8


@dataclass(frozen=True, slots=True)
class Section:
    """category: "" for one that concerns all rows."""

    category: str
    html: str


def read_guidelines(path: Path) -> list[Section]:
    """Raises InputError for a file that is not there or not UTF-8."""
    return sections(read_utf8(path))


def sections(markdown: str) -> list[Section]:
    """HTML in the text stays text; links and images of foreign schemes are not made; a picture
    is its description (the page loads nothing from elsewhere).

    >>> sections("Be kind. <b>\\n## `qa`\\nShort.")[1]
    Section(category='qa', html='<h2><code>qa</code></h2>\\n<p>Short.</p>\\n')
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    parser.add_render_rule("link_open", _link)
    tokens = parser.parse(markdown)
    cuts: list[tuple[str, list[Token]]] = [("", [])]
    within = ""  # the tag of the present category's heading: a lower one is a part of it
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            category = _category(tokens[index + 1])
            if category or token.tag <= within:
                cuts.append((category, []))
                within = token.tag if category else ""
        cuts[-1][1].append(token)
    return [
        Section(category, parser.renderer.render(part, parser.options, {}))
        for category, part in cuts
        if part
    ]


def _category(inline: Token) -> str:
    children = inline.children or []
    return children[0].content if [child.type for child in children] == ["code_inline"] else ""


def _link(renderer: object, tokens: list[Token], index: int, options: object, env: object) -> str:
    address = str(tokens[index].attrGet("href") or "")
    return f'<a href="{escape(address)}" target="_blank" rel="noopener noreferrer">'
