"""The sample cuts, held to a plain loop over objects that follows sections 2.1 and 2.2 word for word."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, replace

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.sample import (
    ALL_FLAGS,
    FLAG_NAMES,
    NOT_PRIMARY,
    PARTLY_EMPTY,
    QUALITY_FLAGS,
    CutCount,
    SampleColumns,
    SampleCuts,
    apply_cuts,
    check_cuts,
    column_names,
    depth_percentile,
    failed_cuts,
    merge_counts,
)
from swimmy_scale.method.survey import HSC, Survey

ALL = set(column_names(HSC))
OFF = SampleCuts(
    max_fwhm_arcsec=None, use_depth=False, max_magnitude=None, flags=(), min_extendedness_mag=None, colours=()
)


def good(n_objects: int = 1) -> SampleColumns:
    """Objects that pass every cut, including the paper's redshift range."""
    return SampleColumns(
        usable=np.ones(n_objects, bool),
        fwhm_arcsec=np.full((n_objects, 5), 0.7, np.float32),
        depth_mag=np.full((n_objects, 5), 27.0, np.float32),
        mag=np.tile(np.array([19.5, 18.8, 18.4, 18.2, 18.1], np.float32), (n_objects, 1)),
        psf_mag=np.full(n_objects, 19.4, np.float32),
        flags=np.zeros(n_objects, np.uint32),
        redshift=np.full(n_objects, 0.1),
    )


def with_value(name: str, value: float, band: int | None = None) -> SampleColumns:
    columns = good()
    array = getattr(columns, name)
    array[(0,) if band is None else (0, band)] = value
    return columns


SPEC_Z = replace(SampleCuts(), redshift=(0.05, 0.2))


def test_flag_names_are_the_papers_ten_in_a_fixed_order() -> None:
    assert len(QUALITY_FLAGS) == len(set(QUALITY_FLAGS)) == 10
    assert FLAG_NAMES[0] == "pixelflags_edge"
    assert FLAG_NAMES[9] == "mask_brightstar_blooming"
    assert (*QUALITY_FLAGS, NOT_PRIMARY) == FLAG_NAMES


def test_a_good_object_passes_and_the_order_is_the_papers() -> None:
    in_sample, counts = apply_cuts(good(3), SPEC_Z, HSC, ALL)
    assert in_sample.tolist() == [True] * 3
    names = ["scored", "seeing", "depth", "magnitude", *FLAG_NAMES, "extendedness", "redshift", "g-r", "r-z"]
    assert [count.name for count in counts] == names
    assert {(count.before, count.after, count.note) for count in counts} == {(3, 3, "")}
    assert counts[2].rule == "5-sigma depth >= g 25.82, r 25.49, i 25.23, z 24.47, y 23.59 mag"


# column, band, last value that passes, first value that fails, the cut that catches it
EDGES = [
    ("usable", None, True, False, "scored"),
    *(("fwhm_arcsec", band, 1.0, 1.0001, "seeing") for band in range(5)),
    *(("depth_mag", band, limit, limit - 1e-4, "depth") for band, limit in enumerate(HSC.min_depth_mag)),
    ("mag", 2, 19.0, 20.0, "magnitude"),
    ("psf_mag", None, 18.61, 18.59, "extendedness"),
    ("redshift", None, 0.0501, 0.05, "redshift"),
    ("redshift", None, 0.1999, 0.2, "redshift"),
    ("mag", 0, 19.99, 20.01, "g-r"),
    ("mag", 3, 17.81, 17.79, "r-z"),
    *(("flags", None, 0, 1 << bit, name) for bit, name in enumerate(FLAG_NAMES)),
]


@pytest.mark.parametrize(("column", "band", "passing", "failing", "cut"), EDGES)
def test_each_cut_at_its_edge(column: str, band: int | None, passing: float, failing: float, cut: str) -> None:
    assert apply_cuts(with_value(column, passing, band), SPEC_Z, HSC, ALL)[0].tolist() == [True]
    in_sample, counts = apply_cuts(with_value(column, failing, band), SPEC_Z, HSC, ALL)
    assert in_sample.tolist() == [False]
    assert [count.name for count in counts if count.after < count.before] == [cut]


def test_the_flag_of_empty_pixels_cuts_where_it_is_named() -> None:
    columns = with_value("flags", 1 << ALL_FLAGS.index(PARTLY_EMPTY))
    available = {*ALL, PARTLY_EMPTY}
    assert apply_cuts(columns, SPEC_Z, HSC, available)[0].tolist() == [True]
    in_sample, counts = apply_cuts(columns, replace(SPEC_Z, flags=ALL_FLAGS), HSC, available)
    assert in_sample.tolist() == [False]
    assert [count.name for count in counts if count.after < count.before] == [PARTLY_EMPTY]


UNKNOWN = [case for case in EDGES if case[0] not in ("usable", "flags")]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -99.0, 99.0, -999.0, 9999.0])
@pytest.mark.parametrize(("column", "band", "passing", "failing", "cut"), UNKNOWN)
def test_an_unknown_value_does_not_pass(column, band, passing, failing, cut, value) -> None:
    in_sample, counts = apply_cuts(with_value(column, value, band), SPEC_Z, HSC, ALL)
    assert in_sample.tolist() == [False]
    found = next(count for count in counts if count.after < count.before)
    # An unknown i magnitude fails the first cut that needs it, as do g and z their colours.
    assert (found.name, found.unknown) == (cut, 1)


@pytest.mark.parametrize(
    ("missing", "skipped"),
    [
        ([f"fwhm_arcsec_{band}" for band in HSC.bands], ["seeing"]),
        ([f"depth_mag_{band}" for band in HSC.bands], ["depth"]),
        (["mag_i"], ["magnitude", "extendedness"]),
        (["psf_mag"], ["extendedness"]),
        (["redshift"], ["redshift"]),
        (["mag_z"], ["r-z"]),
        (["mag_r"], ["g-r", "r-z"]),
        (["pixelflags_bad", "sdssshape_flag"], ["pixelflags_bad", "sdssshape_flag"]),
        (sorted(ALL), ["seeing", "depth", "magnitude", *FLAG_NAMES, "extendedness", "redshift", "g-r", "r-z"]),
    ],
)
def test_a_cut_without_data_is_skipped_and_says_so(missing: list[str], skipped: list[str]) -> None:
    columns = good()
    nothing = replace(
        columns,
        **{name: np.full_like(getattr(columns, name), np.nan) for name in ("fwhm_arcsec", "depth_mag", "psf_mag")},
    )
    some = nothing if len(missing) == len(ALL) else columns
    in_sample, counts = apply_cuts(some, SPEC_Z, HSC, ALL - set(missing))
    assert in_sample.tolist() == [True]
    assert [count.name for count in counts if count.note == "no data"] == skipped


def test_a_patch_table_without_one_band_is_used_in_the_others() -> None:
    columns = with_value("fwhm_arcsec", math.nan, 4)
    in_sample, counts = apply_cuts(columns, SampleCuts(), HSC, ALL - {"fwhm_arcsec_y"})
    assert in_sample.tolist() == [True]
    assert counts[1].note == "no data in y"
    columns.fwhm_arcsec[0, 0] = 1.2
    assert apply_cuts(columns, SampleCuts(), HSC, ALL - {"fwhm_arcsec_y"})[0].tolist() == [False]


@pytest.mark.parametrize(
    ("cuts", "name"),
    [
        (replace(SPEC_Z, max_fwhm_arcsec=None), "seeing"),
        (replace(SPEC_Z, use_depth=False), "depth"),
        (replace(SPEC_Z, max_magnitude=None), "magnitude"),
        (replace(SPEC_Z, flags=FLAG_NAMES[1:]), "pixelflags_edge"),
        (replace(SPEC_Z, min_extendedness_mag=None), "extendedness"),
        (replace(SPEC_Z, redshift=None), "redshift"),
        (replace(SPEC_Z, colours=(("r", "z", 1.0),)), "g-r"),
    ],
)
def test_each_cut_can_be_switched_off(cuts: SampleCuts, name: str) -> None:
    everything = [count.name for count in apply_cuts(good(), SPEC_Z, HSC, ALL)[1]]
    assert [count.name for count in apply_cuts(good(), cuts, HSC, ALL)[1]] == [
        item for item in everything if item != name
    ]


def test_with_every_cut_off_only_quarantine_matters() -> None:
    columns = replace(good(3), usable=np.array([True, False, True]))
    in_sample, counts = apply_cuts(columns, OFF, HSC, set())
    assert in_sample.tolist() == [True, False, True]
    assert counts == [CutCount("scored", "not quarantined", 3, 2)]


def test_a_survey_without_depth_limits_has_no_depth_cut() -> None:
    survey = replace(HSC, min_depth_mag=(math.nan,) * 5)
    assert "depth" not in [count.name for count in apply_cuts(good(), SampleCuts(), survey, ALL)[1]]


def test_depth_limits_from_a_percentile() -> None:
    cuts = replace(SampleCuts(), depth_percentile=5.0)
    with pytest.raises(SwimmyError, match="depth_percentile is 5, but no depth limits"):
        apply_cuts(good(), cuts, HSC, ALL)
    assert apply_cuts(good(), cuts, HSC, ALL, [27.5, 0, 0, 0, 0])[0].tolist() == [False]
    assert apply_cuts(good(), cuts, HSC, ALL, [math.nan, 0, 0, 0, 0])[0].tolist() == [True]
    in_sample, counts = apply_cuts(good(), cuts, HSC, ALL, [math.nan] * 5)
    assert in_sample.tolist() == [True]
    assert counts[2] == CutCount("depth", "5-sigma depth >= percentile 5", 1, 1, "no data")


# ---------------------------------------------------------------- against a plain loop


def test_extendedness_where_there_are_no_psf_magnitudes() -> None:
    """Point sources by the catalogue's own column; PSF magnitudes count where they are there."""
    columns = good(4)
    columns.flags[1] = 1 << ALL_FLAGS.index("point_source")
    columns.psf_mag[2] = 18.5
    only = replace(OFF, min_extendedness_mag=0.2)
    n = len(columns.flags)
    without, counts = apply_cuts(columns, only, HSC, {"mag_i", "point_source"})
    assert without.tolist() == [row != 1 for row in range(n)]
    assert counts[-1].rule == "i_extendedness_value > 0.5, as there are no PSF magnitudes"
    both, _ = apply_cuts(columns, only, HSC, {"mag_i", "psf_mag", "point_source"})
    assert both.tolist() == [row != 2 for row in range(n)]
    assert apply_cuts(columns, OFF, HSC, {"mag_i", "point_source"})[0].all()


def random_columns(seed: int, n_objects: int) -> SampleColumns:
    rng = np.random.default_rng(seed)

    def values(shape, low: float, high: float, dtype=np.float32) -> np.ndarray:
        array = rng.uniform(low, high, shape).astype(dtype)
        array[rng.random(shape) < 0.02] = np.nan
        return array

    flags = np.where(rng.random(n_objects) < 0.8, 0, rng.integers(0, 1 << 10, n_objects)).astype(np.uint32)
    return SampleColumns(
        usable=rng.random(n_objects) < 0.9,
        fwhm_arcsec=values((n_objects, 5), 0.5, 1.02),
        depth_mag=values((n_objects, 5), 25.3, 27),
        mag=values((n_objects, 5), 18.5, 20.1),
        psf_mag=values(n_objects, 19, 21),
        flags=flags,
        redshift=values(n_objects, 0.04, 0.22, np.float64),
    )


def passes(columns: SampleColumns, n: int) -> bool:
    g, r, i, z, _ = (float(value) for value in columns.mag[n])
    return bool(
        columns.usable[n]
        and all(fwhm <= 1.0 for fwhm in columns.fwhm_arcsec[n])
        and all(depth >= limit for depth, limit in zip(columns.depth_mag[n], HSC.min_depth_mag, strict=True))
        and i < 20
        and columns.flags[n] == 0
        and float(columns.psf_mag[n]) - i > 0.2
        and 0.05 < columns.redshift[n] < 0.2
        and g - r < 1.2
        and r - z < 1.0
    )


def part_of(columns: SampleColumns, rows: slice) -> SampleColumns:
    return SampleColumns(**{name: getattr(columns, name)[rows] for name in SampleColumns.__annotations__})


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 60), max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_split_gives_the_loops_sample_and_counts_that_add_up(seed: int, edges: list[int]) -> None:
    columns = random_columns(seed, 60)
    whole, counts = apply_cuts(columns, SPEC_Z, HSC, ALL)
    assert whole.tolist() == [passes(columns, n) for n in range(60)]
    bounds = [0, *sorted(edges), 60]
    parts = [apply_cuts(part_of(columns, slice(lo, hi)), SPEC_Z, HSC, ALL) for lo, hi in itertools.pairwise(bounds)]
    assert np.concatenate([part[0] for part in parts]).tolist() == whole.tolist()
    assert merge_counts([part[1] for part in parts]) == counts
    assert counts[0].before == 60
    assert all(cut.after == following.before for cut, following in itertools.pairwise(counts))
    assert counts[-1].after == whole.sum()


FAILED = [
    ("usable", None, False, ("scored", "not quarantined", "")),
    ("fwhm_arcsec", 2, 1.25, ("seeing", "PSF FWHM <= 1 arcsec in every band", "g 0.7, r 0.7, i 1.25, z 0.7, y 0.7")),
    ("depth_mag", 4, -99, ("depth", "5-sigma depth >= g 25.82, r 25.49, i 25.23, z 24.47, y 23.59 mag",
                           "g 27, r 27, i 27, z 27, y unknown")),
    ("flags", None, 1, ("pixelflags_edge", "pixelflags_edge is False", "")),
    ("psf_mag", None, np.nan, ("extendedness", "i PSF - cmodel magnitude > 0.2", "unknown")),
    ("mag", 0, 20.5, ("g-r", "g - r < 1.2", "1.7")),
]  # fmt: skip


@pytest.mark.parametrize(("column", "band", "value", "failed"), FAILED, ids=[row[3][0] for row in FAILED])
def test_a_failed_cut_is_named_with_its_value(column: str, band: int | None, value: float, failed: tuple) -> None:
    (found,) = failed_cuts(with_value(column, value, band), SPEC_Z, HSC, ALL)
    assert [(cut.name, cut.rule, cut.value) for cut in found] == [failed]


def test_an_object_is_in_the_sample_where_it_fails_no_cut() -> None:
    columns = random_columns(3, 200)
    in_sample, _ = apply_cuts(columns, SPEC_Z, HSC, ALL)
    failed = failed_cuts(columns, SPEC_Z, HSC, ALL)
    assert [not cuts for cuts in failed] == in_sample.tolist()
    assert max(map(len, failed)) > 1


def test_counts_are_plain_json_values() -> None:
    counts = apply_cuts(good(2), SampleCuts(), HSC, ALL)[1]
    assert [CutCount(**asdict(count)) for count in counts] == counts
    assert all(type(value) in (str, int) for count in counts for value in asdict(count).values())


def test_merging_nothing_gives_nothing_and_other_cuts_are_refused() -> None:
    assert merge_counts([]) == []
    strict, loose = (apply_cuts(good(), cuts, HSC, ALL)[1] for cuts in (SampleCuts(), OFF))
    with pytest.raises(SwimmyError, match="parts were cut differently"):
        merge_counts([strict, loose])


# ---------------------------------------------------------------- the patch table


def test_fifth_percentile_of_a_patch_table() -> None:
    depths = 20.0 + np.arange(101) / 8
    table = np.column_stack([depths, depths[::-1], np.full(101, np.nan)])
    table[3, 0] = np.nan
    expected = [np.percentile(np.delete(depths, 3), 5), 20.625]
    limits = depth_percentile(table)
    assert limits[:2].tolist() == expected
    assert math.isnan(limits[2])
    assert depth_percentile(table, 50)[1] == 26.25
    unknown = np.tile([[99.0], [-99.0], [0.0], [np.inf]], (25, 3))
    np.testing.assert_array_equal(depth_percentile(np.concatenate([table, unknown])), limits)


@pytest.mark.parametrize(("shape", "percent"), [((3,), 5), ((3, 2), 0), ((3, 2), 100)])
def test_percentiles_that_make_no_sense_are_refused(shape, percent) -> None:
    with pytest.raises(SwimmyError, match="need \\(n_patches, n_bands\\)"):
        depth_percentile(np.ones(shape), percent)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"max_fwhm_arcsec": 0.0}, "max_fwhm_arcsec 0.0 must be positive"),
        ({"max_magnitude": math.nan}, "max_magnitude nan must be a finite number"),
        ({"depth_percentile": 100.0}, "depth_percentile 100.0 must lie between"),
        (
            {"flags": ("pixelflags_bda",)},
            "no flag is called pixelflags_bda. Did you mean pixelflags_bad.* 14 flags in all",
        ),
        ({"flags": ("pixelflags_bad",) * 2}, "flags has pixelflags_bad twice"),
        ({"redshift": (0.2, 0.05)}, "must go from a smaller to a larger"),
        ({"redshift": (math.nan, 0.2)}, "must go from a smaller to a larger"),
        ({"colours": (("g", "g", 1.0),)}, "needs two bands"),
        ({"colours": (("g", "r", math.inf),)}, "finite number"),
    ],
)
def test_cuts_that_make_no_sense_are_refused(change: dict, text: str) -> None:
    with pytest.raises(SwimmyError, match=text):
        SampleCuts(**change)


def test_cuts_from_a_job_file() -> None:
    adapter = pydantic.TypeAdapter(SampleCuts)
    given_cuts = adapter.validate_python({"max_magnitude": 19, "colours": [["g", "i", 1]], "redshift": [0.05, 0.2]})
    assert given_cuts == SampleCuts(max_magnitude=19.0, colours=(("g", "i", 1.0),), redshift=(0.05, 0.2))
    with pytest.raises(pydantic.ValidationError, match="max_magnitud"):
        adapter.validate_python({"max_magnitud": 19})


@pytest.mark.parametrize(
    ("columns", "survey", "available", "limits", "text"),
    [
        (
            good(),
            Survey(bands=("g", "r", "i"), band_divisors=(1,) * 3, min_depth_mag=(1,) * 3),
            ALL,
            None,
            "no band 'z'",
        ),
        (good(), HSC, {"mag_u"}, None, "available columns mag_u are unknown"),
        (replace(good(), mag=np.ones((1, 3), np.float32)), HSC, ALL, None, r"mag has shape \(1, 3\), needs \(1, 5\)"),
        (replace(good(), redshift=np.ones(2)), HSC, ALL, None, r"redshift has shape \(2,\)"),
        (replace(good(), flags=np.ones(1, np.float32)), HSC, ALL, None, "flags is float32"),
        (good(), HSC, ALL, [1.0], "1 depth limits for 5 bands"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns, survey, available, limits, text) -> None:
    with pytest.raises(SwimmyError, match=text):
        apply_cuts(columns, SampleCuts(), survey, available, limits)


def test_colours_are_checked_before_any_work() -> None:
    with pytest.raises(SwimmyError, match="has no band 'u', only g, r, i, z, y"):
        check_cuts(SampleCuts(colours=(("u", "g", 1.0),)), HSC)
