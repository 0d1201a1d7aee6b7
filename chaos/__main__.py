"""``python -m chaos``: do campaigns, one by name or all, and say what came of them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from chaos import watch
from chaos.campaigns import CAMPAIGNS
from chaos.lab import Lab
from chaos.records import RESULTS, ROOT, Campaign, Record, carry_out, numbers_of

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


def default_folder() -> Path:
    """In memory where there is some: trials flush to the disk all the time."""
    return (SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else Path("build")) / f"swimmy-chaos-{os.getuid()}"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    words = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    words.add_argument("names", nargs="*", metavar="CAMPAIGN", help=f"by default all: {', '.join(CAMPAIGNS)}")
    words.add_argument("--seed", type=int, default=1)
    counts = words.add_mutually_exclusive_group()
    counts.add_argument("--trials", type=int, help="how many of each, in place of what `make chaos` does")
    counts.add_argument("--small", action="store_true", help="as few as `make test` does")
    counts.add_argument("--full", action="store_true", help="the whole counts, which take days")
    counts.add_argument("--only", type=int, metavar="K", help="repeat trial K alone, and keep no record")
    words.add_argument("--go-on", action="store_true", help="add to what earlier versions stood")
    words.add_argument("--minutes", type=float, default=1e9, help="begin no trial after so long")
    words.add_argument("--each-minutes", type=float, default=1e9, help="the same for each campaign")
    words.add_argument("--folder", type=Path, default=default_folder(), help="where trials are made")
    words.add_argument("--results", type=Path, default=RESULTS, help="where the counts go, as JSON")
    return words


def wanted(campaign: Campaign, given: argparse.Namespace) -> int:
    """How many trials are asked for."""
    if given.trials is not None:
        return int(given.trials)
    return campaign.small if given.small else campaign.full if given.full else campaign.hour


def main() -> int:
    """Do what the command line says; the exit status is 1 if something failed."""
    given = parser().parse_args()
    chosen = [CAMPAIGNS[name] for name in given.names or CAMPAIGNS]
    # Workers are of this checkout, wherever they start.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    if not (missing := watch.missing_compiler()):
        # Children whose output is compared must not differ by this.
        os.environ.setdefault("PYTHONHASHSEED", "0")
        watch.begin_again_with(watch.build(given.folder.absolute()), ["-m", "chaos", *sys.argv[1:]])
    else:
        print(f"{missing}: without it several campaigns are left out", file=sys.stderr)
    lab = Lab(given.folder.absolute(), lambda line: print(line, file=sys.stderr, flush=True))
    try:
        return repeat(chosen[0], lab, given) if given.only is not None else carry_out_all(chosen, lab, given)
    finally:
        lab.close()


def repeat(campaign: Campaign, lab: Lab, given: argparse.Namespace) -> int:
    """One trial again, to look at it."""
    outcome = campaign.trial(lab, given.only, numbers_of(campaign, given.seed, given.only))
    print(f"{outcome.tried} tried, {dict(outcome.counts)}")
    for failure in outcome.failures:
        print(*(f"{key}: {value}" for key, value in failure.items()), sep="\n  ")
    return int(bool(outcome.failures))


def carry_out_all(chosen: list[Campaign], lab: Lab, given: argparse.Namespace) -> int:
    """The campaigns one after the other, each from where it stopped."""
    records: list[Record] = []
    end = time.monotonic() + 60 * given.minutes
    for campaign in chosen:
        deadline = min(end, time.monotonic() + 60 * given.each_minutes)
        number = wanted(campaign, given)
        record = carry_out(campaign, lab, given.seed, number, given.results, deadline, lab.say, given.go_on)
        records.append(record)
        left = f", {record.skipped}" if record.skipped else ""
        took = f"{record.next} of {record.wanted} trials, {record.seconds:.0f} s"
        print(f"{campaign.name}: {record.tried:,} tried, {record.right:,} right ({took}{left})", flush=True)
    return int(any(record.failures for record in records))


if __name__ == "__main__":
    sys.exit(main())
