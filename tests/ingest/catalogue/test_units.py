"""Units that catalogues declare: converted as astropy and arithmetic say, or refused by name."""

from __future__ import annotations

import math
from pathlib import Path

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import Angle
from astropy.io.votable import from_table, writeto
from astropy.table import QTable, Table
from pyarrow import parquet

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.catalogue import CatalogueSource, read_catalogue
from swimmy_scale.ingest.catalogue.objects import Objects
from swimmy_scale.ingest.catalogue.units import converted, is_sexagesimal, sexagesimal_degrees
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import HSC

NAN = math.nan
FORMS = ("fits", "ecsv", "quantity.ecsv", "vot", "parquet", "field.parquet", "vo.parquet")


def small_catalogue(n: int = 2) -> Table:
    table = Table(
        {"object_id": np.arange(n) + 43158172147386000, "ra": 150.0 + np.arange(n) / 8, "dec": np.full(n, -2.5)}
    )
    for band in HSC.bands:
        table[f"fwhm_arcsec_{band}"] = np.full(n, 0.7)
        table[f"{band}_cmodel_mag"] = np.full(n, 18.5)
    return table


def write(table: Table, path: Path) -> Path:
    """Write a table with its units, without the project's own code."""
    if path.name.endswith("field.parquet"):
        names = table.colnames
        fields = [
            pa.field(name, pa.array(table[name].value).type, metadata={"unit": str(table[name].unit)}) for name in names
        ]
        columns = [pa.array(table[name].value) for name in names]
        parquet.write_table(pa.table(columns, schema=pa.schema(fields)), path)
    elif path.name.endswith("vo.parquet"):
        table.write(
            path,
            format="parquet.votable",
            metadata={name: {"unit": str(table[name].unit or "")} for name in table.colnames},
        )
    elif path.name.endswith("vot"):
        writeto(from_table(table), str(path))
    elif path.name.endswith("quantity.ecsv"):
        QTable(table).write(path, format="ascii.ecsv")
    else:
        table.write(path, **({"format": "ascii.ecsv"} if path.name.endswith("ecsv") else {}))
    return path


def read(table: Table, path: Path, **options: object) -> Objects:
    return read_catalogue(CatalogueSource(write(table, path), **options), HSC)


@pytest.mark.parametrize("form", FORMS)
def test_declared_units_are_used_in_every_format(tmp_path: Path, form: str) -> None:
    plain, table = small_catalogue(), small_catalogue()
    # FITS has no hour of angle.
    table["ra"] = np.asarray(plain["ra"]) / 15 * (u.hour if form == "fits" else u.hourangle)
    table["dec"] = np.radians(plain["dec"]) * u.rad
    table["fwhm_arcsec_g"] = np.asarray(plain["fwhm_arcsec_g"]) / 3600 * u.deg
    table["fwhm_arcsec_r"] = np.asarray(plain["fwhm_arcsec_r"]) * 1000 * u.mas
    table["i_cmodel_mag"] = np.array([3.631, -3.631]) * u.mJy
    objects = read(table, tmp_path / f"catalogue.{form}")
    np.testing.assert_allclose(objects.ra, plain["ra"], rtol=1e-14)
    np.testing.assert_allclose(objects.dec, plain["dec"], rtol=1e-14)
    np.testing.assert_allclose(objects.fwhm_arcsec, 0.7, rtol=1e-6)
    np.testing.assert_allclose(objects.mag[:, 2], [-2.5 * math.log10(3.631e-3 / 3631), NAN], atol=1e-3)
    assert any("ra converted from " in warning for warning in objects.warnings)
    assert any("dec converted from rad to deg" in warning for warning in objects.warnings)
    assert objects.faults == []


@pytest.mark.parametrize(
    ("declared", "unit", "column", "value", "expected"),
    [
        ("deg", "deg", "ra", 1.5, 1.5),
        ("Degrees", "deg", "ra", 1.5, 1.5),
        ("rad", "deg", "dec", 1.5, 1.5 * 180 / math.pi),
        ("arcmin", "deg", "dec", 30.0, 0.5),
        ("hour", "deg", "plug_ra", 1.5, 22.5),  # an hour of time, as HEASARC writes hours of angle
        ("h", "deg", "ra", 1.5, 22.5),
        ("mas", "arcsec", "fwhm_arcsec_g", 700.0, 0.7),
        ("deg2", "arcsec2", "g_sdssshape_psf_shape11", 1.0, 3600.0**2),
        ("uJy", "nJy", "g_cmodel_flux", 2.0, 2000.0),
        ("10-32W/m2/Hz", "nJy", "g_cmodel_flux", 2.0, 2000.0),  # uJy, as VizieR writes it
        ("nanomaggies", "nJy", "g_cmodel_flux", 1.0, 3630.780547701),
        ("nmgy", "nJy", "g_cmodel_flux", 1.0, 3630.780547701),
        ("mag", "mag", "g_cmodel_mag", 18.5, 18.5),
        ("mag(AB)", "mag", "g_cmodel_mag", 18.5, 18.5),
        ("AB mag", "mag", "g_cmodel_mag", 18.5, 18.5),
        ("nJy", "mag", "g_cmodel_mag", 3630.780547701e9, 0.0),
        ("A", "Angstrom", "h_alpha_eqw", 2.0, 2.0),
        ("0.1nm", "Angstrom", "h_alpha_eqw", 2.0, 2.0),
        ("\N{ANGSTROM SIGN}", "Angstrom", "h_alpha_eqw", 2.0, 2.0),
        ("nm", "Angstrom", "h_alpha_eqw", 2.0, 20.0),
        ("---", "", "redshift", 0.1, 0.1),
        ("z", "", "redshift", 0.1, 0.1),
        ("", "arcsec", "fwhm_arcsec_g", 0.7, 0.7),
    ],
)
def test_conversions(declared: str, unit: str, column: str, value: float, expected: float) -> None:
    found = converted(np.array([value, NAN]), declared, unit, column, Path("t.fits"))
    np.testing.assert_allclose(found, [expected, NAN], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("declared", "unit", "column", "said"),
    [
        ("pix", "arcsec", "fwhm_arcsec_g", "'pix', which cannot become arcsec"),
        ("pixel**2", "arcsec2", "g_sdssshape_psf_shape11", "'pixel\\*\\*2', which cannot become arcsec2"),
        ("count", "nJy", "g_cmodel_flux", "'count', which cannot become nJy"),
        ("mag(ST)", "mag", "g_cmodel_mag", r"'mag\(ST\)', which cannot become AB magnitudes"),
        ("Vega", "mag", "g_cmodel_mag", "'Vega', which astropy does not understand"),
        ("hour", "deg", "dec", "'hour', which cannot become deg"),
        ("km/s", "", "redshift", "'km/s', which cannot become a number without unit"),
        ("MJy/sr", "nJy", "g_cmodel_flux", "'MJy/sr', which cannot become nJy"),
    ],
)
def test_other_units_are_refused_by_name(declared: str, unit: str, column: str, said: str) -> None:
    with pytest.raises(SwimmyError, match=f"t.fits: column {column} has the unit {said}.* --unit {column}=UNIT"):
        converted(np.ones(1), declared, unit, column, Path("t.fits"))


def test_unit_that_the_user_states_goes_before_the_files(tmp_path: Path) -> None:
    table = small_catalogue()
    table["ra"] = np.radians(table["ra"])
    table["ra"].unit = "deg"  # a lie
    path = tmp_path / "catalogue.fits"
    assert read(table, path, units={"RA": "rad"}).ra == pytest.approx([150.0, 150.125], rel=1e-14)
    with pytest.raises(SwimmyError, match=r"--unit redshift=1: .*catalogue\.fits has no column of that meaning"):
        read_catalogue(CatalogueSource(path, units={"redshift": "1"}), HSC)
    with pytest.raises(SwimmyError, match="column ra has the unit 'furlong', which astropy does not understand"):
        read_catalogue(CatalogueSource(path, units={"ra": "furlong"}), HSC)


def test_units_of_patch_qa(tmp_path: Path) -> None:
    table = small_catalogue()
    table.remove_columns([f"fwhm_arcsec_{band}" for band in HSC.bands])
    table["tract"], table["patch"] = 9813, 405
    seeing = {f"{band}seeing": [0.7 / 60] * u.arcmin for band in HSC.bands}
    qa = write(Table({"tract": [9813], "patch": [405], **seeing}), tmp_path / "qa.fits")
    objects = read(table, tmp_path / "catalogue.fits", patch_qa=qa)
    np.testing.assert_allclose(objects.fwhm_arcsec, 0.7, rtol=1e-6)
    assert any("gseeing, rseeing, iseeing, zseeing, yseeing converted from arcmin" in w for w in objects.warnings)


# ---- angles in base 60


@pytest.mark.parametrize("form", ["fits", "csv", "ecsv", "vot"])
@pytest.mark.parametrize(
    ("ra", "dec"),
    [("10:00:30.5", "-00:30:15.25"), ("10 00 30.5", "-0 30 15.25"), ("10h00m30.5s", "-0d30m15.25s"),
     ("150d07m37.5s", "-00:30:15.25")],
)  # fmt: skip
def test_angles_in_base_60(tmp_path: Path, form: str, ra: str, dec: str) -> None:
    table = small_catalogue()
    table["ra"], table["dec"] = [ra, ra], [dec, dec]
    path = tmp_path / f"catalogue.{form}"
    objects = read(table, path) if form != "csv" else (table.write(path), read_catalogue(CatalogueSource(path), HSC))[1]
    assert objects.ra == pytest.approx([Angle("10h0m30.5s").deg] * 2, rel=1e-14)
    assert objects.dec == pytest.approx([-(30 / 60 + 15.25 / 3600)] * 2, rel=1e-14)


def test_unit_of_text_in_base_60_says_hours_or_degrees() -> None:
    text = np.array(["10:00:30"])
    assert sexagesimal_degrees(text, '"h:m:s"', "ra")[0] == pytest.approx(150.125)
    assert sexagesimal_degrees(text, '"d:m:s"', "ra")[0] == pytest.approx(10 + 30 / 3600)
    assert sexagesimal_degrees(text, "", "dec")[0] == pytest.approx(10 + 30 / 3600)


@pytest.mark.parametrize("text", ["10.5", "10:00", "north", "10h", "", "1:2:3:4", "10:-1:00"])
def test_other_text_is_no_angle(text: str) -> None:
    assert is_sexagesimal(np.array([text, "-10:00:00.5"])).tolist() == [False, True]


def test_unknown_angles_are_faults_and_one_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("object_id,ra,dec\n1,10:00:00,+02:00:00\n2,,02:00:00\n")
    objects = read_catalogue(CatalogueSource(path), HSC)
    assert objects.ra[0] == pytest.approx(150.0, rel=1e-14)
    wrong = [fault.row for fault in objects.faults if fault.code is Code.POSITION_MISSING]
    assert wrong == [1]
    path.write_text("object_id,ra,dec\n1,25:00:00,02:00:00\n")
    with pytest.raises(SwimmyError, match=r"t.csv: column ra: .*'25.0'.* Correct the value"):
        read_catalogue(CatalogueSource(path), HSC)
    path.write_text("object_id,ra,dec\n1,10:00:00,2\n2,10:00,2\n")
    with pytest.raises(SwimmyError, match="row 0: column ra is '10:00:00', which is not a number"):
        read_catalogue(CatalogueSource(path), HSC)


# ---- frames


@pytest.mark.parametrize(
    ("cards", "refused"),
    [
        ({}, ""),
        ({"RADESYS": "ICRS"}, ""),
        ({"RADESYS": "ICRS", "EQUINOX": 1950.0}, ""),  # ICRS has no equinox
        ({"RADECSYS": "FK5", "EQUINOX": 2000}, ""),
        ({"EQUINOX": 2000.0}, ""),
        ({"RADESYS": "FK4"}, "FK4"),
        ({"RADESYS": "FK5", "EQUINOX": 1975.0}, "FK5 equinox 1975"),
        ({"EQUINOX": 1950.0}, "equinox 1950"),
    ],
)
def test_frames_of_fits_tables(tmp_path: Path, cards: dict[str, object], refused: str) -> None:
    table = small_catalogue()
    table.meta.update(cards)
    if not refused:
        assert read(table, tmp_path / "t.fits").ra.tolist() == [150.0, 150.125]
        return
    with pytest.raises(SwimmyError, match=f"t.fits: column ra is in {refused}, and positions are needed in ICRS"):
        read(table, tmp_path / "t.fits")


@pytest.mark.parametrize(
    ("system", "is_good"), [("ICRS", True), ("eq_FK5", True), ("eq_FK4", False), ("galactic", False)]
)
def test_frames_of_votables(tmp_path: Path, system: str, is_good: bool) -> None:
    path = write(small_catalogue(), tmp_path / "t.vot")
    text = path.read_text().replace("<TABLE", f'<COOSYS ID="frame" system="{system}"/><TABLE', 1)
    path.write_text(text.replace('name="ra"', 'name="ra" ref="frame"').replace('name="dec"', 'name="dec" ref="frame"'))
    source = CatalogueSource(path)
    if is_good:
        assert read_catalogue(source, HSC).ra.tolist() == [150.0, 150.125]
        return
    with pytest.raises(SwimmyError, match=f"column ra is in {system}, and positions are needed in ICRS"):
        read_catalogue(source, HSC)
