"""Zarr's two pipelines: the same bytes, the same values, the same damage found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import HSC
from swimmy_scale.storage import decoding
from swimmy_scale.storage.creation import create
from swimmy_scale.storage.cutouts import Cutouts, cutouts_layout
from swimmy_scale.storage.store import write_partition

DEFAULT = "zarr.core.codec_pipeline.BatchedCodecPipeline"


def written(path: Path) -> dict[str, bytes]:
    """Every file of a store of two partitions, the last of them not full."""
    layout = cutouts_layout(10, HSC, {}, 6, 2, {"available_columns": []})
    create(path, layout)
    rng = np.random.default_rng(1)
    for partition in range(layout.n_partitions):
        n = len(layout.rows(partition))
        columns = {
            variable.name: rng.uniform(0, 100, layout.shape(variable, n)).astype(variable.dtype.replace("string", "U9"))
            for variable in layout.variables
        }
        write_partition(path, layout, partition, columns)
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture
def zarrs_default(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stores are opened as Zarr does by itself."""
    monkeypatch.setattr(decoding, "_fused_pipeline", lambda: None)
    with zarr.config.set({decoding.SETTING: DEFAULT}):
        yield


def test_a_store_is_opened_with_the_pipeline_that_decodes_where_it_is_called(tmp_path: Path) -> None:
    with zarr.config.set({decoding.SETTING: DEFAULT}):  # put back at the end
        written(tmp_path / "one.zarr")
        assert zarr.config.get(decoding.SETTING) == "zarr.core.codec_pipeline.FusedCodecPipeline"
        image = Cutouts(tmp_path / "one.zarr").group["image"]
        assert isinstance(image, zarr.Array)
        assert type(image.async_array.codec_pipeline).__name__ == "FusedCodecPipeline"


def test_zarrs_default_writes_the_same_bytes_and_reads_the_same_values(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    ours = written(tmp_path / "ours.zarr")
    found = Cutouts(tmp_path / "ours.zarr").images(1, 10)
    request.getfixturevalue("zarrs_default")
    assert written(tmp_path / "zarrs.zarr") == ours
    assert type(Cutouts(tmp_path / "ours.zarr").group["image"].async_array.codec_pipeline).__name__ in DEFAULT  # type: ignore[union-attr]
    assert Cutouts(tmp_path / "ours.zarr").images(1, 10).tobytes() == found.tobytes()


@pytest.mark.parametrize("name", ["image/c/1/0/0/0", "ra/c/1", "sample_class/c/1", "fwhm_arcsec/c/1/0"])
def test_damage_and_absence_are_found(tmp_path: Path, name: str) -> None:
    written(tmp_path / "one.zarr")
    file, variable = tmp_path / "one.zarr" / name, name.partition("/")[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(SwimmyError, match=rf"{variable}\[6:10\] is damaged or incomplete"):
        Cutouts(tmp_path / "one.zarr").read(variable, 6, 10)
    file.unlink()
    with pytest.raises(SwimmyError, match=rf"{variable}\[6:10\] is damaged or incomplete"):
        Cutouts(tmp_path / "one.zarr").read(variable, 6, 10)


OTHER_ZARR = """
import sys, zarr, zarr.core.codec_pipeline
module = sys.modules["zarr.core.codec_pipeline"]
kept = module.FusedCodecPipeline
{change}
before = zarr.config.get("codec_pipeline.path")
from pathlib import Path
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.decoding import decode_in_own_threads
decode_in_own_threads()
decode_in_own_threads()
sys.modules["zarr.core.codec_pipeline"], module.FusedCodecPipeline = module, kept  # Zarr itself needs them
sys.path.insert(0, {tests!r})
from test_decoding import written
written(Path({path!r}))
assert zarr.config.get("codec_pipeline.path") == before
sys.stdout.buffer.write(Cutouts(Path({path!r})).images(0, 10).tobytes())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    ["del module.FusedCodecPipeline", "sys.modules['zarr.core.codec_pipeline'] = None"],
    ids=["without the class", "without the module"],
)
def test_a_zarr_without_the_pipeline_reads_and_writes_with_one_warning(tmp_path: Path, change: str) -> None:
    files = written(tmp_path / "one.zarr")
    script = OTHER_ZARR.format(change=change, path=str(tmp_path / "other.zarr"), tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr.decode() == (
        f"zarr {zarr.__version__} has no FusedCodecPipeline where version 3.4 has it. Arrays are read in Zarr's "
        "default way, with the same values: one thread decodes for all readers, and a GPU may wait for it.\n"
    )
    assert done.stdout == Cutouts(tmp_path / "one.zarr").images(0, 10).tobytes()
    other = tmp_path / "other.zarr"
    assert {
        file.relative_to(other).as_posix(): file.read_bytes() for file in other.rglob("*") if file.is_file()
    } == files
