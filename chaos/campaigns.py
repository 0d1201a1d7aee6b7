"""All campaigns, in the order of the page."""

from __future__ import annotations

from chaos import kills, power
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
        small=2,
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
        hour=100,
        small=3,
        full=4000,
        needs=missing_compiler,
    ),
    Campaign(
        "power",
        "The power cut",
        "power cuts",
        "ext4, with three sets of options, and xfs, in a file that is mounted: the file system is shut down by ioctl "
        "before or within a call, which loses all that was not flushed, then mounted again. What had a receipt must be "
        "there, and the command given again must end with the same bytes.",
        power.cut,
        hour=100,
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
        hour=100,
        small=3,
        full=4000,
        needs=missing_compiler,
    ),
)
CAMPAIGNS = {campaign.name: campaign for campaign in ALL}
