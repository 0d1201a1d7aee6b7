"""How Zarr decodes: in the threads of those who read, where its version can."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Literal

import zarr

log = logging.getLogger("swimmy_scale")

SETTING = "codec_pipeline.path"


def decode_in_own_threads() -> None:
    """Make Zarr decode and encode where it is called, in all of this process from now on.

    By default one thread of Zarr's does that for all readers of the process, and each call waits for it. Where it is
    called it takes a sixth less processor time to read and half to write, and several readers do not wait for each
    other; values, files and the damage that is found are the same (``benchmarks/reading.py``). What else a user has
    set is replaced: not every pipeline compares checksums.
    """
    pipeline = _fused_pipeline()
    if pipeline is not None and zarr.config.get(SETTING) != pipeline:
        zarr.config.set({SETTING: pipeline})


def opened(path: Path | str, mode: Literal["r", "r+"] = "r") -> zarr.Group:
    """The group at a path, as it is: each array by its own metadata, decoded where it is read."""
    decode_in_own_threads()
    return zarr.open_group(str(path), mode=mode, use_consolidated=False)


@functools.cache
def _fused_pipeline() -> str | None:
    """What Zarr calls its pipeline that decodes where it is called; without one a warning, once in a process."""
    try:
        # No public name yet: it came with Zarr 3.3.
        from zarr.core.codec_pipeline import FusedCodecPipeline
    except ImportError:
        log.warning(
            "zarr %s has no FusedCodecPipeline where version 3.4 has it. Arrays are read in Zarr's default way, with "
            "the same values: one thread decodes for all readers, and a GPU may wait for it.",
            zarr.__version__,
        )
        return None
    return f"{FusedCodecPipeline.__module__}.{FusedCodecPipeline.__qualname__}"
