"""The keys of the files that people write: what each takes, its default, unit, meaning and example, from the models.

A model says what its keys mean in the section "Attributes" of its docstring. There an example of a value, in YAML,
stands last, as ``Example: ``19.5``.``
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ByteSize

from swimmy_scale.method.words import alternatives

REQUIRED = object()
"""The default of a key that must be given."""

UNITS = {"_arcsec": "arcsec", "_px": "pixels", "_mag": "mag", "_seconds": "s", "_objects": "objects"}
_PLAIN: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    ByteSize: "a size with its unit, such as 16GiB",
    type(None): "null",
}
_PLURAL = {int: "whole numbers", float: "numbers", str: "texts", Path: "paths"}


@dataclasses.dataclass(frozen=True)
class Form:
    """What a text must look like, in words; stands beside the pattern that holds it."""

    words: str


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of a section.

    Attributes
    ----------
    name : str
        As it is written in the file.
    field : str
        As the model calls it.
    kind : Any
        The annotation of the model, with all limits.
    default : Any
        `REQUIRED` if the key must be given.
    meaning : str
        In plain English; empty if the model does not say.
    example : str
        A value, in YAML; empty if the model shows none.
    """

    name: str
    field: str
    kind: Any
    default: Any
    meaning: str
    example: str

    @property
    def takes(self) -> str:
        """What the key takes, in words, with its unit."""
        unit = next((unit for end, unit in UNITS.items() if self.field.endswith(end)), "")
        words = words_for(self.kind)
        bare = words.removesuffix(", or null")
        return f"{bare}{f', in {unit}' if unit else ''}{words.removeprefix(bare)}"


@cache
def keys_of(section: type) -> dict[str, Key]:
    """The keys of a section, by their names in the file, in order."""
    hints, meanings = typing.get_type_hints(section, include_extras=True), _meanings(section)
    found = {}
    for field, (name, default, limits) in _fields(section).items():
        kind = Annotated[hints[field], *limits] if limits else hints[field]
        meaning, example = meanings.get(field, ("", ""))
        found[name] = Key(name, field, kind, default, meaning, example)
    for name, kind in getattr(section, "__keys_of_files__", {}).items():
        # What a file may say in place of other keys; the section itself has it no more.
        meaning, example = meanings.get(name, ("", ""))
        found = {name: Key(name, name, kind, None, meaning, example), **found}
    return found


def sections_in(kind: Any) -> list[type]:
    """The sections that values of an annotation are, or hold."""
    bare = _bare(kind)
    if is_section(bare):
        return [bare]
    return [section for part in typing.get_args(bare) for section in sections_in(part)]


def is_section(kind: Any) -> bool:
    """Whether a value of an annotation has keys of its own."""
    return isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind))


def every_section(root: type, place: str = "") -> Iterator[tuple[str, type]]:
    """All sections below a root, each with where it stands in the file; of several forms of one each."""
    for key in keys_of(root).values():
        below = f"{place}.{key.name}".removeprefix(".")
        for section in sections_in(key.kind):
            many = typing.get_origin(_bare(key.kind)) is dict
            yield below + (".NAME" if many else ""), section
            yield from every_section(section, below + (".NAME" if many else ""))


def kind_at(root: type, location: tuple[int | str, ...]) -> tuple[Any, tuple[int | str, ...]]:
    """The annotation at a place that pydantic names, and the place without what names a member of a union."""
    kinds: list[Any] = [root]
    above = kinds
    place: list[int | str] = []
    for part in location:
        if part == "[key]":  # what is wrong is the name itself
            return Union[tuple(name for whole in above for name in _names_in(whole))], tuple(place)  # noqa: UP007
        below = [kind for whole in kinds for kind in _below(whole, part)]
        if not below and not any(_has_parts(kind) for kind in kinds):
            continue  # a member of a union
        if not below and isinstance(part, str) and part.startswith("("):
            continue  # one of the forms of a section
        place.append(part)
        above, kinds = kinds, below
    return (Union[tuple(kinds)] if kinds else None), tuple(place)  # noqa: UP007


def words_for(kind: Any) -> str:
    """What an annotation takes, in words: ``a number above 0, or null``."""
    bare, limits = _bare(kind), _limits_in(kind)
    form = next((limit.words for limit in limits if isinstance(limit, Form)), "")
    if typing.get_origin(bare) in (Union, types.UnionType):
        return _words_for_union(typing.get_args(bare), _words_for_limits(limits))
    return form or _words_for_bare(bare) + _words_for_limits(limits)


def _words_for_bare(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if is_section(kind):
        return "a section with keys"
    if origin is Literal:
        return alternatives(map(str, arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"a list of {_plural(arguments[0])}"
    if origin is tuple and len(set(arguments)) == 1:
        return f"a list of {len(arguments)} {_plural(arguments[0])}"
    if origin is tuple:
        return f"a list of {len(arguments)} values: {', '.join(map(words_for, arguments))}"
    if origin is dict:
        return f"a mapping of names to {_plural(arguments[1])}"
    return "a value"


def _words_for_union(members: tuple[Any, ...], limits: str) -> str:
    some = list(dict.fromkeys(words_for(member) for member in members if member is not type(None)))
    words = alternatives(some) + limits
    return f"{words}, or null" if type(None) in members else words


def _plural(kind: Any) -> str:
    bare, limits = _bare(kind), _limits_in(kind)
    if bare in _PLURAL:
        return _PLURAL[bare] + _words_for_limits(limits)
    if typing.get_origin(bare) is Literal:
        return f"words, each {_words_for_bare(bare)}"
    if typing.get_origin(bare) is tuple:
        return f"lists of {len(typing.get_args(bare))} values ({', '.join(map(words_for, typing.get_args(bare)))})"
    return "sections with keys"


def _words_for_limits(limits: list[Any]) -> str:
    """``, 1 or more``, ``, above 0 and below 50``; empty without limits."""
    ge, gt, le, lt = (
        next((getattr(limit, name) for limit in limits if getattr(limit, name, None) is not None), None)
        for name in ("ge", "gt", "le", "lt")
    )
    if ge is not None and le is not None:
        return f" from {ge:g} to {le:g}"
    lower = f"{ge:g} or more" if ge is not None else f"above {gt:g}" if gt is not None else ""
    upper = f"{le:g} or less" if le is not None else f"below {lt:g}" if lt is not None else ""
    words = " and ".join(filter(None, (lower, upper)))
    return f", {words}" if words else ""


def _bare(kind: Any) -> Any:
    """An annotation without its limits."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def _limits_in(kind: Any) -> list[Any]:
    """What an annotation says beside its type; the parts of what pydantic joins, each alone."""
    if typing.get_origin(kind) is not Annotated:
        return []
    own = [limit for given in typing.get_args(kind)[1:] for limit in (getattr(given, "metadata", None) or [given])]
    return [*own, *_limits_in(_bare(kind))]


def _has_parts(kind: Any) -> bool:
    bare = _bare(kind)
    if typing.get_origin(bare) in (Union, types.UnionType):
        return any(_has_parts(member) for member in typing.get_args(bare))
    return is_section(bare) or typing.get_origin(bare) in (tuple, dict)


def _names_in(kind: Any) -> list[Any]:
    """The annotations of the names of a mapping."""
    bare = _bare(kind)
    if typing.get_origin(bare) in (Union, types.UnionType):
        return [found for member in typing.get_args(bare) for found in _names_in(member)]
    return [typing.get_args(bare)[0]] if typing.get_origin(bare) is dict else []


def _below(kind: Any, part: int | str) -> list[Any]:
    """The annotations of a part of a value: of a key, or a place in a list."""
    bare = _bare(kind)
    origin, arguments = typing.get_origin(bare), typing.get_args(bare)
    if is_section(bare):
        keys = keys_of(bare)
        return [key.kind for key in keys.values() if part in (key.name, key.field)]
    if origin in (Union, types.UnionType):
        return [found for member in arguments for found in _below(member, part)]
    if origin is tuple and isinstance(part, int):
        many = arguments[-1] is Ellipsis
        return [arguments[0]] if many else list(arguments[part : part + 1])
    return [arguments[1]] if origin is dict else []


def _fields(section: type) -> dict[str, tuple[str, Any, list[Any]]]:
    """Name in the file, default and limits of each field."""
    if issubclass(section, BaseModel):
        return {
            field: (
                str(info.validation_alias or field),
                REQUIRED if info.is_required() else info.get_default(call_default_factory=True),
                list(info.metadata),
            )
            for field, info in section.model_fields.items()
        }
    found: dict[str, tuple[str, Any, list[Any]]] = {}
    for item in dataclasses.fields(section):  # type: ignore[arg-type]
        default = REQUIRED if item.default is dataclasses.MISSING else item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        found[item.name] = (item.name, default, [])
    return found


def _meanings(section: type) -> dict[str, tuple[str, str]]:
    """Meaning and example of each attribute, from the docstrings of a class and those it extends."""
    found: dict[str, tuple[str, str]] = {}
    for kind in reversed(section.__mro__):
        text = inspect.cleandoc(kind.__dict__.get("__doc__") or "")
        body = re.search(r"^Attributes\n-+\n(.*?)(?=^\S.*\n---|\Z)", text, flags=re.DOTALL | re.MULTILINE)
        for entry in re.finditer(r"^(\S[^:\n]*?) :[^\n]*\n((?:[ ]+.*\n?|\n)*)", body[1] if body else "", re.MULTILINE):
            words = " ".join(entry[2].split())
            example = re.search(r" ?Example: ``(.+?)``\.$", words)
            meaning = words.removesuffix(example[0]) if example else words
            for name in entry[1].split(", "):
                found[name] = (meaning, example[1] if example else "")
    return found
