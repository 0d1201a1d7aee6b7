"""What is wrong with a file that people write: key, value, what is allowed, and what was perhaps meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from swimmy_scale.method.keys import every_section, keys_of, kind_at, sections_in, words_for
from swimmy_scale.method.words import alternatives, did_you_mean

_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
_MISSING = ("missing", "missing_argument")
_LONGEST_VALUE = 60
_NO_SETTING = ("catalogue", "ingest", "cutouts", "model", "models", "spectroscopy")
_OF_A_JOB = (*_NO_SETTING, "train")


def faults_of(error: ValidationError, root: type[BaseModel]) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Place and message of every fault that pydantic found, each place once."""
    said: dict[tuple[int | str, ...], str] = {}
    for fault in error.errors():
        kind, place = kind_at(root, fault["loc"])
        said.setdefault(place, _message(fault, kind, place, root))
    yield from said.items()


def truths(content: Any, root: type[BaseModel], place: tuple[int | str, ...] = ()) -> Iterator[tuple[Any, str]]:
    """Place and message of every true or false in place of a number, which pydantic would take for 1 or 0."""
    kind, _ = kind_at(root, place)
    if kind is None:  # of an unknown key, which is a fault already; a list may hold itself
        return
    if isinstance(content, bool):
        wanted = words_for(kind)
        if wanted.startswith(("a number", "a whole number")):
            yield place, f"must be {wanted}, found {shown(content)}. YAML takes yes, no, on and off for true and false"
    elif isinstance(content, dict):
        for name, value in content.items():
            yield from truths(value, root, (*place, name))
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from truths(value, root, (*place, index))


def another_file(content: dict[Any, Any], what: str) -> str:
    """What a file is that was given as ``what``, and where it belongs; empty if it may be what it was given as."""
    is_site = any(name in content for name in ("swimmy-scale", "swimmy_scale", "jobqueue"))
    is_job = any(name in content for name in _OF_A_JOB)
    if what == "settings" and (own := [name for name in ("name", *_NO_SETTING) if name in content]):
        return f"this is a whole job file, and --settings says only how things are done. Leave out {', '.join(own)}."
    if what != "site" and is_site and not is_job:
        return f"this is a site file, and a {what} file is wanted here. Give it to --site."
    if what == "site" and is_job and not is_site:
        return "this is a job file, and a site file is wanted here. Give a site file, as `init` writes one."
    return ""


def shown(value: Any) -> str:
    """A value as people write it in YAML, cut off where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(list(value)) if isinstance(value, tuple) else f"'{value}'" if isinstance(value, Path) else repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def _message(fault: Any, kind: Any, place: tuple[int | str, ...], root: type[BaseModel]) -> str:
    """What is wrong, what is allowed, and what to do."""
    about, value = fault["type"], fault["input"]
    if about in _UNKNOWN_KEY:
        return _unknown_key(place, value, root)
    if about in _MISSING:
        return _missing(place, root)
    if about == "invalid_key":
        return f"the names of keys are text, found {shown(place[-1])}. Put it in quotes"
    if about == "value_error":
        return str(fault["msg"]).removeprefix("Value error, ") + _found(value)
    wanted = words_for(kind)
    if "[key]" in fault["loc"]:
        return f"the name must be {wanted}, found {shown(value)}"
    message = f"must be {wanted}, found {shown(value)}"
    if about == "literal_error" and isinstance(value, str):
        return f"{message}. {did_you_mean(value, wanted.replace(' or ', ', ').split(', '))}".removesuffix(". ")
    return message + _hint(wanted, value, kind, str(place[-1]) if place else "")


def _hint(wanted: str, value: Any, kind: Any, name: str) -> str:
    """What was perhaps meant by a value of another type."""
    if wanted.startswith("a section") and isinstance(value, str) and "path" in keys_of(sections_in(kind)[0]):
        return f". Write {name}: {{path: {value}}}"
    if isinstance(value, bool) and "true" not in wanted:
        return ". YAML takes yes, no, on and off for true and false: put a name in quotes"
    if wanted.startswith(("text", "a path")) and isinstance(value, int | float):
        return ". Put it in quotes"
    if wanted.startswith("a list of sections") and isinstance(value, dict):
        return ". Put it in brackets: [{...}]"
    if wanted.startswith(("a list of paths", "a list of texts", "a list of words")) and isinstance(value, str):
        return f". Put it in brackets: [{value}]"
    return ""


def _found(value: Any) -> str:
    """The value that a rule of several keys refused; empty for a whole section, whose keys the message names."""
    return "" if isinstance(value, dict | BaseModel) else f", found {shown(value)}"


def _unknown_key(place: Sequence[int | str], value: Any, root: type[BaseModel]) -> str:
    name, above = str(place[-1]), tuple(place[:-1])
    kind, _ = kind_at(root, above)
    keys = [key for section in sections_in(kind) for key in keys_of(section).values()]
    names = [key.name for key in keys]
    found = "" if isinstance(value, dict) else f" (found {shown(value)})"
    where = str(above[-1]) if above else "the file"
    # Another word for it: Slurm's partition is a queue here.
    meant = [key.name for key in keys if re.search(rf"\b{re.escape(name)}\b", key.meaning)][:3]
    if question := did_you_mean(name, names) or (f"Did you mean {alternatives(meant)}?" if meant else ""):
        return f"no such key{found}. {question} Correct its name, or leave it out"
    elsewhere = [f"{section}.{key}" for section, kind in every_section(root) for key in keys_of(kind) if key == name]
    top = [name] if above and name in keys_of(root) else []
    if top or elsewhere:
        there = alternatives([*top, *dict.fromkeys(elsewhere)][:3])
        return f"no such key in {where}{found}, but there is {there}. Move it there, or leave it out"
    return f"no such key{found}. In {where} there are {', '.join(names)}. Correct its name, or leave it out"


def _missing(place: Sequence[int | str], root: type[BaseModel]) -> str:
    last, above = place[-1], tuple(place[:-1])
    kind, _ = kind_at(root, above)
    if isinstance(last, int):
        return f"a value is missing: {'.'.join(map(str, above))} must be {words_for(kind)}"
    key = next((keys_of(section)[last] for section in sections_in(kind) if last in keys_of(section)), None)
    example = f", such as {key.example}" if key and key.example else ""
    return f"missing; it must be given: {key.takes if key else 'a value'}{example}"
