"""The keys of job and site files, as their models describe them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import ByteSize, Field, TypeAdapter

from swimmy_scale.cluster.site import SiteFile
from swimmy_scale.method.job import Job
from swimmy_scale.method.keys import REQUIRED, Form, Key, every_section, keys_of, kind_at, words_for

ROOTS = {"job": Job, "site": SiteFile}
KEYS = {
    f"{root}.{place}.{key.name}": key
    for root, kind in ROOTS.items()
    for place, section in [("", kind), *every_section(kind)]
    for key in keys_of(section).values()
}


def test_all_sections_are_found() -> None:
    """Against the models themselves: pydantic lists the classes that a schema needs."""
    for root in ROOTS.values():
        assert {section.__name__ for _, section in every_section(root)} == set(root.model_json_schema()["$defs"])


@pytest.mark.parametrize("key", KEYS.values(), ids=list(KEYS))
def test_every_key_has_a_meaning_and_a_value_to_see(key: Key) -> None:
    assert len(key.meaning) > 8
    assert key.meaning.endswith((".", ")"))
    assert key.takes != "a value"
    if key.default is REQUIRED or key.default in (None, (), {}):
        assert key.example, "the default shows no value"
    if key.example:
        TypeAdapter(key.kind).validate_python(yaml.safe_load(key.example))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int, "a whole number"),
        (float | None, "a number, or null"),
        (Annotated[float, Field(gt=0, lt=50)], "a number, above 0 and below 50"),
        (Annotated[int | None, Field(ge=5, le=22)], "a whole number from 5 to 22, or null"),
        (Annotated[str, Form("one word")] | None, "one word, or null"),
        (tuple[Path, ...], "a list of paths"),
        (tuple[float, float], "a list of 2 numbers"),
        (tuple[tuple[str, str, float], ...], "a list of lists of 3 values (text, text, a number)"),
        (tuple[Literal["a", "b"], ...], "a list of words, each a or b"),
        (dict[str, Annotated[float, Field(gt=0)]], "a mapping of names to numbers, above 0"),
        (int | str | None, "a whole number or text, or null"),
        (ByteSize, "a size with its unit, such as 16GiB"),
        (Job, "a section with keys"),
        (dict[str, Job], "a mapping of names to sections with keys"),
    ],
)
def test_what_a_key_takes(kind: Any, words: str) -> None:
    assert words_for(kind) == words


@pytest.mark.parametrize(
    ("root", "location", "words", "place"),
    [
        (Job, ("sample", "colours", 0, 2), "a number", ("sample", "colours", 0, 2)),
        (Job, ("catalogue", "hdu", "int"), "a whole number or text, or null", ("catalogue", "hdu")),
        (Job, ("model", "(path)", "sha256"), "64 digits of 0-9 and a-f, as sha256sum prints them", ("model", "sha256")),
        (Job, ("model", "(run)", "run"), "a path, or null", ("model", "run")),
        (
            SiteFile,
            ("jobqueue", "cpu", "job-cpu"),
            "a whole number, 1 or more, or null",
            ("jobqueue", "cpu", "job-cpu"),
        ),
        (
            SiteFile,
            ("jobqueue", "cpu", "job_cpu"),
            "a whole number, 1 or more, or null",
            ("jobqueue", "cpu", "job_cpu"),
        ),
    ],
)
def test_what_stands_at_a_place(root: Any, location: Any, words: str, place: Any) -> None:
    kind, found = kind_at(root, location)
    assert (words_for(kind), found) == (words, place)


def test_a_unit_stands_before_null() -> None:
    assert KEYS["job.sample.max_fwhm_arcsec"].takes == "a number, in arcsec, or null"
