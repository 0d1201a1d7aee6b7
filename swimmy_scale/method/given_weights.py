"""The weights that exist already, as a job names them: by files and digests, or by the run that chose them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, StringConstraints, Tag

from swimmy_scale.method.keys import Form
from swimmy_scale.method.sections import JobSection, NetworkSection

Sha256 = Annotated[
    str, StringConstraints(pattern="^[0-9a-f]{64}$"), Form("64 digits of 0-9 and a-f, as sha256sum prints them")
]


class ModelSection(JobSection):
    """Weights that exist already: a file, the digest that it must have, and its network.

    Attributes
    ----------
    path : Path
        A ``.keras`` file of `train`. Example: ``models/selected.keras``.
    sha256 : str
        Digest of the file; ``manifest.json`` of its training has it. Any other file is refused.
        Example: ``0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef``.
    network : NetworkSection
        Sizes of its network.
    run : Path, optional
        The run that the weights were looked up in. A frozen job says so; ``path`` and ``sha256`` count.
        Example: ``../runs/paper``.
    """

    path: Path
    sha256: Sha256
    network: NetworkSection = NetworkSection()
    run: Path | None = None


class WeightsOfRun(JobSection):
    """The weights that another run chose, in place of a file and its digest.

    Attributes
    ----------
    run : Path
        A run directory that has finished its training, or what `train` made. Files, digests and network are looked up
        there, and frozen: the run keeps to these weights, whatever becomes of the other one.
        Example: ``../runs/paper``.
    """

    run: Path


def _form_of_weights(value: Any) -> str:
    """Which of the forms of weights a value is meant to be; pydantic names it within a place."""
    if isinstance(value, dict):
        return "(run)" if "run" in value and not {"path", "sha256"} & value.keys() else "(path)"
    return "(run)" if isinstance(value, WeightsOfRun) else "(path)"


Weights = Annotated[
    Annotated[ModelSection, Tag("(path)")] | Annotated[WeightsOfRun, Tag("(run)")], Discriminator(_form_of_weights)
]
