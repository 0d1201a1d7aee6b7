"""What another version of Dask lacks is told in a message."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import distributed
import pytest

from swimmy_scale.cluster.doctor.connections import check_interface
from swimmy_scale.cluster.fleet import SlurmExecutor
from swimmy_scale.cluster.places import Places
from swimmy_scale.cluster.scripts import worker_script
from swimmy_scale.cluster.site import Site, parse_site
from swimmy_scale.cluster.versions import fitting_version
from swimmy_scale.errors import SwimmyError

TEXT = """
jobqueue: {slurm: {memory: 8GiB, cores: 2}, driver: {queue: long}, cpu: {queue: short}}
swimmy-scale: {kind: slurm, groups: {cpu: {jobs: 1}}}
"""
REMEDY = r"\. Install the version that requirements\.lock has\.$"


@pytest.fixture
def site() -> Site:
    return parse_site(TEXT, Path("site.yaml"))


@pytest.mark.parametrize("error", [ImportError("no name"), AttributeError("no name"), TypeError("no name")])
def test_what_another_version_lacks_is_a_message(error: Exception) -> None:
    with (
        pytest.raises(SwimmyError, match=rf"^distributed {distributed.__version__} differs .* \(no name\){REMEDY}"),
        fitting_version("distributed"),
    ):
        raise error


@pytest.mark.parametrize("error", [ValueError("its own"), SwimmyError("its own"), OSError("its own")])
def test_other_failures_stay_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error), match=r"^its own$"), fitting_version("distributed"):
        raise error


def test_another_dask_jobqueue(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue.slurm", None)
    with pytest.raises(
        SwimmyError, match=rf"^dask-jobqueue {version('dask-jobqueue')} .* dask_jobqueue\.slurm .*{REMEDY}"
    ):
        worker_script(site.groups[0], Places(Path("/shared/run")))


def test_another_distributed(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("distributed.utils.get_ip_interface")
    text = rf"^distributed {distributed.__version__} .* 'get_ip_interface' .*{REMEDY}"
    with pytest.raises(SwimmyError, match=text):
        check_interface("lo", "the workers")
    with pytest.raises(SwimmyError, match=text):
        SlurmExecutor(site, tmp_path).open().__enter__()
