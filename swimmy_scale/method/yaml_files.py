"""YAML files that people write: read and validated, every fault reported with its line."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic import BaseModel

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.faults import another_file, faults_of, truths
from swimmy_scale.method.words import alternatives, nearest

MOST_NODES = 1_000_000
"""Of a file, with each alias as many as it stands for: a few lines of aliases can stand for more than any memory."""


def read_text(path: Path, what: str) -> str:
    """The text of a file; ``what`` names its kind in messages, in a word.

    Raises
    ------
    SwimmyError
        When it cannot be read or is not UTF-8.
    """
    try:
        return path.read_text()
    except OSError as error:
        reason = "it is a folder" if path.is_dir() else error.strerror
        raise SwimmyError(f"{path}: cannot read the {what} file ({reason}). {_other_path(path)}") from error
    except UnicodeDecodeError as error:
        raise SwimmyError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from error


def _other_path(path: Path) -> str:
    """The file that was perhaps meant by a path that is none."""
    folder = path if path.is_dir() else path.parent
    there = [item.name for item in islice(sorted(folder.glob("*.y*ml")), 100)]
    like = there if path.is_dir() else nearest(path.name, there)
    return (
        f"Check the path: did you mean {alternatives(str(folder / name) for name in like[:3])}?"
        if like
        else ("Check the path.")
    )


def parse[T: BaseModel](text: str, path: Path, kind: type[T], what: str) -> T:
    """Validate the text of a file.

    Parameters
    ----------
    path : Path
        Named in messages; not read.
    kind : type
        The model that the text must fit.
    what : str
        What the file is, in a word, for messages.

    Raises
    ------
    SwimmyError
        For every fault at once, each with its line, key, value and what is allowed.
    """
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        # Before values are made, which puts the keys of "<<" into the mapping that merges them.
        if _size(root, {}) > MOST_NODES:
            raise SwimmyError(
                f"{path}: its aliases (*name) stand for more than {MOST_NODES:,} values. Write out what is meant."
            )
        repeated = _repeated(root)
        content = None if root is None else loader.construct_document(root)
    except yaml.YAMLError as error:
        where, problem = _place_in_text(error)
        raise SwimmyError(
            f"{path}{where}: not valid YAML: {problem}. Correct that line, or give a {what} file."
        ) from error
    except ValueError as error:
        # Python itself refuses numbers of thousands of digits, before anything says where they stand.
        raise SwimmyError(f"{path}: a value cannot be read: {str(error).partition(';')[0]}. Correct it.") from error
    except RecursionError:
        raise SwimmyError(f"{path}: nested too deeply to be a {what}. Check that it is the right file.") from None
    if not isinstance(content, dict):
        what_found = {type(None): "nothing", list: "a list", str: "text"}.get(type(content), "a single value")
        raise SwimmyError(f"{path}: a {what} is a mapping of sections; found {what_found}. Give a {what} file.")
    if repeated:
        raise SwimmyError(
            "\n".join(f"{path}:{line}: {key} is there twice. Leave one of them." for line, key in repeated)
        )
    if other := another_file(content, what):
        raise SwimmyError(f"{path}: {other}")
    faults = list(truths(content, kind))
    try:
        found = kind.model_validate(content)
        if not faults:
            return found
    except pydantic.ValidationError as error:
        faults += faults_of(error, kind)
    except SwimmyError as error:
        raise SwimmyError(f"{path}: {error}") from error
    raise SwimmyError("\n".join(_fault(root, path, place, words, f"the {what}") for place, words in faults))


def describe(text: str, path: Path, location: tuple[int | str, ...], message: str) -> str:
    """A fault of a file that was parsed before, as ``FILE:LINE: KEY: MESSAGE``."""
    return _fault(yaml.compose(text, Loader=yaml.SafeLoader), path, location, message)


def _fault(root: yaml.Node | None, path: Path, location: tuple[int | str, ...], message: str, whole: str = "") -> str:
    """``FILE:LINE: KEY: MESSAGE``, with the line of the deepest part of ``location`` that the file has."""
    line, node = 1, root
    for key in location:
        # A key that is a number in the file is its text here.
        found = {str(name): (shown, value) for name, shown, value in _entries(node)}.get(str(key))
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return f"{path}:{line}: {'.'.join(str(part) for part in location) or whole}: {message}"


def _place_in_text(error: yaml.YAMLError) -> tuple[str, str]:
    """The line, as ``:7``, and what is wrong in it; the line is empty where it is not known."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f":{error.problem_mark.line + 1}", str(error.problem).replace("'<stream end>'", "the end of the file")
    return "", " ".join(str(error).split())


def _size(node: yaml.Node | None, known: dict[int, int]) -> int:
    """How many values a node holds, with those that its aliases stand for; 0 for one within itself."""
    if id(node) not in known:
        known[id(node)] = 0
        known[id(node)] = 1 + sum(_size(value, known) for _, _, value in _entries(node))
    return known[id(node)]


def _repeated(root: yaml.Node | None) -> list[tuple[int, str]]:
    """Line and name of every key that its mapping has already: YAML would silently take the last."""
    found, waiting, seen = [], [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        names = set()
        for name, shown, value in _entries(node):
            if name in names:
                found.append((shown.start_mark.line + 1, name))
            names.add(name)
            waiting.append(value)
    return sorted(found)


def _entries(node: yaml.Node | None) -> list[tuple[Any, yaml.Node, yaml.Node]]:
    """Name, node that shows where it stands, and node of the value, for all that a mapping or a list holds."""
    if isinstance(node, yaml.MappingNode):
        return [(key.value if isinstance(key, yaml.ScalarNode) else key, key, value) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [(place, item, item) for place, item in enumerate(node.value)]
    return []
