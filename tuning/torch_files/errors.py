"""How a file of ``torch.save`` is refused."""

from __future__ import annotations


class Unreadable(Exception):
    """What is wrong with a file; the text follows the file's name."""
