"""What a store is: its variables, their dimensions and types, and how its objects are divided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import AnyArray
from swimmy_scale.storage.files import digest_json

PIXEL_DIMS = ("y", "x")


@dataclass(frozen=True)
class Variable:
    """One array of a store.

    Attributes
    ----------
    dims : tuple of str
        The first is ``object`` for everything that tasks write.
    dtype : str
        A NumPy name, or ``string``.
    attrs : mapping
        ``units``, ``long_name`` and the like.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fill_value(self) -> Any:
        """NaN for floats, an empty string, False or 0 for the rest."""
        if self.dtype.startswith("float"):
            return float("nan")
        return {"string": "", "bool": False}.get(self.dtype, 0)


def is_text(values: AnyArray) -> bool:
    """Whether a column of a catalogue is text, of whatever type."""
    return values.dtype.kind in "TOUS"


def column_type(values: AnyArray) -> str:
    """The type in which a column of a catalogue is stored."""
    return "string" if is_text(values) else values.dtype.name


@dataclass(frozen=True)
class Layout:
    """All that is fixed when a store is created.

    Attributes
    ----------
    partition_objects : int
        Rows of a partition, which is one shard of the pixel arrays and one chunk of the others.
    chunk_objects : int
        Rows of a chunk inside a shard; divides ``partition_objects``.
    sizes : mapping of str to int
        Length of every dimension except ``object``.
    variables : tuple of Variable
        What tasks write.
    labels : mapping of str to tuple of str
        Names of the positions along a dimension, such as the bands.
    attrs : mapping
        Group attributes, among them ``format_version``.
    notes : mapping
        More group attributes, which may change when the store is filled again: the model's digest, for example.
    """

    n_objects: int
    partition_objects: int
    chunk_objects: int
    sizes: Mapping[str, int]
    variables: tuple[Variable, ...]
    labels: Mapping[str, tuple[str, ...]]
    attrs: Mapping[str, Any]
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.chunk_objects < 1 or self.partition_objects % self.chunk_objects:
            raise SwimmyError(
                f"partition_objects {self.partition_objects} is not a multiple of chunk_objects {self.chunk_objects}. "
                "A partition must hold whole chunks: correct the storage section of the job."
            )

    @property
    def n_partitions(self) -> int:
        """Number of partitions."""
        return -(-self.n_objects // self.partition_objects)

    def rows(self, partition: int) -> range:
        """Rows of a partition."""
        lo = partition * self.partition_objects
        return range(lo, min(lo + self.partition_objects, self.n_objects))

    def shape(self, variable: Variable, n_objects: int | None = None) -> tuple[int, ...]:
        """Shape of a variable over the whole store or over ``n_objects`` rows."""
        sizes = {**self.sizes, "object": self.n_objects if n_objects is None else n_objects}
        return tuple(sizes[dim] for dim in variable.dims)

    def variable(self, name: str) -> Variable:
        """The variable called ``name``."""
        return next(variable for variable in self.variables if variable.name == name)

    @property
    def identity(self) -> str:
        """Digest of all that is fixed, the number of objects among it; ``notes`` are not."""
        return digest_json(
            [self.n_objects, self.partition_objects, self.chunk_objects, dict(self.sizes), dict(self.attrs)]
            + [[v.name, v.dims, v.dtype, dict(v.attrs)] for v in self.variables]
            + [{dim: list(labels) for dim, labels in self.labels.items()}]
        )
