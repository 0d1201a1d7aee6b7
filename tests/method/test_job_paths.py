"""Paths of a job: absolute in the program, and written again as they were given."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job_paths import RelativePath, absolute_paths, located, written_as, written_from

BASE = Path("/project/jobs")


@pytest.mark.parametrize(
    ("given", "absolute", "written"),
    [
        ("../survey/c.fits", "/project/survey/c.fits", "../survey/c.fits"),
        ("c.fits", "/project/jobs/c.fits", "../jobs/c.fits"),
        ("/data/c.fits", "/data/c.fits", "/data/c.fits"),
        ("/data/../c.fits", "/c.fits", "/c.fits"),
    ],
)
def test_a_path_is_written_as_it_was_given(given: str, absolute: str, written: str) -> None:
    found = absolute_paths(Path(given), BASE)
    assert (str(found), found) == (absolute, Path(absolute))
    assert located(found, Path("/project/run")) == written
    assert isinstance(found, RelativePath) == (not given.startswith("/"))
    again = absolute_paths(written_from(found, Path("/project/run")), Path("/project/run"))
    assert (again, type(again)) == (found, type(found))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("~no-such-user-here/c.fits", "Could not determine home directory"),
        ("a\0b", "embedded null byte"),
        ("loop/c.fits", "loop"),
    ],
)
def test_a_path_that_leads_nowhere_is_told_with_its_file(tmp_path: Path, given: str, said: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    wanted = (
        rf"^{re.escape(str(tmp_path))}/job.yaml: the path {re.escape(repr(given))} leads nowhere \(.*{said}.*\). Cor"
    )
    with pytest.raises(SwimmyError, match=wanted):
        absolute_paths({"a": (Path(given),)}, tmp_path, tmp_path / "job.yaml")


def test_paths_within_and_what_is_no_path() -> None:
    content = {"one": (Path("a"), "a"), "two": {"three": Path("/b")}, "four": 4}
    found = absolute_paths(content, BASE)
    assert found == {"one": (Path("/project/jobs/a"), "a"), "two": {"three": Path("/b")}, "four": 4}
    # A project that is moved: the same text, read from the new place.
    moved = absolute_paths(written_from(found, Path("/project/run")), Path("/elsewhere/run"))
    assert moved["one"] == (Path("/elsewhere/jobs/a"), "a")
    assert moved["two"] == {"three": Path("/b")}


def test_the_same_file_written_in_another_way_is_written_as_before() -> None:
    before = absolute_paths((Path("../survey"), Path("/data")), BASE)
    given = absolute_paths((Path("/project/survey"), Path("../../data"), Path("new")), BASE)
    found = written_as(given, before)
    assert [located(path, BASE) for path in found] == ["../survey", "/data", "new"]


def test_it_travels_to_workers() -> None:
    path = RelativePath("/project/a")
    again = pickle.loads(pickle.dumps(path))  # noqa: S301
    assert (again, type(again)) == (path, RelativePath)
    assert isinstance(path / "b", Path)
