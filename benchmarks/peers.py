"""A peer beside this program, from the same FITS files to results on the same machine; prints a table, writes JSON.

    python benchmarks/peers.py FOLDER --python python3.11 --json benchmarks/results/peers.json

The peer is Hyrax, which is installed by pip into an environment of its own in FOLDER; it needs Python 3.11 (see
``hyrax_peer.py``). Both programs read one simulated survey, a file for each object and band, under the names that
Hyrax's downloader gives them. What is timed is one command, from its start to its results on disk; networks are trained
before. The commands are timed in turn, so that a machine that others use slows all of them. Twelve gigabytes of disk;
what FOLDER holds is used again, and an interrupted measurement goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import statistics
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import hyrax_peer
import numpy as np
from hyrax_peer import Hyrax
from measure import counted, processor_seconds, report, row, run_measured, swimmy

N_FEW, N_MANY, N_DELIVERED = 3_500, 35_000, 200
OTHER_SCORER = {"keras": "numba", "numba": "keras"}
HYRAX, HYRAX_READERS, OURS, OURS_OTHER = "hyrax", "hyrax-readers", "ours", "ours-other"
WAYS = (HYRAX, OURS, HYRAX_READERS, OURS_OTHER)  # in the order of their turns
_LINE, _BAND = re.compile(r"(\d+)[-_]"), re.compile(r"HSC-([GRIZY])\b")


# ---- surveys


@dataclass(frozen=True)
class Survey:
    """A simulated survey as both programs read it."""

    folder: Path

    @property
    def files(self) -> Path:
        """The cutouts, one FITS file for each object and band."""
        return self.folder / "files"

    @property
    def catalogue(self) -> Path:
        """Of the objects."""
        return self.folder / "survey" / "catalogue.fits"

    @property
    def file_table(self) -> Path:
        """Object, filter and name of every file: Hyrax's catalogue."""
        return self.folder / "files.fits"


def make_survey(folder: Path, n_objects: int, n_workers: int | None = None, oversize: bool = True) -> Survey:
    """Simulate a survey and lay its cutouts out, unless that is done.

    With ``oversize`` some objects have bands that differ by a pixel in size, as in the archive.
    """
    from astropy.table import Table

    from swimmy_scale.cluster.executors import LocalExecutor
    from swimmy_scale.simulate import SimulationPlan, simulate

    survey, ready = Survey(folder), folder / "ready"
    if ready.exists():
        return survey
    print(f"simulating {n_objects:,} objects in {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    survey.files.mkdir(parents=True)
    plan = SimulationPlan(n_objects, seed=1, faulty_fraction=0.0, overlap_fraction=0.0, repeat_fraction=0.0)
    if not oversize:
        plan = replace(plan, oversize_fraction=0.0)
    simulate(str(folder / "survey"), plan, LocalExecutor(n_workers).map_values)
    catalogue = Table.read(survey.catalogue)
    listed = []
    for part, name, data in delivered_files(folder / "survey" / "cutouts"):
        line_row, band = row_and_band(name)
        index = part * plan.n_objects_per_tar + line_row
        saved = saved_name(catalogue[index], band)
        (survey.files / saved).write_bytes(data)
        listed.append((int(catalogue["object_id"][index]), f"HSC-{band}", saved))
    shutil.rmtree(folder / "survey" / "cutouts")
    listed.sort()
    Table(rows=listed, names=["object_id", "filter", "filename"]).write(survey.file_table)
    ready.touch()
    return survey


def delivered_files(folder: Path) -> Iterator[tuple[int, str, bytes]]:
    """Number of the part, name and bytes of all cutouts in the tars and folders of a simulated survey."""
    for part, path in enumerate(sorted(folder.iterdir())):
        if path.is_dir():
            yield from ((part, file.name, file.read_bytes()) for file in sorted(path.iterdir()))
            continue
        with tarfile.open(path) as tar:
            for member in tar:
                yield part, Path(member.name).name, tar.extractfile(member).read()  # type: ignore[union-attr]


def row_and_band(name: str) -> tuple[int, str]:
    """Row in its part of the catalogue and band of a cutout's name; line 2 is the part's first row."""
    line, band = _LINE.match(name), _BAND.search(name)
    if line is None or band is None:
        raise SystemExit(f"{name}: has no line number or no band")
    return int(line[1]) - 2, band[1]


def saved_name(entry: Any, band: str) -> str:
    """The name under which Hyrax's downloader saves a cutout: that of the archive's tool, with the object's id."""
    return f"{entry['object_id']}_coadd_{entry['ra']:.5f}_{entry['dec']:+.5f}_{entry['tract']}_HSC-{band}.fits"


def n_unequal(survey: Survey) -> int:
    """Objects whose cutouts have not the same shape in all bands."""
    from astropy.io import fits

    shapes: dict[str, set[tuple[int, ...]]] = {}
    for path in survey.files.iterdir():
        with fits.open(path) as hdulist:
            shapes.setdefault(path.name.partition("_")[0], set()).add(hdulist[1].shape)
    return sum(len(found) > 1 for found in shapes.values())


# ---- our side


def train_ours(folder: Path, survey: Survey) -> Path:
    """A network of this program after one epoch, made once."""
    model = folder / "models" / "selected.keras"
    if not model.exists():
        settings = folder / "train.yaml"
        settings.write_text(
            "train: {max_objects: 1024, schedule: {epochs: 1, keep_from_epoch: 1, batch_size: 32, seed: 1}}\n"
        )
        cube = folder / "train.zarr"
        patches = ["--patch-qa", survey.catalogue.with_name("patch_qa.fits")]
        run_measured(swimmy("ingest", survey.files, "--catalog", survey.catalogue, *patches, "--output", cube))
        run_measured(swimmy("train", cube, "--output", folder / "models", "--settings", settings))
        shutil.rmtree(cube)
    return model


def write_job(folder: Path, survey: Survey, model: Path) -> Path:
    """The job that scores a survey with a model."""
    sha256 = json.loads((model.parent / "manifest.json").read_text())["files"]["selected.keras"]
    job = folder / f"{survey.folder.name}.yaml"
    content = {
        "name": "peers",
        "catalogue": {"path": str(survey.catalogue), "patch_qa": str(survey.catalogue.with_name("patch_qa.fits"))},
        "ingest": {"sources": [str(survey.files)]},
        "model": {"path": str(model), "sha256": sha256},
    }
    job.write_text(json.dumps(content))  # JSON is YAML
    return job


# ---- one command


@dataclass(frozen=True)
class Timed:
    """One command that ran from files to results.

    Attributes
    ----------
    way : str
        Which command.
    n_objects, turn : int
    seconds, core_seconds : float
        Of the command; processor time, user and system, of all its processes.
    memory_mib : float
        Sum of the largest resident memory of each of its processes.
    scorer : str
        Of ours.
    """

    way: str
    n_objects: int
    turn: int
    seconds: float
    core_seconds: float
    memory_mib: float
    scorer: str = ""


def timed(words: Sequence[str]) -> tuple[float, float, float]:
    """Seconds, processor seconds and MiB of a command."""
    with processor_seconds() as busy:
        measured = run_measured(counted(words))
    return measured.seconds, busy[0], sum(peak.memory_bytes for peak in measured.peaks.values()) / 2**20


@dataclass
class Bench:
    """What the commands need."""

    folder: Path
    hyrax: Hyrax
    surveys: dict[int, Survey]
    model: Path
    weights: Path
    n_readers: int
    scorer: str = ""  # of ours without a site file, known after its first run

    def perform(self, way: str, n_objects: int, turn: int) -> Timed:
        """Run a command, and refuse one that has not as many results as there are objects."""
        survey, home = self.surveys[n_objects], self.folder / "timed"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        if way in (OURS, OURS_OTHER):
            found, n_results, scorer = self._ours(way, survey, home)
        else:
            found, n_results, scorer = *self._hyrax(way, survey, home), ""
        if n_results != n_objects:
            raise SystemExit(f"{way}: {n_results} results of {n_objects} objects")
        shutil.rmtree(home)
        return Timed(way, n_objects, turn, *found, scorer=scorer)

    def _hyrax(self, way: str, survey: Survey, home: Path) -> tuple[tuple[float, float, float], int]:
        n_readers = self.n_readers if way == HYRAX_READERS else 0
        settings = hyrax_peer.write_settings(
            home / "hyrax.toml", survey.files, survey.file_table, home, n_readers=n_readers, weights=self.weights
        )
        found = timed(self.hyrax.command("infer", settings))
        return found, self.hyrax.count(home)

    def _ours(self, way: str, survey: Survey, home: Path) -> tuple[tuple[float, float, float], int, str]:
        words: list[Any] = ["run", write_job(home, survey, self.model), "--output", home / "run"]
        if way == OURS_OTHER:
            site = home / "site.yaml"
            site.write_text(f"swimmy-scale: {{kind: local, scorer: {OTHER_SCORER[self.scorer]}}}\n")
            words += ["--site", site]
        found = timed(swimmy(*words))
        scorer = str(json.loads((home / "run" / "provenance.json").read_text())["scorer"])
        if way == OURS:
            self.scorer = scorer
        return found, int(json.loads((home / "run" / "summary.json").read_text())["scored"]), scorer


def measure_all(bench: Bench, record: Path, repeat: dict[int, int]) -> list[Timed]:
    """Time every command in turn; what ``record`` holds of an interrupted measurement is not timed again.

    A record of another state of this program is not used.
    """
    program, done = program_digest(), list[Timed]()
    if record.exists() and (before := json.loads(record.read_text()))["program"] == program:
        done = [Timed(**one) for one in before["timed"]]
    bench.scorer = next((one.scorer for one in done if one.way == OURS), "")
    wanted = [(way, n, turn) for n, turns in repeat.items() for turn in range(turns) for way in WAYS]
    for way, n_objects, turn in wanted:
        if any((one.way, one.n_objects, one.turn) == (way, n_objects, turn) for one in done):
            continue
        done.append(bench.perform(way, n_objects, turn))
        print(f"{way} {n_objects:,}: {done[-1].seconds:.1f} s, {done[-1].core_seconds:.1f} core-s", flush=True)
        record.write_text(json.dumps({"program": program, "timed": [asdict(one) for one in done]}))
    return [one for one in done if one.n_objects in repeat and one.turn < repeat[one.n_objects]]


def program_digest() -> str:
    """SHA-256 of the source of this program."""
    import swimmy_scale

    digest = hashlib.sha256()
    for path in sorted(Path(swimmy_scale.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


# ---- the result


def rates(found: Iterable[Timed], clock: str) -> dict[tuple[str, int], list[float]]:
    """Objects a second by way and number of objects, in the order of the turns; ``clock`` names a field of `Timed`."""
    by_way: dict[tuple[str, int], list[float]] = {}
    for one in sorted(found, key=lambda one: one.turn):
        by_way.setdefault((one.way, one.n_objects), []).append(one.n_objects / getattr(one, clock))
    return by_way


def once_running(found: Iterable[Timed], clock: str) -> dict[str, tuple[list[float], float]]:
    """Of each way, objects a second of what many objects take longer than few, and seconds of the start.

    A command takes ``start + n / rate``. The rate is given for each turn with many objects; few objects enter with the
    median of their turns.
    """
    by_way: dict[str, dict[int, list[float]]] = {}
    for one in sorted(found, key=lambda one: one.turn):
        by_way.setdefault(one.way, {}).setdefault(one.n_objects, []).append(getattr(one, clock))
    result = {}
    for way, seconds in by_way.items():
        few, many = min(seconds), max(seconds)
        short = statistics.median(seconds[few])
        more = [(many - few) / (long - short) for long in seconds[many]]
        result[way] = (more, short - few / statistics.median(more))
    return result


def names(found: Sequence[Timed], n_readers: int) -> dict[str, str]:
    """What the table calls each way."""
    scorers = {one.way: one.scorer for one in found}
    return {
        HYRAX: "Hyrax infer",
        HYRAX_READERS: f"Hyrax infer, {n_readers} reading processes",
        OURS: f"swimmy-scale run (scorer: {scorers[OURS]}, the default)",
        OURS_OTHER: f"swimmy-scale run, scorer: {scorers[OURS_OTHER]}",
    }


def rows_of(found: Sequence[Timed], n_readers: int) -> list[dict[str, Any]]:
    """The lines of the result. Ratios are to the faster of the peer's two settings, neighbours in a turn."""
    named, lines = names(found, n_readers), []
    sizes = sorted({one.n_objects for one in found})
    for clock, unit, by in (("seconds", "objects/s", ""), ("core_seconds", "objects/core-s", " by processor time,")):
        by_size = rates(found, clock)
        for size in sizes:
            lines += _compared({named[way]: by_size[way, size] for way in WAYS}, f"{by} {size:,} objects", unit)
        running = {way: rate for way, (rate, _) in once_running(found, clock).items()}
        lines += _compared({named[way]: running[way] for way in WAYS}, f"{by} once running", unit)
    for way, (_, start) in once_running(found, "seconds").items():
        lines.append(row(f"{named[way]}: start and end", "s", [start]))
    for way in WAYS:
        peaks = [one.memory_mib for one in found if one.way == way and one.n_objects == sizes[-1]]
        lines.append(row(f"{named[way]}: peak memory of all processes", "MiB", peaks))
    return lines


def _compared(by_name: dict[str, list[float]], what: str, unit: str) -> list[dict[str, Any]]:
    """A line for each command, with the ratio to the faster of the peer's."""
    peers = [name for name in by_name if name.startswith("Hyrax")]
    best = max(peers, key=lambda name: statistics.median(by_name[name]))
    lines = []
    for name, values in by_name.items():
        ratio = float(statistics.median(np.divide(values, by_name[best])))
        lines.append(row(f"{name}:{what}", unit, values, ratio=None if name == best else ratio))
    return lines


def notes_of(bench: Bench, tries: Sequence[dict[str, Any]], n_bad: int, ours: dict[str, Any]) -> list[str]:
    """What was compared, in words."""
    versions = bench.hyrax.versions()
    shown = ", ".join(f"{name} {versions[name]}" for name in versions)
    said = []
    for one in tries:
        if one["error"]:
            said.append(f"by its {one['dataset']} without any result: `{one['error']}`")
        else:
            said.append(f"by its {one['dataset']} with results of {one['n_results']}")
    return [
        "ratio is to the faster of the two settings of Hyrax, from neighbouring runs",
        f"Hyrax's environment: {shown}"
        + ("; its torchvision is three transforms written for it" if "stand-in" in shown else ""),
        f"both read the same files, one for each object and band, which lie in the page cache: {N_FEW:,} and "
        f"{N_MANY:,} simulated objects, all cutouts {hyrax_peer.SIZE_PX} x {hyrax_peer.SIZE_PX} pixels",
        "Hyrax computes, of pixels as they are, their hyperbolic tangent and 64 latent numbers an object by its "
        "encoder, HyraxAutoencoderV2 (no reconstruction, no PSF match), and writes them with the object's id",
        "swimmy-scale checks and stores the pixels, matches the PSF of each band, stretches, computes the "
        "reconstruction that the central aperture sees, scores and residuals in five bands, cuts the sample at its "
        "percentiles, and writes the catalogue of candidates and a picture",
        "networks were trained for an epoch before; only the commands that use them are timed. 'Once running' is what "
        f"{N_MANY:,} objects take longer than {N_FEW:,}",
        f"cutouts as the archive delivers them ({N_DELIVERED} objects, {n_bad} of them with bands that differ by a "
        f"pixel in size): Hyrax ends {'; '.join(said)}. swimmy-scale scores {ours['scored']} of {ours['given']}",
    ]


def try_ours(folder: Path, survey: Survey, model: Path) -> dict[str, Any]:
    """The summary of our run of a survey."""
    home = folder / "try-ours"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    run_measured(swimmy("run", write_job(home, survey, model), "--output", home / "run"))
    summary: dict[str, Any] = json.loads((home / "run" / "summary.json").read_text())
    return summary


def main() -> None:
    """Install, simulate, train, time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="python3.11", help="the interpreter for Hyrax")
    parser.add_argument("--repeat", type=int, default=3, help="turns with few objects")
    parser.add_argument("--repeat-many", type=int, default=2, help="turns with many objects")
    parser.add_argument("--readers", type=int, default=2, help="reading processes of Hyrax's second setting")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    hyrax = hyrax_peer.install(folder / "hyrax-environment", options.python)
    surveys = {n: make_survey(folder / f"survey-{n}", n, oversize=False) for n in (N_FEW, N_MANY)}
    delivered = make_survey(folder / "survey-delivered", N_DELIVERED)
    model = train_ours(folder, surveys[N_FEW])
    weights = hyrax_peer.train(hyrax, folder / "hyrax", surveys[N_FEW].files, surveys[N_FEW].file_table)
    record = folder / "measured.json"
    bench = Bench(folder, hyrax, surveys, model, weights, options.readers)
    found = measure_all(bench, record, {N_FEW: options.repeat, N_MANY: options.repeat_many})
    tries = [
        hyrax_peer.try_on(hyrax, folder / "hyrax", delivered.files, delivered.file_table, weights, dataset)
        for dataset in ("FitsImageDataset", "HSCDataset")
    ]
    notes = notes_of(bench, tries, n_unequal(delivered), try_ours(folder, delivered, model))
    facts = {"n_few": N_FEW, "n_many": N_MANY, "hyrax_versions": hyrax.versions(), "delivered": tries}
    report("peers", rows_of(found, options.readers), options.json, notes, **facts)
    if options.json is not None:
        record.unlink()  # the next call measures again


if __name__ == "__main__":
    main()
