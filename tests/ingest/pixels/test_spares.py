"""Objects with several files for a band: overlapping tracts, repeated requests, overlapping coadds."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from archive_files import DECS, IDS, RAS, Ingested, cutout, name_of, pixels_of, upload, write
from coadd_files import write_coadd
from tar_files import write_tar

from swimmy_scale.ingest.pixels.sources import build_index, list_source, read_rows
from swimmy_scale.method.survey import HSC, FloatArray, Survey

ONE = Survey(bands=("g",), selecting_bands=("g",), magnitude_band="g", band_divisors=(1.0,), min_depth_mag=(25.0,))
N = 80
SAME, OTHER, UNUSABLE, EMPTY = (
    f"a file of an object is not used: {reason}"
    for reason in (
        "a file of the same tract is used",
        "a file of another tract is used",
        "it has no usable data",
        "it is partly empty",
    )
)


def nan_beyond(image: FloatArray) -> FloatArray:
    image[:, 55:] = np.nan
    return image


def zeros_over_the_middle(image: FloatArray) -> FloatArray:
    image[:, 38:] = 0.0
    return image


def zeros_outside(image: FloatArray) -> FloatArray:
    image[:, 60:] = 0.0
    return image


def cut_off(image: FloatArray) -> FloatArray:
    return np.ascontiguousarray(image[:, :50])


def tract(
    number: int, spoil: Callable[[FloatArray], FloatArray] = lambda image: image, bands: str = "grizy", row: int = 0
):
    """Files of one object in one tract, spoilt in every band."""
    return {
        name_of("arch-1", row + 2, band, number): cutout(row, k, spoil(pixels_of(row, k, N)), n=N)
        for k, band in enumerate("grizy")
        if band in bands
    }


class TestTracts:
    @pytest.mark.parametrize("spoil", [nan_beyond, zeros_over_the_middle, cut_off])
    @pytest.mark.parametrize("bad", [9812, 9813])
    @pytest.mark.parametrize("stated", [9812, 9813, -1])
    @pytest.mark.parametrize("form", ["folder", "tar.gz"])
    def test_the_one_with_data_wins(self, tmp_path: Path, spoil: Callable, bad: int, stated: int, form: str) -> None:
        files = tract(bad, spoil) | tract(9812 + 9813 - bad)
        source = write(tmp_path / "a", files) if form == "folder" else write_tar(tmp_path / "a.tar.gz", files, "w:gz")
        found = Ingested(source, n=1, tract=np.array([stated], np.int32))
        assert found.rows(N) == [0]
        assert not found.partly_empty[0]
        # Files that were never looked into, as the catalogue's tract is good, are only known to be another tract's.
        first_is_bad = stated == bad or (stated == -1 and bad == 9812)
        assert Counter(found.notes) == {UNUSABLE if first_is_bad else OTHER: 5}

    def test_the_catalogues_tract_of_two_good_ones(self, tmp_path: Path) -> None:
        files = tract(9812) | tract(9813)
        for stated in (9812, 9813):
            found = Ingested(write(tmp_path, files), n=1, tract=np.array([stated], np.int32))
            assert {str(stated) in found.index.describe(file) for file in found.index.file[0].tolist()} == {True}
            assert found.notes == [OTHER] * 5

    def test_partly_empty_loses(self, tmp_path: Path) -> None:
        found = Ingested(write(tmp_path, tract(9812, zeros_outside) | tract(9813)), n=1)
        assert found.rows(N) == [0]
        assert (found.notes, found.partly_empty.tolist()) == ([EMPTY] * 5, [False])
        alone = Ingested(write(tmp_path / "alone", tract(9812, zeros_outside)), n=1)
        assert (alone.faults, alone.partly_empty.tolist()) == ({}, [True])

    def test_bands_of_two_tracts_only_where_none_has_all(self, tmp_path: Path) -> None:
        stated = np.array([9812], np.int32)
        found = Ingested(write(tmp_path / "a", tract(9812, bands="gri") | tract(9813)), n=1, tract=stated)
        assert found.rows(N) == [0]
        assert {"9813" in found.index.describe(file) for file in found.index.file[0].tolist()} == {True}
        assert "1 objects have files of another tract than the catalogue's" in found.index.warnings[1]
        found = Ingested(write(tmp_path / "b", tract(9812, bands="gri") | tract(9813, bands="izy")), n=1, tract=stated)
        assert found.rows(N) == [0]
        assert "1 objects have their bands from several tracts, patches or reruns" in found.index.warnings[0]

    def test_mixed_where_data_lack(self, tmp_path: Path) -> None:
        """Each tract has a band without data."""
        files = tract(9812) | tract(9813)
        files |= tract(9812, zeros_over_the_middle, "g") | tract(9813, nan_beyond, "y")
        found = Ingested(write(tmp_path, files), n=1)
        assert found.rows(N) == [0]
        mixed = "an object has its bands from several tracts or reruns, as none has data in all of them"
        assert Counter(found.notes) == {mixed: 1, UNUSABLE: 2, OTHER: 3}

    def test_no_data_anywhere(self, tmp_path: Path) -> None:
        files = tract(9812, zeros_over_the_middle) | tract(9813, zeros_over_the_middle)
        found = Ingested(write(tmp_path, files), n=1)
        assert found.faults[0].code.label == "no_data"
        assert np.isnan(found.image).all()

    def test_filters_by_two_names(self, tmp_path: Path) -> None:
        """HSC-R and HSC-R2 are one band."""
        files = tract(9813)
        files["arch-1/2-cutout-HSC-R2-9813-pdr3_wide.fits"] = files[name_of("arch-1", 2, "r")]
        files[name_of("arch-1", 2, "r")] = b"broken"
        found = Ingested(write(tmp_path, files), n=1)
        assert found.rows(N) == [0]
        assert found.notes == [UNUSABLE]

    def test_an_object_in_two_uploads(self, tmp_path: Path) -> None:
        files = upload("arch-1", [0, 1, 2]) | upload("arch-2", [2, 3])
        files[name_of("arch-1", 4, "i")] = b"broken"
        found = Ingested(write(tmp_path, files), n=4)
        assert found.rows() == [0, 1, 2, 3]
        assert Counter(found.notes) == {SAME: 4, UNUSABLE: 1}

    def test_slices(self, tmp_path: Path) -> None:
        """A partition takes its own spare files along, and its identity and pixels depend on them alone."""
        files: dict[str, bytes] = {}
        for row in range(4):
            files |= tract(9812, nan_beyond if row % 2 else cut_off, row=row) | tract(9813, row=row)
        folder = write(tmp_path, files)
        whole = Ingested(folder, n=4)
        assert whole.rows(N) == [0, 1, 2, 3]
        for lo, hi in ((0, 2), (1, 3), (3, 4), (2, 2)):
            part = pickle.loads(pickle.dumps(whole.index.slice(lo, hi)))  # noqa: S301
            assert len(part.files) == 10 * (hi - lo)
            image, faults, notes, _ = read_rows(part, lo, IDS[lo:hi], RAS[lo:hi], DECS[lo:hi], HSC)
            assert faults == []
            assert notes == [UNUSABLE] * (5 * (hi - lo))
            np.testing.assert_array_equal(image, whole.image[lo:hi])
        before = whole.index.slice(1, 2).fingerprint()
        (folder / name_of("arch-1", 3, "g", 9813)).write_bytes(cutout(1, 0, n=N, OBJECT="again"))
        after = Ingested(folder, n=4).index
        assert after.slice(1, 2).fingerprint() != before
        assert after.slice(0, 1).fingerprint() == whole.index.slice(0, 1).fingerprint()


class TestCoadds:
    def test_the_one_with_data_wins(self, tmp_path: Path) -> None:
        """Patches overlap, and one of them is empty there."""
        data = np.random.default_rng(5).normal(size=(300, 260)).astype(np.float32)
        blank = data.copy()
        blank[100:200] = 0.0
        paths = [write_coadd(tmp_path / "a-g.fits", blank), write_coadd(tmp_path / "b-g.fits", data, CRPIX1=130.6)]
        listings = [list_source(path, ONE, kind="coadd") for path in paths]
        ra, dec, ids = np.array([150.0]), np.array([2.0]), np.array([1])
        index = build_index(listings, ids, ra, dec, ONE)
        assert index.describe(int(index.file[0, 0])) == str(paths[0])
        image, faults, notes, _ = read_rows(index, 0, ids, ra, dec, ONE)
        assert (faults, notes) == ([], [UNUSABLE])
        np.testing.assert_array_equal(image[0, 0], data[118:182, 98:162])

    @pytest.mark.parametrize("n_coadds", [2, 3])
    def test_bands_of_two_patches_are_told(self, tmp_path: Path, n_coadds: int) -> None:
        """Unless there is one coadd a band, and so no choice."""
        data = np.random.default_rng(5).normal(size=(300, 260)).astype(np.float32)
        survey = Survey(
            bands=("g", "r"),
            selecting_bands=("g",),
            magnitude_band="g",
            band_divisors=(1.0,) * 2,
            min_depth_mag=(25.0,) * 2,
        )
        paths = [
            write_coadd(tmp_path / "a-g.fits", data),
            write_coadd(tmp_path / "b-r.fits", data, CRPIX1=150.0),
            write_coadd(tmp_path / "c-g.fits", data, CRVAL1=160.0),
        ]
        listings = [list_source(path, survey, kind="coadd") for path in paths[:n_coadds]]
        index = build_index(listings, np.array([7]), np.array([150.0]), np.array([2.0]), survey)
        said = [warning for warning in index.warnings if "from several tracts, patches or reruns" in warning]
        assert len(said) == n_coadds - 2
        assert not said or (said[0].startswith("1 objects") and said[0].endswith("object_id 7"))
