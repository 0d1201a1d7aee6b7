"""All campaigns, in the order of the page."""

from __future__ import annotations

from chaos import (
    cuts,
    damage,
    disks,
    kills,
    late,
    machine,
    memory,
    mutant_fits,
    mutant_tables,
    mutant_tars,
    power,
    races,
    strings,
)
from chaos.records import Campaign
from chaos.watch import missing_compiler

ALL = (
    Campaign(
        "kills",
        "Killed at any moment",
        "SIGKILLs",
        "A run without workers is killed at random moments up to six times, and every third one trains. Then the same "
        "command is given once more: it must end with the bytes of a run that nothing disturbed.",
        kills.in_one_process,
        hour=40,
        small=1,
        full=300,
    ),
    Campaign(
        "kills_workers",
        "Workers and their driver killed",
        "SIGKILLs",
        "The same for runs with two workers: the driver is killed, in whose process Dask's scheduler and nannies live, "
        "or one worker, or all at once. A new driver may come while workers of the old one live.",
        kills.with_workers,
        hour=25,
        small=0,
        full=300,
    ),
    Campaign(
        "calls",
        "Killed at every call of a commit",
        "calls",
        "The process ends before or within the n-th write, flush, rename, opening, removal or new folder of a run, a "
        "run that trains, a report, vetted marks and a submission; every call in turn. The command given again must "
        "end with the same bytes, and what had a receipt must be there.",
        kills.at_calls,
        hour=80,
        small=2,
        full=4000,
        needs=missing_compiler,
    ),
    Campaign(
        "commits",
        "Killed at each call of whole commits",
        "calls",
        "The same for every single call, in their order, of one commit of each sort: a partition of cutouts, one of "
        "scores, a training, and the end of each stage; and of all of a report, of vetted marks and of a submission.",
        kills.at_commits,
        hour=60,
        small=0,
        full=1067,
        needs=missing_compiler,
    ),
    Campaign(
        "power_commits",
        "The power cut at each write, flush and rename of whole commits",
        "power cuts",
        "The file systems of the next campaign, shut down before or within every write, flush and rename among these "
        "calls, in their order.",
        power.cut_at_commits,
        hour=40,
        small=0,
        full=800,
        needs=power.needs_mounts,
    ),
    Campaign(
        "power",
        "The power cut",
        "power cuts",
        "ext4, with three sets of options, and xfs, in a file that is mounted: the file system is shut down by ioctl "
        "before or within a call, which loses all that was not flushed, then mounted again. What had a receipt must be "
        "there, and the command given again must end with the same bytes.",
        power.cut,
        hour=80,
        small=0,
        full=4000,
        needs=power.needs_mounts,
    ),
    Campaign(
        "losses",
        "The power cut, by the harshest rules",
        "power cuts",
        "A model of a disk on which all that was not flushed may be lost or survive, each write and each name for "
        "itself: worse than any file system that we know. It must hold as for real ones.",
        power.lose,
        hour=60,
        small=1,
        full=4000,
        needs=missing_compiler,
    ),
    Campaign(
        "flips",
        "Flipped bits",
        "bits",
        "Bits of a finished run flip, with the files' times kept: one in any file, or one in each of many. `verify` "
        "must name each of them, and `verify --repair` bring all bytes back.",
        damage.flips,
        hour=60,
        small=1,
        full=600,
    ),
    Campaign(
        "files",
        "Damaged files",
        "damages",
        "One file of a finished run, of any kind, is cut off, deleted, swapped, replaced or forbidden. `verify` must "
        "name it, unless nothing is lost by it, and `run` or `verify --repair` bring all bytes back at once. What "
        "`verify` does not expect is removed before, as it asks. Earlier states of a training, which nothing needs any "
        "more, do not come back.",
        damage.files,
        hour=64,
        small=1,
        full=1600,
    ),
    Campaign(
        "commands",
        "Commands on damage that nobody has looked for",
        "commands",
        "A bit of a finished run is flipped, in half of the trials so that a text is no UTF-8. Commands may refuse "
        "what they find, but must answer, and not with a traceback.",
        damage.commands,
        hour=40,
        small=0,
        full=600,
    ),
    Campaign(
        "writing",
        "Errors on writing",
        "disk errors",
        "A call fails with ENOSPC, EIO, EROFS or EDQUOT, once or from then on, or writes less than it was given, in "
        "every command whose calls are swept. It goes on, or ends with one line; then the same command again must "
        "come to the same bytes.",
        disks.writing,
        hour=60,
        small=1,
        full=4000,
        needs=missing_compiler,
    ),
    Campaign(
        "reading",
        "Files that cannot be read",
        "unreadable files",
        "Every read of one file of a finished run gives EIO, and another file is gone. `verify` must name both; once "
        "the disk is well again `verify --repair` must bring all bytes back.",
        disks.reading,
        hour=30,
        small=0,
        full=300,
        needs=missing_compiler,
    ),
    Campaign(
        "full_disk",
        "Full and read-only file systems",
        "file systems",
        "A tmpfs runs out of blocks or inodes, or becomes read-only, while a run writes there. It must end with one "
        "line, and go on to the same bytes when there is room.",
        disks.full,
        hour=24,
        small=0,
        full=200,
        needs=disks.needs_tmpfs,
    ),
    Campaign(
        "races",
        "Several commands at once",
        "races",
        "Two or three drivers begin on one run directory, at once or while one works; readers look on; a driver begins "
        "in the moment when another is killed; a lock is left over, or removed while a driver holds it.",
        races.race,
        hour=30,
        small=1,
        full=200,
    ),
    Campaign(
        "nodes",
        "Several nodes, simulated",
        "runs",
        "A file system in the memory of a process is mounted three times, once for each node. What one node does to "
        "names and sizes reaches each other node up to a second and a half later, in any order: half of the times only "
        "for names that a node has looked for before, as with NFS, else for all. An open file has the bytes of its "
        "last closing. Workers perform tasks on other nodes, readers look on, and two drivers begin on "
        "two nodes, with locks that all nodes share or that each has for itself. Afterwards the same command must end "
        "with the same bytes.",
        late.files,
        hour=12,
        small=0,
        full=120,
        needs=late.needs_fuse,
    ),
    Campaign(
        "histories",
        "Anything in any order",
        "histories",
        "A state machine runs, interrupts, damages, verifies, repairs and copies a run directory, changes its job, "
        "performs tasks in another order and takes its inputs away, up to fifty times. After each step a model says "
        "what must hold, from `verify` that names all damage to the bytes of an undisturbed run.",
        machine.histories,
        hour=10,
        small=0,
        full=500,
    ),
    Campaign(
        "cuts",
        "Hostile scores",
        "arrays",
        "Thresholds of arrays with infinities, both zeros, NaNs of all kinds, denormal and equal numbers, computed in "
        "memory and from a stream of blocks, must be `numpy.quantile`'s bit for bit, or be refused by both.",
        cuts.arrays,
        hour=50,
        small=1,
        full=50,
    ),
    Campaign(
        "fits",
        "Mutated FITS files",
        "files",
        "Good cutouts of ten forms are mutated: bits, cards, headers, blocks, gzip. No file may end the process, take "
        "over 2 s, or be read to pixels that astropy does not read; with headers known from other files the reader "
        "must say the same as without.",
        mutant_fits.files,
        hour=120,
        small=1,
        full=400,
    ),
    Campaign(
        "tars",
        "Mutated tars",
        "tars",
        "Tars with unpleasant names, links and extended headers are damaged, packed, and damaged again. The listing "
        "must have the members that `tarfile` finds, or a note that says what is wrong.",
        mutant_tars.files,
        hour=20,
        small=1,
        full=50,
    ),
    Campaign(
        "catalogues",
        "Mutated catalogues",
        "catalogues",
        "Catalogues in FITS, Parquet, CSV, VOTable and ECSV are mutated. Each is refused in one sentence, or read to "
        "rows whose object_id another reader finds as well.",
        mutant_tables.catalogues,
        hour=20,
        small=1,
        full=100,
    ),
    Campaign(
        "cubes",
        "Mutated cubes",
        "cubes",
        "Cubes in HDF5, NumPy's form and Zarr are mutated. Each is refused, or read without a pixel that is not "
        "finite, the rows that cannot be read named.",
        mutant_tables.cubes,
        hour=20,
        small=1,
        full=100,
    ),
    Campaign(
        "strings",
        "Hostile strings",
        "strings",
        "Markup, formulas, shell, templates, quotes and letters of all kinds stand in catalogues, the job's name, site "
        "files and marks. The report must have no markup of theirs, no CSV a formula, no job script a line; catalogues "
        "must say what they said, or be refused in one sentence.",
        strings.through_everything,
        hour=18,
        small=1,
        full=60,
    ),
    Campaign(
        "memory",
        "Memory",
        "inputs",
        "The nastiest inputs that we know: a huge cutout file, one that unpacks to 1 GiB, headers of megabytes, wide "
        "and long catalogues, compressed coadds. The peak of the process, at the end of its ingest and of all, must "
        "be below the bounds that `plan` declares.",
        memory.peaks,
        hour=9,
        small=0,
        full=9,
    ),
)
CAMPAIGNS = {campaign.name: campaign for campaign in ALL}
