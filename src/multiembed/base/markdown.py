"""Names and messages inside Markdown: what a file calls its fields is never markup."""

import re

from multiembed.base.errors import UNSEEN

_MARKUP = re.compile(r"[\\`*_\[\]<>#!|~&]")


def plain_text(text: str) -> str:
    """Return text that reads as it is, in one line."""
    return _MARKUP.sub(r"\\\g<0>", UNSEEN.sub(" ", text))


def code(text: str) -> str:
    """Return text as code, in one line."""
    text = UNSEEN.sub(" ", text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    padded = f" {text} " if "`" in text or not text.strip() else text
    return f"{fence}{padded}{fence}"


def code_cell(text: str) -> str:
    """Return text as code in a cell of a table."""
    return code(text).replace("|", "\\|")
