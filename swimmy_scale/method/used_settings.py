"""What each command uses of its settings. It imports nothing, so that the help of a command can name it at once."""

from __future__ import annotations

USED_BY = {
    "ingest": ("survey", "storage"),
    "train": ("sample", "train", "score.n_models", "score.one_a_run"),
    "score": ("score.n_models", "score.batch_size", "score.kind", "score.floor", "score.descriptors", "train.network"),
    "select": ("sample", "select"),
    "select --marks": ("select.formats",),
    "classify": ("survey", "sample"),
    "request": ("survey",),
}
"""What each command for a single stage uses of its settings: whole sections, or keys of one."""

IN_ORDER = ("request", "classify", "ingest", "train", "score", "select")
"""The commands in the order of use: one file may serve them all, but what comes too late is refused."""

USED_BY_EVALUATION = ("score.batch_size", "score.kind", "score.floor", "select.levels")
"""What `train` uses as well where it evaluates its weights."""


def users_of(place: tuple[str, ...]) -> list[str]:
    """The commands that use a section, or some of it, or one key of it."""
    whole, key = place[0], ".".join(place)
    return [
        command
        for command in IN_ORDER
        if any(name in (whole, key) or name.startswith(f"{key}.") for name in USED_BY[command])
    ]


def words_for_used(command: str) -> str:
    """What a command uses of its settings, for people: ``sample, score (n_models, kind)``."""
    keys: dict[str, list[str]] = {}
    for name in USED_BY[command]:
        section, _, key = name.partition(".")
        keys.setdefault(section, []).extend([key] if key else [])
    return ", ".join(section + (f" ({', '.join(some)})" if some else "") for section, some in keys.items())
