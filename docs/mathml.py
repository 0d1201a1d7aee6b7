"""Formulas of the pages as MathML, which browsers show without any script."""

import re
from typing import Any

import latex2mathml.converter


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace ``$$...$$`` by blocks and ``$`...`$`` by inline formulas."""
    markdown = re.sub(r"^ *\$\$\n(.*?)\n *\$\$$", _block, markdown, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"\$`([^`]+)`\$", lambda found: latex2mathml.converter.convert(found[1]), markdown)


def _block(found: re.Match[str]) -> str:
    return latex2mathml.converter.convert(found[1], display="block")
