"""Paths of a job as they were written: a project tree whose paths are relative can be moved and mounted elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from swimmy_scale.errors import SwimmyError


class RelativePath(Path):
    """An absolute path that was written as a relative one."""


def absolute_paths[T](content: T, base: Path, file: Path | None = None) -> T:
    """The same content with every path absolute; relative ones are relative to ``base``, and known as such.

    Raises
    ------
    SwimmyError
        Where a path of ``file`` leads nowhere: a ``~`` of no user, links that lead to each other, a zero byte.
    """

    def absolute(path: Path) -> Path:
        try:
            written = path.expanduser()
            return written.resolve() if written.is_absolute() else RelativePath((base / written).resolve())
        except (RuntimeError, ValueError, OSError) as error:
            said = str(error).rstrip(".")
            raise SwimmyError(f"{file or base}: the path {str(path)!r} leads nowhere ({said}). Correct it.") from error

    return _with_paths(content, absolute)


def written_from[T](content: T, folder: Path) -> T:
    """The same content with its `RelativePath`s as they are written in a file of ``folder``; all others stay."""
    return _with_paths(content, lambda path: Path(located(path, folder)))


def written_as[T](content: T, before: Any) -> T:
    """The same content with paths that ``before`` has as well written as they are there, relative or not.

    So a job that names the same files in another way is the same job.
    """
    known: dict[str, Path] = {}
    _with_paths(before, lambda path: known.setdefault(str(path), path))
    return _with_paths(content, lambda path: known.get(str(path), path))


def located(path: Path, folder: Path) -> str:
    """A path as it is written in a file of ``folder``: relative if it was given so."""
    return os.path.relpath(path, folder.resolve()) if isinstance(path, RelativePath) else str(path)


def _with_paths[T](content: T, change: Callable[[Path], Path]) -> T:
    def changed(value: Any) -> Any:
        if isinstance(value, Path):
            return change(value)
        if isinstance(value, dict):
            return {key: changed(item) for key, item in value.items()}
        if isinstance(value, tuple):
            return tuple(changed(item) for item in value)
        if isinstance(value, BaseModel):
            return value.model_copy(update={name: changed(getattr(value, name)) for name in type(value).model_fields})
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{item.name: changed(getattr(value, item.name)) for item in fields(value)})
        return value

    result: T = changed(content)
    return result
