"""Hostile strings through catalogues, report, tables, marks and job scripts: they come out as text, and the same."""

from __future__ import annotations

import csv
import random
import re
import unicodedata
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.table import Table

from chaos.lab import Lab, Trial, copy
from chaos.records import Outcome
from chaos.scenes import RUN, SITE, lay_out

CANARY = "chaos-canary"
PIECES = (
    *("<script>alert(1)</script>", "</script><script>alert(2)</script>", "<img src=x onerror=alert(3)>", "<!--", "-->"),
    *("]]>", "&lt;", "&#0;", "{{7*7}}", "{% raw %}", "${7*7}", "`id`", "$(touch chaos-canary)", ";touch chaos-canary"),
    *(
        "|touch chaos-canary",
        "\ntouch chaos-canary\n",
        "\r\ntouch chaos-canary",
        "'",
        '"',
        "\\",
        "\\n",
        "%s%n",
        "%(x)s",
    ),
    *(
        "{0.__class__}",
        "=cmd|'/c calc'!A0",
        "+1+1",
        "-1+1",
        "@SUM(1)",
        "\t=1",
        "a,b;c|d",
        '"quoted, ""twice"""',
        "null",
    ),
    *("nan", "None", "javascript:alert(4)", "data:text/html,x", "../../etc/passwd", "C:\\x", "\\N", "--", "#comment"),
    *("&copy;", "\\u003cscript\\u003e", "<svg/onload=alert(5)>", "' OR 1=1 --", "!!python/object/apply:os.system [id]"),
)
WIDE = ("\u202eevil", "\u2028", "\ufeff", "é", "𝔘", "\x85", "ﬁ", "\u0000"[:0], "名前", "🪐")
CONTROL = ("\x00", "\x07", "\x1b[31m", "\x7f", "\x01")
FORMULA = ("=", "+", "@", "\t", "\r")
MARKS_HEADER = ("format_version", "object_id", "mark", "note")


def hostile(rnd: random.Random, plain: bool = False) -> str:
    """A string; ``plain`` has printable ASCII alone, as FITS demands."""
    pieces = rnd.choices(PIECES if plain else (*PIECES, *WIDE), k=rnd.choice([1, 1, 2, 4]))
    text = "".join(pieces)
    return "".join(character for character in text if " " <= character <= "~") if plain else text


class _Tags(HTMLParser):
    """All that is markup in a page: tags with the names of their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[str, ...]] = set()
        self.n_scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add((tag, *sorted(name for name, _ in attrs)))
        self.n_scripts += tag == "script"


def _tags(page: Path) -> _Tags:
    tags = _Tags()
    tags.feed(page.read_text())
    return tags


def through_everything(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """A survey whose catalogue holds hostile strings, or a site file or a file of marks that does."""
    sort = (_site, _marks, _catalogue)[k % 3]
    return sort(lab, rnd)


def _answers(outcome: Outcome, trial: Trial, what: str, allowed: tuple[int, ...], text: object) -> bool:
    good = trial.status in allowed and not trial.faults
    return outcome.expect(good, f"{what} ends badly", status=trial.status, said=trial.text[-300:], text=text)


# ---------------------------------------------------------------- catalogues


def _catalogue(lab: Lab, rnd: random.Random) -> Outcome:
    folder = lab.a_folder()
    RUN.prepare(lab, folder)
    form = rnd.choice(["fits", "parquet"])
    catalogue, notes = _with_notes(lab, folder, form, rnd)
    outcome = Outcome(tried=len(notes))
    outcome.counts[f"in a catalogue of {form}"] += len(notes)
    job = yaml.safe_load((folder / "model.yaml").read_text())
    job["name"] = hostile(rnd)
    job["catalogue"] |= {"path": str(catalogue), "keep_columns": ["note"]}
    (folder / "hostile.yaml").write_text(yaml.safe_dump(job))
    # A file whose name nobody would choose.
    (folder / "more").mkdir()
    (folder / "more" / f"=1+1,'{CANARY}'-cutout-HSC-I-9000.fits").write_bytes(b"x")
    run = folder / "run"
    trial = lab.run("run", folder / "hostile.yaml", "--output", run, "--workers", 0, seconds=120)
    if not _answers(outcome, trial, "run", (1, 3), job["name"]) or trial.status == 1:
        outcome.counts["refused"] += len(notes)
        return outcome
    for command in ("report", "tables"):
        _answers(outcome, lab.run(command, run, seconds=120), command, (0, 1), "")
    _check_page(lab, outcome, run)
    _check_candidates(outcome, run, notes)
    return outcome


def _with_notes(lab: Lab, folder: Path, form: str, rnd: random.Random) -> tuple[Path, dict[int, str]]:
    """The survey's catalogue with a hostile note in every row."""
    table = Table.read(lab.data / "survey/catalogue.fits")
    notes = [hostile(rnd, plain=form == "fits") for _ in range(len(table))]
    table["note"] = np.array(notes)
    table.convert_bytestring_to_unicode()
    path = folder / f"catalogue.{form}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table.write(path, format=form)
    return path, dict(zip(table["object_id"].tolist(), notes, strict=True))


def _check_page(lab: Lab, outcome: Outcome, run: Path) -> None:
    """The page has no markup that an ordinary one has not."""
    page = run / "report/index.html"
    if not page.exists():
        return
    if "page" not in lab.journals:
        ordinary = lab.a_folder("ordinary")
        copy(RUN.finished(lab), ordinary)
        assert lab.run("report", ordinary / "run").status == 0
        lab.journals["page"] = _tags(ordinary / "run/report/index.html")
    found, known = _tags(page), lab.journals["page"]
    new = {tag for tag in found.found - known.found if any(name.startswith("on") for name in tag) or tag[0] in BAD_TAGS}
    outcome.expect(not new and found.n_scripts == known.n_scripts, "the page has markup of its data", tags=sorted(new))


BAD_TAGS = ("script", "img", "svg", "iframe", "object", "embed", "base", "meta", "link")


def _as_in_ecsv(text: str) -> str:
    """Control characters and all that ends lines, escaped."""
    odd = {one for one in text if unicodedata.category(one) in ("Cc", "Zl", "Zp")}
    return "".join(one.encode("unicode_escape").decode() if one in odd else one for one in text)


def _check_candidates(outcome: Outcome, run: Path, notes: dict[int, str]) -> None:
    """The catalogues of candidates say what the survey's catalogue said, and no cell of a CSV begins a formula."""
    for suffix, form in (("fits", "fits"), ("ecsv", "ascii.ecsv"), ("vot", "votable"), ("parquet", "parquet")):
        path = run / f"candidates.{suffix}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                table: Any = Table.read(path, format=form)
                table.convert_bytestring_to_unicode()
        except Exception as error:
            outcome.expect(False, f"candidates.{suffix} cannot be read", error=f"{type(error).__name__}: {error}"[:200])
            continue
        for object_id, note in zip(table["object_id"].tolist(), table["note"].tolist(), strict=True):
            expected = notes[object_id]
            if suffix == "ecsv":
                expected = _as_in_ecsv(expected.strip())
            # Text files end lines in a way of their own.
            same = str(note or "").strip().splitlines() == expected.strip().splitlines()
            # FITS has no letters but ASCII.
            may_differ = suffix == "fits" and not expected.isascii()
            outcome.expect(same or may_differ, f"candidates.{suffix} says something else", note=note, was=expected)
    for path in [run / "quarantine.csv", *run.glob("tables/*.csv")]:
        with path.open(newline="") as stream:
            cells = [cell for row in csv.reader(stream) for cell in row if cell.startswith(FORMULA)]
        outcome.expect(not cells, f"{path.name} has a cell that begins a formula", cells=cells[:3])


# ---------------------------------------------------------------- job scripts

KEYS = (
    "account",
    "queue",
    "walltime",
    "memory",
    "local-directory",
    "job-extra-directives",
    "worker-extra-args",
    "shebang",
)


def _site(lab: Lab, rnd: random.Random) -> Outcome:
    """Values of a site file: refused, or written so that they begin no line of a script."""
    outcome, folder = Outcome(tried=0), lab.a_folder()
    RUN.prepare(lab, folder)
    for number in range(6):
        key, text = rnd.choice(KEYS), hostile(rnd) + rnd.choice(["", f"\ntouch {CANARY}", f"\r\ntouch {CANARY}"])
        content = yaml.safe_load(SITE.read_text())
        group = rnd.choice(["slurm", "driver", "cpu"])
        content["jobqueue"].setdefault(group, {})[key] = [text] if key.startswith(("job-", "worker-")) else text
        site = folder / f"site-{number}.yaml"
        site.write_text(yaml.safe_dump(content, allow_unicode=True))
        words = ("submit", folder / "model.yaml", "--output", folder / "run", "--site", site, "--print-job-script")
        trial = lab.run(*words, seconds=60)
        outcome.tried += 1
        outcome.counts["in a site file"] += 1
        what = {"key": f"{group}.{key}", "text": text}
        _answers(outcome, trial, "submit --print-job-script", (0, 1), what)
        if trial.status == 0:
            lines = [line for line in re.split(r"[\r\n]+", trial.text) if line.strip().startswith(f"touch {CANARY}")]
            outcome.expect(not lines, "a value is a line of its own in a job script", **what)
    return outcome


# ---------------------------------------------------------------- marks


def _marks(lab: Lab, rnd: random.Random) -> Outcome:
    """Notes of marks: refused, or in the vetted catalogue as they were."""
    outcome, folder = Outcome(), lab.a_folder()
    copy(RUN.finished(lab), folder)
    lay_out(lab, folder)
    ids = Table.read(folder / "run/candidates.ecsv")["object_id"].tolist()
    notes = {object_id: hostile(rnd, plain=rnd.random() < 0.5) for object_id in ids}
    outcome.tried = len(notes)
    outcome.counts["in a file of marks"] += len(notes)
    rows = [("1", str(object_id), "known", note) for object_id, note in notes.items()]
    damage = rnd.choice(["", "", "bytes", "control", "long", "digits"])
    with (folder / "marks.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([MARKS_HEADER, *rows])
        more = {"control": f"1,{ids[0]},known,{rnd.choice(CONTROL)}\n", "digits": f"1,{'9' * 5000},known,\n"}
        stream.write(more.get(damage, f"1,{ids[0]},known,{'x' * 200_000}\n" if damage == "long" else ""))
    if damage == "bytes":
        with (folder / "marks.csv").open("ab") as raw:
            raw.write(f"1,{ids[0]},known,".encode() + b"\xff\xfe\n")
    words = ("select", folder / "run", "--marks", folder / "marks.csv", "--output", folder / "vetted")
    trial = lab.run(*words, seconds=60)
    if _answers(outcome, trial, "select --marks", (0, 1), damage or list(notes.values())) and trial.status == 0:
        table = Table.read(folder / "vetted/vetted.ecsv", format="ascii.ecsv")
        for object_id, note in zip(table["object_id"].tolist(), table["mark_note"].tolist(), strict=True):
            same = str(note or "").strip() == _as_in_ecsv(notes[object_id]).strip()
            outcome.expect(same or bool(damage), "vetted.ecsv says something else", note=note, was=notes[object_id])
    return outcome
