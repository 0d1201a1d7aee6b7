"""The words that messages have in common: counts with their noun, lists, and names that were perhaps meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_ENDINGS = (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("s", ""))
"""Of nouns in plural, and in singular."""

_ALIKE, _AS_GOOD = 0.65, 0.12
"""How like a word a name must be, and by how much less than the best one another may be."""
_NAMED = 12
"""More names than these are not listed in a message, but counted."""


def counted(number: int, noun: str) -> str:
    """``1 object``, ``12,345 objects``; the noun may be given in singular or in plural."""
    plural = noun.endswith("s") and not noun.endswith("ss")
    if plural == (number != 1):
        return f"{number:,} {noun}"
    pairs = _ENDINGS if plural else [(one, many) for many, one in _ENDINGS]
    old, new = next(pair for pair in pairs if noun.endswith(pair[0]))
    return f"{number:,} {noun.removesuffix(old)}{new}"


def alternatives(words: Iterable[str], joint: str = "or") -> str:
    """``a, b or c``."""
    *some, last = words
    return f"{', '.join(some)} {joint} {last}" if some else last


def nearest(word: str, names: Iterable[str], n_most: int = 3) -> list[str]:
    """The names that are most like a word, best first; capitals, dashes and underscores do not count."""
    by_letters: dict[str, str] = {}
    for name in names:
        by_letters.setdefault(_letters(name), name)
    likeness = {
        letters: difflib.SequenceMatcher(None, _letters(word), letters, autojunk=False).ratio()
        for letters in by_letters
    }
    best = max([_ALIKE, *likeness.values()])
    like = [letters for letters, ratio in likeness.items() if ratio >= max(_ALIKE, best - _AS_GOOD)]
    like.sort(key=lambda letters: -likeness[letters])
    # RAJ2000 for ra: too long to be alike, but it begins so.
    like += [name for name in by_letters if len(word) > 1 and name.startswith(_letters(word)) and name not in like]
    return [by_letters[letters] for letters in like[:n_most]]


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """``Did you mean a or b?``; empty where no name is like the word."""
    found = nearest(word, names)
    return f"Did you mean {alternatives(found)}?" if found else ""


def known_names(words: Sequence[str], names: Sequence[str], what: str, there: str = "It has") -> str:
    """What there is in place of words that are not among the names: the names that are like them, and how many others.

    Few names are all listed. ``what`` is their noun, such as ``columns``.
    """
    like = list(dict.fromkeys(name for word in words for name in nearest(word, names)))
    if len(names) <= _NAMED:
        whole = ", ".join(names) or f"no {what}"
        return f"{there} {whole}." + (f" Did you mean {alternatives(like)}?" if like else "")
    if like:
        return f"Did you mean {alternatives(like)}? {there} {counted(len(names), what)} in all."
    return f"{there} {counted(len(names), what)}: {', '.join(names[:_NAMED])} and {len(names) - _NAMED} more."


def _letters(name: str) -> str:
    return name.lower().replace("-", "_")
