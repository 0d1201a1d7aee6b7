"""``docs/reliability.md``, from ``chaos/results/*.json`` and ``chaos/mended.json`` alone: `python -m chaos.page`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaos.campaigns import ALL
from chaos.records import RESULTS, ROOT, Campaign, Record

PAGE = ROOT / "docs" / "reliability.md"
MENDED = ROOT / "chaos" / "mended.json"
SHOWN_COUNTS = 24
INTRODUCTION = """# Reliability

Made by `python -m chaos.page` from the JSON files in `chaos/results`. `make chaos` fills them, in about an hour on two
cores; it goes on where it was interrupted. `python -m chaos CAMPAIGN --trials N` does more, `make test` a small part. A
campaign is seeded, and each of its trials can be repeated alone: `python -m chaos CAMPAIGN --seed S --only K`. With
another version of the program a campaign begins anew; with `--go-on` it adds to what earlier versions stood, after it
has tried again what failed with them. Programs are named by twelve digits of a digest over their sources.

*Right* means: with the command given again, or with `verify --repair`, all bytes of the results are those of a run
that nothing disturbed, and no command ended with a traceback or without an answer. Bytes are compared whole, receipts
but for the times of files.
"""
LIMITS = """## What is not promised

- **Another processor, or other versions of the libraries.** The same bytes need the same instruction set and the same
  installation. Elsewhere the last digits of scores differ.
- **A disk that lies.** A drive that confirms a flush and has not done it can lose what a receipt confirms. `verify`
  finds that, and repairs it while the inputs are there.
- **Damage that `run` cannot see.** A run trusts files of the recorded size and time. Bits that flip without a trace are
  found by `verify`, which reads every byte.
- **Reports elsewhere.** A report, figures and tables have receipts where they lie in their run or selection; `verify`
  names what is damaged, and their own commands make it again. Written elsewhere by `--output` they have none.
- **Unreadable inputs.** A cutout's file that cannot be read costs its object, with the reason in `quarantine.csv`: it
  is not there, may not be read, or lies on a bad sector (`EIO`), even if the whole disk is about to fail. If by its
  number an error is the machine's, nothing is blamed for it: too many open files, no memory, a file server that is away
  or has forgotten the file (`ESTALE`), a ticket that has run out. Then the task fails and is tried again, on a cluster
  three times, and the command ends with that error; `ingest/machine_errors.py` has the list.
- **Inputs that are gone.** What was made of them comes back only where they are.
- **Somebody who forges.** Receipts have checksums, no signatures: they find accidents.
- **Several nodes and network file systems were simulated, not tried.** The protocol needs of them what follows.

## What several nodes need

- **A rename is whole.** A reader on any node finds the old file or the new one under a name, never a part: POSIX asks
  that of a rename within one folder.
- **What was flushed is there.** After `fsync` has returned, a file's bytes and, after that of its folder, its name are
  on the server. A mount with `async` on the side of the server takes that back.
- **Opening looks at the server.** A file that is opened has the bytes of its last closing: NFS calls it close-to-open.
  Names may be late, in any order: in a batch job the driver waits, up to a minute and a half, for receipts that other
  nodes have written and for the files that these name, until they have the sizes that these say; and so does a worker
  for what it reads. After that the run ends with a message, and the same command goes on. Whoever reads a run from
  outside of its batch job, as with `verify`, does not wait, and may miss what has just been written.
- **Locks reach the other nodes.** `flock` must be one lock for all nodes: on NFS without the mount options `nolock` and
  `local_lock`, on Lustre with `flock`. Where it is local to a node, two drivers on two nodes do not see each other: do
  not start two. What they would leave can be verified and repaired.
- **Clocks may differ.** Nothing that is done to results compares the times of two nodes.
"""


def records(folder: Path = RESULTS) -> dict[str, Record]:
    """All results, by the name of their campaign."""
    found = {campaign.name: Record.read(folder / f"{campaign.name}.json") for campaign in ALL}
    return {name: record for name, record in found.items() if record is not None}


def grouped(record: Record) -> list[tuple[str, int, str]]:
    """What failed, how often, and how to see one of them again."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for failure in record.failures:
        groups.setdefault(_plain(str(failure["what"])), []).append(failure)
    return [(what, len(found), str(found[0]["repeat"])) for what, found in groups.items()]


def _plain(text: str) -> str:
    """One short line, without the numbers that differ between failures of one kind."""
    line = text.splitlines()[0] if text else "nothing"
    return line.partition("(")[0].strip().replace("|", "/")[:120]


def summary(found: Mapping[str, Record]) -> list[str]:
    """A line for each campaign."""
    lines = ["| | what | tried | right | minutes |", "|---|---|---|---|---|"]
    for campaign in ALL:
        record = found.get(campaign.name)
        if record is None:
            lines.append(f"| [{campaign.title}](#{_anchor(campaign)}) | {campaign.unit} | not tried | | |")
            continue
        tried = f"{record.tried:,}" if record.tried else record.skipped
        right = f"{record.right:,}" if record.tried else ""
        minutes = f"{record.seconds / 60:.1f}"
        lines.append(f"| [{campaign.title}](#{_anchor(campaign)}) | {campaign.unit} | {tried} | {right} | {minutes} |")
    return lines


def _anchor(campaign: Campaign) -> str:
    return "".join(letter for letter in campaign.title.lower().replace(" ", "-") if letter.isalnum() or letter == "-")


def programs(record: Record) -> str:
    """What was tried, by the version of the program."""
    each = [f"{n:,} with program `{name}`" for name, n in record.programs.items()]
    return f"{', '.join(each)}." if each else ""


def section(campaign: Campaign, record: Record | None) -> list[str]:
    """What a campaign does, and what came of it."""
    text = ["", f"## {campaign.title}", "", campaign.says, ""]
    if record is None:
        return [*text, "Not tried."]
    if record.skipped:
        text += [f"Left out on this machine: {record.skipped}.", ""]
    failed = record.tried - record.right
    text.append(
        f"{record.tried:,} {campaign.unit} tried, {record.right:,} right, {failed:,} not; seed {record.seed}, "
        f"trials 0 to {record.next - 1}: `python -m chaos {campaign.name} --seed {record.seed}`. {programs(record)}"
    )
    if record.mended:
        trials = ", ".join(sorted({str(failure["trial"]) for failure in record.mended}, key=int))
        text += ["", f"Failed at first, and right since the program or its judge was mended: trials {trials}."]
    if record.counts:
        shown = list(record.counts.items())[:SHOWN_COUNTS]
        more = len(record.counts) - len(shown)
        text += ["", "| of them | |", "|---|---|", *(f"| {what} | {n:,} |" for what, n in shown)]
        text += [f"| {more} more sorts | |"] if more else []
    if record.failures:
        text += ["", "| what failed | times | to see it again |", "|---|---|---|"]
        text += [f"| {what} | {n:,} | `{repeat}` |" for what, n, repeat in grouped(record)]
    return text


def mended() -> list[str]:
    """What campaigns have found that is mended."""
    found = json.loads(MENDED.read_text())
    text = ["", "## Found and mended", "", "| what went wrong | how it was found | what holds now |", "|---|---|---|"]
    return [*text, *(f"| {item['was']} | {item['found_by']} | {item['now']} |" for item in found)]


def page(found: Mapping[str, Record]) -> str:
    """The whole page."""
    hours = sum(record.seconds for record in found.values()) / 3600
    text = [INTRODUCTION, f"The results here took {hours:.1f} hours.", "", *summary(found)]
    if failed := sum(record.tried - record.right for record in found.values()):
        text += ["", f"{failed:,} are not right as of these results; the sections name each kind."]
    text += [*mended(), "", LIMITS.rstrip()]
    for campaign in ALL:
        text += section(campaign, found.get(campaign.name))
    return "\n".join(text) + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(records()))


if __name__ == "__main__":
    main()
