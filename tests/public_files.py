"""Small files of the forms in which public data sets come, written after their own build scripts.

MultimodalUniverse: scripts/hsc and scripts/legacysurvey, each its build_parent_sample.py. Stamps are cut out
of an image with world coordinates by the same calls as there: ``all_world2pix(ra, dec, 1)`` and ``Cutout2D``. Nothing
here is taken from the program.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from astropy.nddata import Cutout2D
from astropy.wcs import WCS

HSC_BANDS = ("g", "r", "i", "z", "y")
DES_BANDS = ("g", "r", "i", "z")
STAMP = 160
FWHM = {"g": 0.79, "r": 0.73, "i": 0.61, "z": 0.68, "y": 0.71}


def field(seed: int, n: int, scale: float, centre: tuple[float, float], bands: tuple[str, ...], size: int) -> Any:
    """An image a band with ``n`` round galaxies at fractional pixels; their positions on the sky; the WCS."""
    rng = np.random.default_rng(seed)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = centre
    wcs.wcs.crpix = [size / 2, size / 2]
    wcs.wcs.cd = [[-scale / 3600, 0.0], [0.0, scale / 3600]]
    # Far enough apart that none is in another's way.
    row, column = np.divmod(np.arange(n), 6)
    x, y = 100 + 135.0 * column + rng.uniform(0, 15, n), 100 + 135.0 * row + rng.uniform(0, 15, n)
    yy, xx = np.mgrid[:size, :size]
    images = {}
    for band in bands:
        image = rng.normal(0, 0.02, (size, size))
        for k in range(n):
            near = (slice(int(y[k]) - 40, int(y[k]) + 41), slice(int(x[k]) - 40, int(x[k]) + 41))
            r2 = (xx[near] - x[k]) ** 2 + (yy[near] - y[k]) ** 2
            image[near] += (5 + bands.index(band)) * np.exp(-r2 / (2 * 2.5**2))
        images[band] = image.astype(np.float32)
    ra, dec = wcs.all_pix2world(x, y, 0)
    return images, wcs, ra, dec


def stamps(image: np.ndarray, wcs: WCS, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """As the scripts cut them, one pixel off."""
    found = []
    for one_ra, one_dec in zip(ra, dec, strict=True):
        x, y = wcs.all_world2pix(one_ra, one_dec, 1)
        found.append(Cutout2D(image, (x, y), (STAMP, STAMP), wcs=wcs).data)
    return np.stack(found)


def hsc_columns(n: int, seed: int = 0, n_px: int = STAMP) -> dict[str, np.ndarray]:
    """All datasets of a shard of MultimodalUniverse's HSC."""
    rng = np.random.default_rng(seed)
    centre = (150.0 + seed, 2.0)
    images, wcs, ra, dec = field(seed, n, 0.168, centre, HSC_BANDS, 900)
    flux = np.stack([stamps(images[band], wcs, ra, dec) for band in HSC_BANDS], axis=1)
    variance = np.full_like(flux, 4e-4)
    variance[0, :, :3] = 0
    with np.errstate(divide="ignore"):
        ivar = np.nan_to_num(1.0 / variance).astype(np.float32)
    bands = np.array([[f"hsc-{band}".encode() for band in HSC_BANDS]] * n, dtype=h5py.string_dtype("utf-8", 5))
    columns: dict[str, np.ndarray] = {
        "object_id": (np.arange(n) + 43158172147386000 + 10000 * seed).astype(np.int64),
        "ra": ra,
        "dec": dec,
        "tract": np.full(n, 9813, np.int64),
        "patch": np.full(n, 405, np.int64),
        "healpix": np.full(n, 1000 + seed, np.int64),
        "image_band": bands,
        "image_ivar": ivar,
        "image_array": flux.astype(np.float32),
        "image_mask": np.ones(flux.shape, bool),
        "image_psf_fwhm": np.tile(np.array([FWHM[b] for b in HSC_BANDS], np.float32), (n, 1)),
        "image_scale": np.full((n, 5), 0.168, np.float32),
    }
    columns["image_psf_fwhm"] += rng.uniform(-0.01, 0.01, (n, 5)).astype(np.float32)
    for k, band in enumerate(HSC_BANDS):
        columns[f"a_{band}"] = np.full(n, 0.05)
        columns[f"{band}_extendedness_value"] = np.ones(n)
        columns[f"{band}_cmodel_mag"] = rng.uniform(17.5, 19.5, n) - 0.2 * k
        columns[f"{band}_cmodel_magerr"] = np.full(n, 0.01)
        sigma2 = (columns["image_psf_fwhm"][:, k] / 2.355) ** 2
        for axes, value in (("11", sigma2), ("22", sigma2), ("12", 0 * sigma2)):
            columns[f"{band}_sdssshape_psf_shape{axes}"] = value
    return columns


def legacy_columns(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Datasets of a shard of MultimodalUniverse's Legacy Survey: ids are text, one mask for all bands."""
    rng = np.random.default_rng(seed)
    images, wcs, ra, dec = field(seed, n, 0.262, (30.0 + seed, -5.0), DES_BANDS, 900)
    flux = np.stack([stamps(images[band], wcs, ra, dec) for band in DES_BANDS], axis=1)
    columns: dict[str, np.ndarray] = {
        "object_id": np.array([f"{300 + seed:04d}m050-{17 * k + 3}".encode() for k in range(n)], dtype="S16"),
        "gid": np.arange(n),
        "BRICKNAME": np.array([f"{300 + seed:04d}m050".encode()] * n),
        "RA": ra,
        "DEC": dec,
        "ra": ra,
        "dec": dec,
        "image_band": np.array([[f"des-{b}".encode() for b in DES_BANDS]] * n, dtype=h5py.string_dtype("utf-8", 5)),
        "image_ivar": np.full(flux.shape, 2500, np.float32),
        "image_array": flux.astype(np.float32),
        "image_mask": np.ones((n, STAMP, STAMP), bool),
        "image_psf_fwhm": np.tile(np.array([1.3, 1.2, 1.1, 1.0], np.float64), (n, 1)),
        "image_scale": np.full((n, 4), 0.262, np.float32),
        "image_rgb": np.zeros((n, 4, 4, 3), np.uint8),
        "object_mask": np.zeros((n, 4, 4), np.uint8),
        "catalog_X": np.zeros((n, 20)),
    }
    for band in "GRIZ":
        columns[f"FLUX_{band}"] = rng.uniform(25, 80, n).astype(np.float32)
        columns[f"MW_TRANSMISSION_{band}"] = np.full(n, 0.95, np.float32)
    return columns


def galaxiesml_columns(n: int, seed: int = 0, n_px: int = 64) -> dict[str, np.ndarray]:
    """Datasets of a file of GalaxiesML: no band, no PSF, no mask, no zero point."""
    rng = np.random.default_rng(seed)
    offset = np.arange(n_px) - (n_px - 1) / 2
    shape = np.exp(-(offset[:, None] ** 2 + offset**2) / 12.5)
    image = rng.normal(0, 0.02, (n, 5, n_px, n_px)) + (5 + np.arange(5))[:, None, None] * shape
    columns: dict[str, np.ndarray] = {
        "image": image.astype(np.float32),
        "object_id": (np.arange(n) + 36407037362170000 + 1000 * seed).astype(np.int64),
        "ra": rng.uniform(30, 38, n),
        "dec": rng.uniform(-5, -1, n),
        "skymap_id": np.full(n, 9813 * 10000 + 405, np.int64),
        "x_coord": rng.uniform(0, 4000, n),
        "y_coord": rng.uniform(0, 4000, n),
        "specz_redshift": rng.uniform(0.02, 0.4, n),
        "specz_flag_homogeneous": np.ones(n, bool),
        "specz_mag_i": rng.uniform(17, 19, n),
        "specz_name": np.array([f"SDSS-{k}".encode() for k in range(n)]),
        "coord": np.zeros((n, 3)),
    }
    for k, band in enumerate(HSC_BANDS):
        columns[f"{band}_cmodel_mag"] = rng.uniform(17.5, 19.5, n) - 0.2 * k
        columns[f"{band}_cmodel_magsigma"] = np.full(n, 0.01)
        columns[f"{band}_sersic_index"] = rng.uniform(0.5, 4, n)
    return columns


def write_shard(path: Path, columns: dict[str, np.ndarray], compression: str | None = "gzip") -> Path:
    """One HDF5 file with a dataset a column, in chunks, as the scripts write them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    how = {} if compression is None else {"compression": compression, "chunks": True}
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            more = {} if compression is None else {"maxshape": (None, *values.shape[1:])}
            file.create_dataset(name, data=values, **how, **more)
    return path


def mmu_hsc(folder: Path, n: int = 6, n_shards: int = 2) -> tuple[Path, dict[str, np.ndarray]]:
    """The folder of MultimodalUniverse's HSC, and what is in it, in order of the shards' names."""
    parts = [hsc_columns(n, seed) for seed in range(n_shards)]
    for seed, part in enumerate(parts):
        write_shard(folder / "pdr3_dud_22.5" / f"healpix={1000 + seed}" / "001-of-001.hdf5", part)
    return folder / "pdr3_dud_22.5", {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def lists(values: np.ndarray) -> pa.Array:
    """Lists of lists of the values of an array, one a row."""
    found = pa.array(values.ravel())
    for axis in range(values.ndim - 1, 0, -1):
        n_lists = int(np.prod(values.shape[:axis]))
        found = pa.ListArray.from_arrays(np.arange(n_lists + 1) * values.shape[axis], found)
    return found


def hats_table(columns: dict[str, np.ndarray], bands: str = "band") -> pa.Table:
    """Rows in the form of HATS: ``image`` is a struct of lists."""
    names = [[item.decode() for item in row] for row in columns["image_band"].tolist()]
    struct = pa.StructArray.from_arrays(
        [
            pa.array(names),
            *(lists(columns[f"image_{name}"]) for name in ("array", "ivar", "mask", "psf_fwhm", "scale")),
        ],
        names=[bands, "flux", "ivar", "mask", "psf_fwhm", "scale"],
    )
    table = {"_healpix_29": pa.array(columns["object_id"] * 7), "image": struct}
    table |= {name: pa.array(values) for name, values in columns.items() if not name.startswith("image_")}
    return pa.table(table)


def write_hats(folder: Path, parts: list[dict[str, np.ndarray]], rows_in_group: int = 3) -> Path:
    """A catalogue in HATS form, one pixel a part."""
    for number, part in enumerate(parts):
        path = folder / "dataset" / "Norder=4" / "Dir=0" / f"Npix={1000 + number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(hats_table(part), path, row_group_size=rows_in_group)
    pq.write_metadata(hats_table(parts[0]).schema, folder / "dataset" / "_common_metadata")
    (folder / "hats.properties").write_text("obs_collection=mmu_hsc_pdr3_dud_22.5\n")
    (folder / "partition_info.csv").write_text("Norder,Npix\n4,1000\n")
    return folder


def around(flux: np.ndarray, n_px: int = 64) -> np.ndarray:
    """The part of MultimodalUniverse's stamps that a cutout is: rows and columns 47 to 110 of 160."""
    first = (STAMP - n_px) // 2 - 1
    return flux[:, :, first : first + n_px, first : first + n_px]


def unagi_group(file: h5py.File, path: str, data: np.ndarray, cards: dict[str, object]) -> None:
    """An HDU as fits2hdf writes it: cards are attributes of one element, beside their comments."""
    group = file.create_group(path)
    group.attrs["CLASS"] = np.array([b"HDU"])
    for name, value in cards.items():
        group.attrs[name] = np.array([value])
        group.attrs[f"{name}_COMMENT"] = np.array([b"as the archive has it"])
    if data.size:
        group.create_dataset("DATA", data=data).attrs["CLASS"] = np.array([b"IMAGE"])


def write_unagi(
    path: Path,
    objects: dict[str, dict[str, np.ndarray]],
    origin: dict[str, tuple[int, int]] | None = None,
    **more: object,
) -> Path:
    """What unagi's hsc_bulk_cutout writes of images (band, by name), with masks and variances.

    ``origin`` says which pixel (y, x) of the patch is the first of a band's image; without it there are no cards.
    """
    with h5py.File(path, "w") as file:
        for object_id, images in objects.items():
            for band, image in images.items():
                cards: dict[str, object] = {"EXTTYPE": b"IMAGE"}
                if origin is not None:
                    y, x = origin.get(band, (0, 0))
                    cards |= {"CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 100.5 - x, "CRPIX2": 90.5 - y}
                    unagi_group(file, f"{object_id}/{band}/PRIMARY", np.empty(0), {"FLUXMAG0": 10**10.8})
                mask = np.zeros(image.shape, np.int32)
                mask[:2] = 1 << 5  # detected: not bad
                for at in more.get("bad", {}).get((object_id, band), ()):  # type: ignore[attr-defined]
                    mask[at] = 1 << 8
                unagi_group(file, f"{object_id}/{band}/HDU0", image, cards)
                unagi_group(file, f"{object_id}/{band}/HDU1", mask, {"MP_BAD": 0, "MP_SAT": 1, "MP_NO_DATA": 8})
                unagi_group(file, f"{object_id}/{band}/HDU2", np.ones_like(image), {})
    return path


def write_cutana(folder: Path, number: int, images: np.ndarray, columns: dict[str, Any], chunk: int = 3) -> Path:
    """A batch as Cutana writes it by images_to_zarr: images (object, band, y, x) become (object, y, x, channel)."""
    batch = folder / f"batch_cutout_process_{number:03d}_abc"
    batch.mkdir(parents=True)
    root = zarr.open_group(batch / "images.zarr", mode="w")
    data = np.ascontiguousarray(np.moveaxis(images, 1, 3))
    array = root.create_array("images", shape=data.shape, chunks=(chunk, *data.shape[1:]), dtype=data.dtype,
                              compressors=[zarr.codecs.BloscCodec(cname="lz4", clevel=1)], fill_value=0)  # fmt: skip
    array[:] = data
    n = len(columns["ra"])
    table = {
        **columns,
        "tile": ["EUC_MER.fits"] * n,
        "rescaled_offset_x": np.zeros(n),
        "processing_timestamp": np.ones(n),
    }
    pq.write_table(pa.table(table), batch / "images_metadata.parquet")
    return batch
