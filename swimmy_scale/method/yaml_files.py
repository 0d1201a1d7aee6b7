"""YAML files that people write: read, validated, every fault told with its line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic import BaseModel

from swimmy_scale.errors import SwimmyError


def read_text(path: Path, what: str) -> str:
    """The text of a file; ``what`` it is, in a word, for messages.

    Raises
    ------
    SwimmyError
        When it cannot be read or is not UTF-8.
    """
    try:
        return path.read_text()
    except OSError as error:
        raise SwimmyError(f"{path}: cannot read the {what} file ({error.strerror}). Check the path.") from error
    except UnicodeDecodeError as error:
        raise SwimmyError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from error


def describe(text: str, path: Path, location: tuple[int | str, ...], message: str, whole: str = "") -> str:
    """A fault as ``FILE:LINE: KEY: MESSAGE``; ``whole`` stands for the key of a fault of the whole file."""
    return f"{path}:{_line(text, location)}: {'.'.join(str(part) for part in location) or whole}: {message}"


def parse[T: BaseModel](text: str, path: Path, kind: type[T], what: str) -> T:
    """Validate the text of a file.

    Parameters
    ----------
    path : Path
        Named in messages; not read.
    what : str
        What the file is, in a word, for messages.

    Raises
    ------
    SwimmyError
        For every fault at once, each with its line, key, value and what is allowed.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SwimmyError(
            f"{path}: not valid YAML: {' '.join(str(error).split())}. Correct that line, or give a {what} file."
        ) from error
    except RecursionError:
        raise SwimmyError(f"{path}: nested too deeply to be a {what}. Check that it is the right file.") from None
    if not isinstance(content, dict):
        found = type(content).__name__
        raise SwimmyError(f"{path}: a {what} is a mapping of sections; found {found}. Give a {what} file.")
    if repeated := _repeated(text):
        raise SwimmyError(
            "\n".join(f"{path}:{line}: {key} is there twice. Leave one of them." for line, key in repeated)
        )
    try:
        return kind.model_validate(content)
    except pydantic.ValidationError as error:
        faults = []
        for fault in error.errors():
            location = tuple(fault["loc"])
            value = "" if isinstance(fault["input"], dict | BaseModel) else f", found {fault['input']!r}"
            message = f"{fault['msg'].removeprefix('Value error, ')}{value}"
            if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
                message += ". Correct its name, or leave it out"
            faults.append(describe(text, path, location, message, f"the {what}"))
        raise SwimmyError("\n".join(faults)) from error
    except SwimmyError as error:
        raise SwimmyError(f"{path}: {error}") from error


def _line(text: str, location: tuple[int | str, ...]) -> int:
    """Line of the file that the deepest known part of ``location`` stands on."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = 1
    for key in location:
        children: Iterator[tuple[Any, Any]]
        if isinstance(node, yaml.MappingNode):
            children = ((k.value, (k, v)) for k, v in node.value)
        elif isinstance(node, yaml.SequenceNode):
            children = ((i, (v, v)) for i, v in enumerate(node.value))
        else:
            break
        found = dict(children).get(key)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def _repeated(text: str) -> list[tuple[int, str]]:
    """Line and name of every key that its mapping has already: YAML would take the last in silence."""
    found = []
    nodes, seen = [yaml.compose(text, Loader=yaml.SafeLoader)], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys = [key.value if isinstance(key, yaml.ScalarNode) else None for key, _ in node.value]
            found += [
                (key.start_mark.line + 1, key.value)
                for place, (key, _) in enumerate(node.value)
                if isinstance(key, yaml.ScalarNode) and keys[place] in keys[:place]
            ]
            nodes += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
    return sorted(found)


def absolute_paths[T: BaseModel](content: T, base: Path) -> T:
    """The same content with every path absolute; relative ones are relative to ``base``."""

    def absolute(value: Any) -> Any:
        if isinstance(value, Path):
            return (base / value.expanduser()).resolve()
        if isinstance(value, dict):
            return {key: absolute(item) for key, item in value.items()}
        if isinstance(value, tuple):
            return tuple(absolute(item) for item in value)
        if isinstance(value, BaseModel):
            return value.model_copy(update={name: absolute(getattr(value, name)) for name in type(value).model_fields})
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{item.name: absolute(getattr(value, item.name)) for item in fields(value)})
        return value

    resolved: T = absolute(content)
    return resolved
