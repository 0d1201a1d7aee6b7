"""What new users get wrong: a table of job files, site files and command lines, and what they read then.

A message names key or word, value, what is allowed, and what was perhaps meant; none is in the words of a library.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from survey_runs import call_here

JOB = """\
name: mine
catalogue: {path: cat.csv}
ingest: {sources: [pixels]}
sample: {max_magnitude: 19.5}
train: {schedule: {epochs: 3, keep_from_epoch: 2}}
"""
STORE = "cutouts: c.zarr\n"
SITE = """\
jobqueue:
  driver: {queue: long}
  cpu: {queue: short, cores: 8, processes: 4, memory: 8GiB, walltime: "02:00:00"}
swimmy-scale:
  kind: slurm
  groups: {cpu: {jobs: 3}}
"""
SHA = "a" * 64

# Words of pydantic, yaml, click and Python that say nothing to an astronomer.
FOREIGN = r"Input should|Extra inputs|Unexpected|Field required|permitted|dictionary|NoneType|tuple|unicode string|x>="

# A job file that is wrong, and the message behind the name of the file.
JOBS = [
    (
        JOB.replace("sample:", "sampel:"),
        "4: sampel: no such key. Did you mean sample? Correct its name, or leave it out",
    ),
    (
        JOB.replace("max_magnitude", "max_mag"),
        "4: sample.max_mag: no such key (found 19.5). Did you mean max_magnitude? Correct its name, or leave it out",
    ),
    (
        JOB + "max_objects: 100\n",
        "6: max_objects: no such key in the file (found 100), but there is train.max_objects. Move it",
    ),
    (
        JOB.replace("19.5}", "19.5, redshifts: [0.05, 0.2]}"),
        "4: sample.redshifts: no such key (found [0.05, 0.2]). Did you mean redshift? Correct its name,",
    ),
    (JOB.replace("19.5", "bright"), "4: sample.max_magnitude: must be a number, or null, found 'bright'"),
    (JOB.replace("19.5", "[19.5]"), "4: sample.max_magnitude: must be a number, or null, found [19.5]"),
    (
        JOB.replace("19.5", "yes"),
        "4: sample.max_magnitude: must be a number, or null, found true. YAML takes yes, no, on and off",
    ),
    (
        JOB.replace("[pixels]", "pixels"),
        "3: ingest.sources: must be a list of paths, found 'pixels'. Put it in brackets: [pixels]",
    ),
    (JOB.replace("name: mine", "name: 2026"), "1: name: must be text, found 2026. Put it in quotes"),
    (
        JOB.replace("name: mine", "name: no"),
        "1: name: must be text, found false. YAML takes yes, no, on and off for true and false: put a name in quotes",
    ),
    (JOB.replace("epochs: 3", "epochs: 2.5"), "5: train.schedule.epochs: must be a whole number, found 2.5"),
    (
        JOB.replace("epochs: 3", "epoch: 3"),
        "5: train.schedule.epoch: no such key (found 3). Did you mean epochs? Correct its name, or leave it out",
    ),
    (
        JOB.replace("keep_from_epoch: 2", "keep_from_epoch: 9"),
        "5: train.schedule: keep_from_epoch 9 is above epochs 3: nothing would be kept. Correct the",
    ),
    (
        JOB.replace("train: {", "train: {choose: known_class, "),
        "5: train.choose: must be validation_loss or known_classes, found 'known_class'. Did you mean known_classes?",
    ),
    (
        JOB + "survey: {file_zero_points_mag: [0, 30]}\n",
        "6: survey: survey 'HSC-SSP wide': file_zero_points_mag has 2 values for 5 bands",
    ),
    (
        JOB.replace("[pixels]", "[pixels], psf_from_files: maybe"),
        "3: ingest.psf_from_files: must be true or false, found 'maybe'",
    ),
    (JOB + "score: {kind: noisy}\n", "6: score.kind: must be paper or noise, found 'noisy'. Did you mean noise?"),
    (JOB + "score: {descriptors: maybe}\n", "6: score.descriptors: must be true or false, found 'maybe'"),
    (
        JOB + "select: {formats: fits}\n",
        "6: select.formats: must be a list of words, each fits, ecsv, vot or parquet, found 'fits'. Put",
    ),
    (JOB + "select: {levels: [0.05]}\n", "6: select.levels: must be a mapping of names to numbers, found [0.05]"),
    (JOB + "select: {combine: average}\n", "6: select.combine: must be mean, median or rank, found 'average'"),
    (
        JOB.replace("19.5}", "19.5, flags: [pixelflags_sat]}"),
        "4: sample: no flag is called pixelflags_sat. Did you mean pixelflags_bad, pixelflags_edge or",
    ),
    (
        JOB.replace("19.5}", "19.5, colours: [[g, u, 1]]}"),
        "sample cut g - u: survey 'HSC-SSP wide' has no band 'u', only g, r, i, z, y. Set colours in the",
    ),
    (
        JOB.replace("19.5}", "19.5, colours: [[g, r]]}"),
        "4: sample.colours.0.2: a value is missing: sample.colours.0 must be a list of 3 values: text, text, a number",
    ),
    (
        JOB.replace("19.5}", "19.5, redshift: [0.2, 0.05]}"),
        "4: sample: redshift must go from a smaller to a larger value, found 0.2 to 0.05. Correct the",
    ),
    (
        JOB.replace("19.5}", "19.5, redshift: 0.2}"),
        "4: sample.redshift: must be a list of 2 numbers, or null, found 0.2",
    ),
    (
        JOB + "survey: {magnitude_band: I}\n",
        "6: survey: survey 'HSC-SSP wide': band 'I' is none of bands: g, r, i, z, y. Correct the survey",
    ),
    (JOB.replace("path: cat.csv", "file: cat.csv"), "2: catalogue.file: no such key (found 'cat.csv')."),
    (
        JOB.replace("catalogue: {path: cat.csv}", "catalogue: cat.csv"),
        "2: catalogue: must be a section with keys, or null, found 'cat.csv'. Write catalogue: {path: cat.csv}",
    ),
    (
        JOB.replace("ingest: {sources: [pixels]}\n", ""),
        "1: the job: give ingest and catalogue, or cutouts for an existing store",
    ),
    (STORE, "1: the job: give train, or model for existing weights"),
    (
        STORE + "model: m.keras\n",
        "2: model: must be a section with keys, or null, found 'm.keras'. Write model: {path: m.keras}",
    ),
    (
        STORE + "model: {path: m.keras}\n",
        "2: model.sha256: missing; it must be given: 64 digits of 0-9 and a-f, as sha256sum prints them",
    ),
    (
        STORE + "model: {path: m.keras, sha256: 12ab}\n",
        "2: model.sha256: must be 64 digits of 0-9 and a-f, as sha256sum prints them, found '12ab'",
    ),
    (
        STORE + f"models: {{path: m.keras, sha256: {SHA}}}\n",
        "2: models: must be a list of sections with keys, found {'path': 'm.keras', 'sha256':",
    ),
    (
        JOB + "storage: {partition_objects: 100}\n",
        "6: storage: partition_objects must be a multiple of chunk_objects (256)",
    ),
    (JOB + "name: other\n", "6: name is there twice. Leave one of them."),
    (JOB + "format_version: 2\n", "6: format_version: must be 1, found 2"),
    (JOB + "2: x\n", "6: 2: the names of keys are text, found 2. Put it in quotes"),
    (
        "name: [a\n",
        "2: not valid YAML: expected ',' or ']', but got the end of the file. Correct that line, or give a job file.",
    ),
    ("", "a job is a mapping of sections; found nothing. Give a job file."),
    (SITE, "this is a site file, and a job file is wanted here. Give it to --site."),
]


SITES = [
    (
        SITE.replace("cores", "coers"),
        "3: jobqueue.cpu.coers: no such key (found 8). Did you mean cores? Correct its name, or leave it out",
    ),
    (
        SITE.replace('walltime: "02:00:00"', "walltime: 24:00:00"),
        "3: jobqueue.cpu.walltime: YAML takes 24:00:00 for a number: put the walltime in quotes, found 86400",
    ),
    (
        SITE.replace('"02:00:00"', "2h"),
        '3: jobqueue.cpu.walltime: must be a time of Slurm in quotes: "90" minutes, "24:00:00" or',
    ),
    (
        SITE.replace("8GiB", "8 gigs"),
        "3: jobqueue.cpu.memory: must be a size with its unit, such as 16GiB, found '8 gigs'",
    ),
    (
        SITE.replace("kind: slurm", "kind: Slurm"),
        "5: swimmy-scale.kind: must be local or slurm, found 'Slurm'. Did you mean slurm?",
    ),
    (
        SITE.replace("queue: short", "partition: short"),
        "3: jobqueue.cpu.partition: no such key (found 'short'). Did you mean queue?",
    ),
    (SITE.replace("{jobs: 3}", "3"), "6: swimmy-scale.groups.cpu: must be a section with keys, found 3"),
    (
        SITE.replace("{jobs: 3}", "{jobs: 3, gpu: 1}"),
        "6: swimmy-scale.groups.cpu.gpu: no such key (found 1). Did you mean gpus? Correct its name, or leave it out",
    ),
    (
        SITE.replace("groups: {cpu", "groups: {CPU"),
        "6: swimmy-scale.groups.CPU: the name must be 20 small letters, digits and dashes, found 'CPU'",
    ),
    (SITE.replace("  kind: slurm\n", ""), "4: swimmy-scale.kind: missing; it must be given: local or slurm"),
    (
        SITE.replace("swimmy-scale:", "swimmy-scales:"),
        "1: swimmy-scale: missing; it must be given: a section with keys",
    ),
    (
        SITE.replace("queue: long", "queue: a long one"),
        "2: jobqueue.driver.queue: must be one word without blanks, quotes and ; & | < > #, or null,",
    ),
    (SITE + "  scorer: gpu\n", "7: swimmy-scale.scorer: must be auto, keras or numba, found 'gpu'"),
    (
        SITE + "  workers: yes\n",
        "7: swimmy-scale.workers: must be a whole number, 1 or more, or null, found true. YAML takes",
    ),
    (JOB, "this is a job file, and a site file is wanted here. Give a site file, as `init` writes one."),
    ("", "a site is a mapping of sections; found nothing. Give a site file."),
]
COMMANDS = [
    (["rnu", "job.yaml"], 2, "No such command 'rnu'. Did you mean 'run'?"),
    (["run", "job.yaml", "--ouput", "run"], 2, "No such option '--ouput'. Did you mean '--output'?"),
    (["run", "--output", "run"], 2, "Missing argument 'JOB'."),
    (["run", "job.yaml"], 2, "Missing option '--output'."),
    (
        ["run", "job.yaml", "--output", "run", "--workers", "-1"],
        2,
        "Invalid value for '--workers': must be a whole number, 0 or more, found '-1'",
    ),
    (
        ["run", "job.yaml", "--output", "run", "--site", "job.yaml"],
        1,
        "job.yaml: this is a job file, and a site file is wanted here. Give a site file, as `init` writes one.",
    ),
    (
        ["run", "site.yaml", "--output", "run"],
        1,
        "site.yaml: this is a site file, and a job file is wanted here. Give it to --site.",
    ),
    (["run", "folder", "--output", "run"], 1, "folder: cannot read the job file (it is a folder). Check the path."),
    (["run", "cat.csv", "--output", "run"], 1, "cat.csv: a job is a mapping of sections; found text. Give a job file."),
    (
        ["plan", "job.yml"],
        1,
        "job.yml: cannot read the job file (No such file or directory). Check the path: did you mean job.yaml?",
    ),
    (["status", "job.yaml"], 1, "job.yaml: no receipts folder, so this is not a run directory. Check the path."),
    (["report", "folder", "--map", "tsne"], 2, "Invalid value for '--map': 'tsne' is not one of 'pca', 'umap'."),
    (["report", "folder"], 1, "folder: no receipts folder, so this is not a run directory. Check the path."),
    (
        ["figures", "folder", "histogram"],
        1,
        "folder: no receipts folder, so this is not a run directory. Check the path.",
    ),
    (["tables", "folder", "table-5"], 1, "folder: no receipts folder, so this is not a run directory. Check the path."),
    (
        ["simulate", "survey", "--n-objects", "many"],
        2,
        "Invalid value for '--n-objects': must be a whole number, 1 or more, found 'many'",
    ),
    (
        ["score", "c.zarr", "--model", "folder", "--output", "s.zarr", "--scorer", "Keras"],
        2,
        "Invalid value for '--scorer': 'Keras' is not one of 'auto', 'keras', 'numba'.",
    ),
    (
        ["ingest", "pixels", "--catalog", "cat.csv", "--output", "o.zarr", "--column", "RA=ra"],
        1,
        "cat.csv: all 1 object would be in quarantine: 1 missing_band (no pixels in bands g, r, i, z,",
    ),
    (
        ["ingest", "pixels", "--catalog", "cat.csv", "--output", "o.zarr", "--column", "ra=RAJ"],
        1,
        "cat.csv has no column RAJ. It has object_id, ra, dec, redshift,",
    ),
    (
        ["ingest", "pixels", "--catalog", "cat.csv", "--output", "o.zarr", "--keep-column", "redshft"],
        1,
        "cat.csv has no column redshft, which keep_columns asks for. It has object_id, ra, dec,",
    ),
    (
        ["ingest", "pixels", "--catalog", "cat.csv", "--output", "o.zarr", "--fwhm", "u=0.7"],
        1,
        "fwhm_arcsec names the bands u; survey 'HSC-SSP wide' has g, r, i, z, y. Correct fwhm_arcsec in",
    ),
    (
        ["ingest", "pixels", "--catalog", "cat.csv", "--output", "o.zarr", "--settings", "job.yaml"],
        1,
        "job.yaml: this is a whole job file, and --settings says only how things are done. Leave out",
    ),
    (
        ["ingest", "pixels", "--catalog", "many.csv", "--output", "o.zarr"],
        1,
        "many.csv has no column ra, dec. Did you mean RAJ2000? It has 73 columns in all. Say which",
    ),
    (["completion", "tcsh"], 2, "Invalid value for 'SHELL': 'tcsh' is not one of 'bash', 'zsh', 'fish'."),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "pixels"):
        Path(name).mkdir()
    Path("job.yaml").write_text(JOB)
    Path("site.yaml").write_text(SITE)
    seeing = ",".join(f"fwhm_arcsec_{band}" for band in "grizy")
    Path("cat.csv").write_text(f"object_id,ra,dec,redshift,{seeing}\n1,10.0,1.0,0.1{',0.7' * 5}\n")
    names = ["object_id", "RAJ2000", "DEJ2000", *(f"column_{n}" for n in range(70))]
    Path("many.csv").write_text(",".join(names) + "\n" + ",".join(["1"] * len(names)) + "\n")


def of(table: list[tuple]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", table, ids=[str(n) for n in range(len(table))])


def check(stderr: str, message: str) -> None:
    assert message in stderr
    assert not re.search(FOREIGN, stderr)
    assert not [line for line in stderr.splitlines() if len(line) > 500], "nobody reads this"


@pytest.mark.usefixtures("place")
@of(JOBS)
def test_job_files(row: tuple[str, str]) -> None:
    Path("wrong.yaml").write_text(row[0])
    done = call_here("run", "wrong.yaml", "--output", "run")
    assert (done.returncode, done.stdout, Path("run").exists()) == (1, "", False)
    check(done.stderr, f"wrong.yaml:{row[1]}" if row[1][0].isdigit() else f"wrong.yaml: {row[1]}")


@pytest.mark.usefixtures("place")
@of(SITES)
def test_site_files(row: tuple[str, str]) -> None:
    Path("wrong.yaml").write_text(row[0])
    done = call_here("run", "job.yaml", "--output", "run", "--site", "wrong.yaml")
    assert (done.returncode, done.stdout, Path("run").exists()) == (1, "", False)
    check(done.stderr, f"wrong.yaml:{row[1]}" if row[1][0].isdigit() else f"wrong.yaml: {row[1]}")


@pytest.mark.usefixtures("place")
@of(COMMANDS)
def test_command_lines(row: tuple[list[str], int, str]) -> None:
    done = call_here(*row[0])
    assert (done.returncode, done.stdout) == (row[1], "")
    check(done.stderr, row[2])
