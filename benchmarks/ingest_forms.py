"""Ingest of public data sets' forms against a plain loop with the form's library, in turn; prints a table, writes JSON.

    python benchmarks/ingest_forms.py --n-objects 512 --repeat 3 --json benchmarks/results/ingest_forms.json

Both ways go from files to a Zarr store in one process. The plain loop reads and crops row by row, as one writes it
first; ingest also checks, digests, reads back and commits. Ratios count and rates do not: machines are shared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import report, row

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
N_BANDS, SIZE_PX, STAMP_PX, SHARD = 5, 64, 160, 128
FEWER = 8  # times as few of Rubin's files
FWHM = (0.79, 0.73, 0.61, 0.68, 0.71)
Pixels = Iterator[np.ndarray]


def stamps(n: int, size: int, seed: int, n_bands: int = N_BANDS) -> np.ndarray:
    """Noise with a bright middle, which compresses like pixels of the sky: not at all."""
    image = np.random.default_rng(seed).normal(0, 0.02, (n, n_bands, size, size)).astype(np.float32)
    image[..., size // 2 - 4 : size // 2 + 4, size // 2 - 4 : size // 2 + 4] += 5
    return image


def catalogue(first: int, n: int, bands: str = "grizy") -> dict[str, np.ndarray]:
    """Ids, positions and magnitudes."""
    k = np.arange(first, first + n)
    columns = {"object_id": k + 10**12, "ra": 150.0 + 0.001 * k, "dec": np.full(n, 2.0)}
    return columns | {f"{band}_cmodel_mag": np.full(n, 18.0) for band in bands}


def shards(n: int) -> Iterator[tuple[int, int]]:
    """First object and number of objects of each file."""
    return ((lo, min(SHARD, n - lo)) for lo in range(0, n, SHARD))


def mmu_columns(first: int, n: int) -> dict[str, np.ndarray]:
    """All columns of a shard of MultimodalUniverse."""
    flux = stamps(n, STAMP_PX, first)
    band = np.array([[f"hsc-{name}".encode() for name in "grizy"]] * n, "S5")
    more = {"image_array": flux, "image_ivar": np.ones_like(flux), "image_mask": np.ones(flux.shape, bool)}
    widths = {
        "image_psf_fwhm": np.tile(np.array(FWHM, np.float32), (n, 1)),
        "image_scale": np.full((n, 5), 0.168, np.float32),
    }
    return {**catalogue(first, n), "image_band": band, **more, **widths}


def write_mmu(folder: Path, n: int) -> None:
    """MultimodalUniverse's HSC in HDF5."""
    from public_files import write_shard

    for lo, size in shards(n):
        write_shard(folder / "data" / f"healpix={lo}" / "001-of-001.hdf5", mmu_columns(lo, size))


def write_mmu_hats(folder: Path, n: int) -> None:
    """The same in HATS form."""
    from public_files import write_hats

    write_hats(folder / "data", [mmu_columns(lo, size) for lo, size in shards(n)], rows_in_group=16)


def write_galaxiesml(folder: Path, n: int) -> None:
    """GalaxiesML: one file, not compressed."""
    from public_files import write_shard

    widths = {f"fwhm_arcsec_{band}": np.full(n, fwhm) for band, fwhm in zip("grizy", FWHM, strict=True)}
    write_shard(folder / "data" / "5x64x64.hdf5", {"image": stamps(n, SIZE_PX, 0), **catalogue(0, n), **widths}, None)


def write_legacy(folder: Path, n: int) -> None:
    """Cubes of the Legacy Surveys' viewer, a file an object."""
    from astropy.table import Table
    from public_fits import legacy_cutout

    (folder / "data").mkdir()
    columns = catalogue(0, n, "griz") | {f"fwhm_arcsec_{band}": np.full(n, 1.1) for band in "griz"}
    for k, cube in enumerate(stamps(n, 128, 0, 4)):
        file = legacy_cutout(columns["ra"][k], columns["dec"][k], cube, "griz")
        (folder / "data" / f"{columns['object_id'][k]}.fits").write_bytes(file)
    Table(columns).write(folder / "catalogue.fits")


def plain_hdf5(folder: Path, name: str) -> Pixels:
    """Row by row with h5py."""
    import h5py

    for path in sorted((folder / "data").rglob("*.hdf5")):
        with h5py.File(path) as file:
            images = file[name]
            lo = (images.shape[2] - SIZE_PX) // 2
            for k in range(len(images)):
                yield images[k, :, lo : lo + SIZE_PX, lo : lo + SIZE_PX]


def plain_parquet(folder: Path) -> Pixels:
    """Batch by batch with pyarrow, to Python's lists."""
    from pyarrow import parquet

    lo = (STAMP_PX - SIZE_PX) // 2
    for path in sorted((folder / "data" / "dataset").rglob("*.parquet")):
        for batch in parquet.ParquetFile(path).iter_batches(8, columns=["image.flux"]):
            for item in batch.column(0):
                yield np.array(item["flux"].as_py(), np.float32)[:, lo : lo + SIZE_PX, lo : lo + SIZE_PX]


def plain_fits(folder: Path) -> Pixels:
    """File by file with astropy."""
    from astropy.io import fits

    for path in sorted((folder / "data").glob("*.fits")):
        with fits.open(path) as hdulist:
            yield hdulist[0].data[:, 32:96, 32:96]


def write_unagi_file(folder: Path, n: int) -> None:
    """unagi's file, with masks and variances."""
    from astropy.table import Table
    from public_files import write_unagi

    (folder / "data").mkdir()
    columns = catalogue(0, n) | {f"fwhm_arcsec_{band}": np.full(n, FWHM[k]) for k, band in enumerate("grizy")}
    images = [dict(zip((f"HSC-{b}" for b in "GRIZY"), one, strict=True)) for one in stamps(n, 72, 0)]
    objects = dict(zip(columns["object_id"].astype(str).tolist(), images, strict=True))
    write_unagi(folder / "data" / "cutouts.hdf5", objects, {})
    Table(columns).write(folder / "catalogue.fits")


def write_cutana_batches(folder: Path, n: int) -> None:
    """Cutana's batches."""
    from public_files import write_cutana

    for number, (lo, size) in enumerate(shards(n)):
        columns: dict[str, Any] = catalogue(lo, size, "")
        columns["source_id"] = [f"TILE_{k}" for k in columns.pop("object_id")]
        columns |= {f"fwhm_arcsec_{band}": np.full(size, 0.3) for band in ("VIS", "Y", "J", "H")}
        write_cutana(folder / "data", number, 1e-6 * stamps(size, 72, lo, 4), columns, chunk=SHARD)


def plain_unagi(folder: Path) -> Pixels:
    """Group by group with h5py."""
    import h5py

    with h5py.File(folder / "data" / "cutouts.hdf5") as file:
        for group in file.values():
            yield np.stack([group[f"HSC-{band}/HDU0/DATA"][4:68, 4:68] for band in "GRIZY"])


def write_bands(
    folder: Path, n: int, bands: str, write: Callable[[Path, float, float, str, np.ndarray], object]
) -> None:
    """A file an object and band, of 72 px, and their catalogue."""
    from astropy.table import Table

    (folder / "data").mkdir()
    columns = catalogue(0, n, bands) | {f"fwhm_arcsec_{band}": np.full(n, 0.9) for band in bands}
    for number, image in enumerate(stamps(n, 72, 0, len(bands))):
        for k, band in enumerate(bands):
            path = folder / "data" / f"{columns['object_id'][number]}_{band}.fits"
            write(path, columns["ra"][number], columns["dec"][number], band, image[k])
    Table(columns).write(folder / "catalogue.fits")


def write_panstarrs(folder: Path, n: int) -> None:
    """Pan-STARRS: counts of an exposure."""
    from public_fits import panstarrs

    write_bands(folder, n, "grizy", lambda path, ra, dec, _, image: path.write_bytes(panstarrs(ra, dec, image, 430.0)))


def write_dp1(folder: Path, n: int) -> None:
    """Rubin's DP1: compressed image and mask, variance and tables."""
    from public_fits import rubin_exposure

    write_bands(folder, n, "ugrizy", lambda path, ra, dec, _, image: path.write_bytes(rubin_exposure(ra, dec, image)))


def write_dp2(folder: Path, n: int) -> None:
    """Rubin's DP2: coadds in cells."""
    from public_fits import write_rubin_cells

    sigma_px = np.full((3, 3), 2.0)
    write_bands(
        folder, n, "ugrizy", lambda path, ra, dec, band, image: write_rubin_cells(path, ra, dec, image, band, sigma_px)
    )


def plain_bands(folder: Path, bands: str, image: Callable[[Path], Any]) -> Pixels:
    """Object by object, from a file a band."""
    for path in sorted((folder / "data").glob(f"*_{bands[0]}.fits")):
        yield np.stack([image(path.with_name(path.name.replace(f"_{bands[0]}.", f"_{band}."))) for band in bands])


def plain_panstarrs(folder: Path) -> Pixels:
    """File by file with astropy, brought to counts a second."""
    from astropy.io import fits

    def image(path: Path) -> Any:
        with fits.open(path) as hdulist:
            return hdulist[0].data[4:68, 4:68] / hdulist[0].header["EXPTIME"]

    return plain_bands(folder, "grizy", image)


def plain_dp1(folder: Path) -> Pixels:
    """File by file with astropy."""
    from astropy.io import fits

    def image(path: Path) -> Any:
        with fits.open(path) as hdulist:
            return hdulist["IMAGE"].data[4:68, 4:68]

    return plain_bands(folder, "ugrizy", image)


def plain_dp2(folder: Path) -> Pixels:
    """File by file with lsst-images, image and PSF."""
    from lsst.images.serialization import open_archive  # type: ignore[import-not-found,unused-ignore]

    def image(path: Path) -> Any:
        with open_archive(str(path)) as reader:
            pixels, psf = reader.get_component("image"), reader.get_component("psf")
        x, y = pixels.bbox.x, pixels.bbox.y
        psf.compute_kernel_image(x=0.5 * (x.min + x.max), y=0.5 * (y.min + y.max))
        return pixels.array[4:68, 4:68]

    return plain_bands(folder, "ugrizy", image)


def plain_zarr(folder: Path) -> Pixels:
    """Batch by batch with Zarr."""
    import zarr

    for path in sorted((folder / "data").glob("*/images.zarr")):
        images: Any = zarr.open_group(path, mode="r")["images"]
        yield from np.moveaxis(images[:, 4:68, 4:68], 3, 1)


FORMS: dict[str, tuple[Callable[[Path, int], None], Callable[[Path], Pixels], str]] = {
    "MultimodalUniverse, HDF5 (h5py)": (write_mmu, lambda folder: plain_hdf5(folder, "image_array"), "hsc"),
    "MultimodalUniverse, HATS (pyarrow)": (write_mmu_hats, plain_parquet, "hsc"),
    "GalaxiesML (h5py)": (write_galaxiesml, lambda folder: plain_hdf5(folder, "image"), "hsc"),
    "Legacy Surveys' viewer (astropy)": (write_legacy, plain_fits, "legacy-south"),
    "Pan-STARRS, a file a band (astropy)": (write_panstarrs, plain_panstarrs, "panstarrs"),
    "Rubin DP1, a file a band (astropy)": (write_dp1, plain_dp1, "rubin"),
    "Rubin DP2, a file a band (lsst-images)": (write_dp2, plain_dp2, "rubin"),
    "unagi (h5py)": (write_unagi_file, plain_unagi, "hsc"),
    "Cutana (Zarr)": (write_cutana_batches, plain_zarr, "euclid"),
}


def timed_plain(folder: Path, read: Callable[[Path], Pixels]) -> float:
    """Seconds of the plain loop, with its store written."""
    import zarr

    with tempfile.TemporaryDirectory(dir=folder) as output:
        started = time.perf_counter()
        cube = np.stack(list(read(folder)))
        chunks = (256, *cube.shape[1:])
        zarr.create_array(Path(output, "c.zarr"), shape=cube.shape, chunks=chunks, dtype=cube.dtype)[:] = cube
        return time.perf_counter() - started


def timed_ingest(folder: Path, survey_name: str, with_psf: bool) -> float:
    """Seconds of the whole ingest stage in this process."""
    from swimmy_scale.method.named_surveys import read_survey
    from swimmy_scale.method.sections import CatalogueSource, IngestSection, StorageSection
    from swimmy_scale.method.survey import Survey
    from swimmy_scale.stages.engine import SerialExecutor, Silent, run_stage
    from swimmy_scale.stages.ingest import IngestStage
    from swimmy_scale.storage.receipts import Ledger

    values: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in read_survey(survey_name)["survey"].items()
    }
    own = folder / "catalogue.fits"
    catalogue_source = CatalogueSource(own) if own.exists() else CatalogueSource()
    with tempfile.TemporaryDirectory(dir=folder) as output:
        ledger = Ledger(Path(output, "receipts"), Path(output), "ingest")
        sources = IngestSection(sources=(folder / "data",), psf_from_files=with_psf)
        started = time.perf_counter()
        stage = IngestStage(
            ledger, Path(output, "cutouts.zarr"), Survey(**values), catalogue_source, sources, StorageSection()
        )
        run_stage(stage, SerialExecutor(), Silent())
        return time.perf_counter() - started


def main() -> None:
    """Write the files of each form, time both ways in turn, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-objects", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[*FORMS], default=[*FORMS])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in options.only:
        write, read, survey_name = FORMS[name]
        with tempfile.TemporaryDirectory() as place:
            folder, n = Path(place), options.n_objects // (FEWER if survey_name == "rubin" else 1)
            write(folder, n)
            # What is compiled or loaded once falls into the first turn.
            times = [
                (timed_plain(folder, read), timed_ingest(folder, survey_name, read is plain_dp2))
                for _ in range(options.repeat + 1)
            ][1:]
        plain, ours = ([n / pair[way] for pair in times] for way in range(2))
        ratio = statistics.median(np.divide(ours, plain))
        rows.append(row(f"{name}: plain loop", "objects/s", plain))
        rows.append(row(f"{name}: ingest, one process", "objects/s", ours, ratio=float(ratio)))
    notes = [
        "ratio is to the plain loop over the same files, which reads, crops and writes a Zarr store and no more",
        "of unagi's files ingest reads masks, and one by one the cards that tell their planes, zero points and places",
        "of files a band ingest also looks at each header; of DP1 and DP2 it reads the masks, of DP2 the PSF as well",
        f"of DP1 and DP2 one of {FEWER} objects: their files take long to make",
    ]
    report("ingest_forms", rows, options.json, notes, n_objects=options.n_objects, repeat=options.repeat)


if __name__ == "__main__":
    main()
