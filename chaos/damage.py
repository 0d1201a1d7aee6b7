"""Damage to a finished run: `verify` must name it, the program put it right, and no command end badly on it."""

from __future__ import annotations

import codecs
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chaos.lab import Lab, Trial, clear, copy, differences, snapshot
from chaos.records import Outcome
from chaos.scenes import RUN, TRAIN, Scene

FLIPS = 80
NOBODY = 65534
SECONDS_TO_ANSWER = 60.0


def pristine(lab: Lab, scene: Scene) -> Path:
    """The folder of a finished run with its report; nobody may change it."""
    folder = lab.a_folder(f"pristine-{scene.name}")
    if not folder.exists():
        copy(scene.finished(lab), folder)
        assert lab.run("report", folder / "run").status == 0
        lab.undisturbed[f"pristine-{scene.name}"] = snapshot(folder / "run")
    return folder


def scene_of(k: int) -> Scene:
    """Two of three runs have trained."""
    return TRAIN if k % 3 else RUN


def kinds_of_files(run: Path) -> dict[str, list[str]]:
    """The files of a run by what they are, but for logs, locks and reports, which have no receipts."""
    kinds: dict[str, list[str]] = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_file() and not name.startswith(("log/", "report/")) and not name.endswith((".lock", "driver.json")):
            kinds.setdefault(_kind_of(name), []).append(name)
    return kinds


def _kind_of(name: str) -> str:
    top, *rest = name.split("/")
    if not rest:
        return top
    if top.endswith(".zarr"):
        return f"{top}: {'metadata' if rest[-1] == 'zarr.json' else 'chunks'}"
    if top == "receipts":
        return f"receipts: {'the end of a stage' if rest[-1] == 'finished.json' else 'others'}"
    return f"{top}: {Path(rest[-1]).suffix}" if top == "models" else top


def some_file(kinds: dict[str, list[str]], rnd: random.Random) -> str:
    """A file: every kind is as likely as every other."""
    return rnd.choice(kinds[rnd.choice(sorted(kinds))])


def keeping_times(path: Path, change: Callable[[bytearray], object]) -> None:
    """Change a file as a failing disk does: without a trace in its times."""
    status, data = path.stat(), bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip(path: Path, rnd: random.Random, only_high: bool = False) -> int:
    """Flip a bit, or the highest of a byte, so that a text is no UTF-8; says which."""
    size = path.stat().st_size
    if not size:
        path.write_bytes(b"\xff")
        return -1
    bit = rnd.randrange(size) * 8 + 7 if only_high else rnd.randrange(size * 8)

    def change(data: bytearray) -> None:
        data[bit // 8] ^= 1 << bit % 8

    keeping_times(path, change)
    return bit


def verify(lab: Lab, run: Path, before: Callable[[], object] = lambda: None) -> Trial:
    """Ask what is wrong with a run."""
    words = ("verify", run, "--workers", 0, "--json")
    return lab.run(*words, log="verify", before=before, seconds=SECONDS_TO_ANSWER)


def named(found: Trial) -> set[str]:
    """Every path that `verify` complains about; a stage that is not finished stands for the receipt that closes it."""
    document = found.document or {}
    unfinished = {f"receipts/{stage}/finished.json" for stage in document.get("unfinished", [])}
    return {item["path"] for item in document.get("damaged", [])} | set(document.get("unexpected", [])) | unfinished


def _is_spare(name: str) -> bool:
    """A report is made again by its own command; an earlier state of a training is needed by nothing."""
    return "report/" in name or "/state-" in name


def _states(source: Path, run: Path) -> list[Path]:
    """Where the states of trainings should lie; the receipt of a training names those that are there."""
    return [run / path.relative_to(source / "run") for path in (source / "run").glob("models/*/state-*")]


def put_right(
    lab: Lab,
    outcome: Outcome,
    folder: Path,
    scene: Scene,
    by_run: bool,
    details: dict[str, object],
    **how: Callable[[], object],
) -> None:
    """Have the program repair a run: all must be as before, at the first try."""
    run = folder / "run"
    words = scene.words(lab, folder) if by_run else ("verify", run, "--repair", "--workers", 0)
    if scene.trains:
        assert lab.has_network
    trial = lab.run(*words, log="repair", seconds=120.0, **how)
    if trial.status == 1 and f"own commands: `swimmy-scale report {run}`" in trial.text and not trial.faults:
        # What it leaves to this command, and says so.
        trial = lab.run("report", run, log="repair", seconds=120.0)
        trial = lab.run("verify", run, "--workers", 0, log="repair", seconds=120.0) if trial.status == 0 else trial
    remedy = f"`swimmy-scale verify {run} --repair`"
    if "before" in how and by_run and trial.status == 1 and remedy in trial.text and not trial.faults:
        # Where only the permission is gone, size and time are right: a run sees nothing until it must read the file.
        trial = lab.run("verify", run, "--repair", "--workers", 0, log="repair", seconds=120.0, **how)
    expected = lab.undisturbed[f"pristine-{scene.name}"]
    differ = [name for name in differences(expected, snapshot(run)) if not _is_spare(name)]
    if differ == ["receipts/train/000000.json"] and not all(
        path.exists() for path in _states(pristine(lab, scene), run)
    ):
        differ = []
    is_sound = trial.status == 0 and "every file is as its receipt says" in trial.text
    outcome.expect(
        (trial.status == 3 or is_sound) and not differ and not trial.faults,
        f"{words[0]} does not bring all back",
        **{"status": trial.status, "differ": differ[:6], "said": trial.last_line, "faults": trial.faults, **details},
    )


# ---------------------------------------------------------------- flips


def flips(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """Bits flip in many files, or in one: each is named, and `verify --repair` puts all right."""
    outcome, folder = Outcome(tried=0), lab.a_folder()
    scene = scene_of(k)
    source, run = pristine(lab, scene), folder / "run"
    copy(source, folder)
    kinds = kinds_of_files(run)
    # What a damaged receipt owns is not known: receipts are damaged alone.
    many = {kind: names for kind, names in kinds.items() if not kind.startswith("receipts")}
    chosen = {some_file(many, rnd) for _ in range(FLIPS)} if k % 4 else {some_file(kinds, rnd)}
    bits = {name: flip(run / name, rnd, only_high=k % 5 == 0) for name in sorted(chosen)}
    found = verify(lab, run)
    complaints = named(found)
    unnamed = [f"{name} bit {bit}" for name, bit in bits.items() if name not in complaints]
    outcome.tried = len(bits)
    for name in bits:
        outcome.counts[_kind_of(name)] += 1
    outcome.failures += [{"what": "verify does not name a flipped bit", "file": name} for name in unnamed]
    outcome.expect(not found.faults, "verify ends badly", faults=found.faults, bits=bits)
    put_right(lab, outcome, folder, scene, by_run=False, details={"bits": dict(list(bits.items())[:30])})
    return outcome


# ---------------------------------------------------------------- everything else


@dataclass(frozen=True)
class Damage:
    """Something done to one file of a run.

    Attributes
    ----------
    is_seen : bool
        Whether it can be seen without reading the file, so that `run` finds it as well as `verify`.
    is_harmless : bool
        Whether nothing is lost by it, so that `verify` may pass it over.
    """

    name: str
    do: Callable[[Path, random.Random, list[Path]], object]
    is_seen: bool = True
    is_harmless: bool = False


def _becomes(make: Callable[[Path], object]) -> Callable[[Path, random.Random, list[Path]], object]:
    def do(path: Path, rnd: random.Random, others: list[Path]) -> None:
        path.unlink()
        make(path)

    return do


def _swap(path: Path, rnd: random.Random, others: list[Path]) -> None:
    other, between = rnd.choice(others), path.with_name("between")
    path.rename(between)
    other.rename(path)
    between.rename(other)


def _copy_over(path: Path, rnd: random.Random, others: list[Path]) -> None:
    shutil.copy2(rnd.choice(others), path)


def _noise(path: Path, rnd: random.Random, others: list[Path]) -> None:
    keeping_times(path, lambda data: data.__setitem__(slice(None), rnd.randbytes(len(data))))


def _zeros(path: Path, rnd: random.Random, others: list[Path]) -> None:
    keeping_times(path, lambda data: data.__setitem__(slice(None), bytes(len(data))))


def _append(path: Path, rnd: random.Random, others: list[Path]) -> None:
    with path.open("ab") as stream:
        stream.write(rnd.randbytes(rnd.choice([1, 512])))


def _stray(path: Path, rnd: random.Random, others: list[Path]) -> None:
    (path.parent / rnd.choice(["stray", "99", "zarr.json.bak", "000099.json"])).write_bytes(b"stray")


DAMAGES = (
    Damage("cut off", lambda path, rnd, others: os.truncate(path, rnd.randrange(max(path.stat().st_size, 1)))),
    Damage("emptied", lambda path, rnd, others: os.truncate(path, 0)),
    Damage("deleted", lambda path, rnd, others: path.unlink()),
    Damage("its folder deleted", lambda path, rnd, others: shutil.rmtree(path.parent)),
    Damage("longer", _append),
    Damage("noise of the same size and time", _noise, is_seen=False),
    Damage("zeros of the same size and time", _zeros, is_seen=False),
    Damage("swapped with another of its kind", _swap, is_seen=False),
    Damage("another of its kind copied over it", _copy_over, is_seen=False),
    Damage(
        "a link to another", _becomes(lambda path: path.symlink_to(next(iter(sorted(path.parent.iterdir())), "no")))
    ),
    Damage("a link to nowhere", _becomes(lambda path: path.symlink_to("/nowhere/at/all"))),
    Damage("a folder in its place", _becomes(Path.mkdir)),
    Damage("a pipe in its place", _becomes(os.mkfifo)),
    Damage("not permitted", lambda path, rnd, others: path.chmod(0)),
    Damage("a stray file beside it", _stray, is_harmless=True),
    Damage("another time", lambda path, rnd, others: os.utime(path, (0, 0)), is_harmless=True),
)


def _as_nobody(folder: Path) -> Callable[[], object]:
    """Root may read everything: give the folder to nobody, and become nobody."""
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)

    def become() -> None:
        # Nobody may not read the interpreter's own modules either, where they lie in root's home.
        for name in ("ascii", "latin-1"):
            codecs.lookup(name)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        os.environ.update(HOME=str(folder), MPLCONFIGDIR=str(folder / "matplotlib"))

    return become


def files(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """One file is damaged in some other way: `verify` names it, and `run` or `verify --repair` puts it right."""
    outcome, folder = Outcome(), lab.a_folder()
    scene, damage = scene_of(k), DAMAGES[k % len(DAMAGES)]
    source, run = pristine(lab, scene), folder / "run"
    copy(source, folder)
    kinds = kinds_of_files(run)
    name = some_file(kinds, rnd)
    others = _others(run, name, kinds[_kind_of(name)])
    if not others and damage.do in (_swap, _copy_over):
        name = rnd.choice(kinds["scores.zarr: chunks"])
        others = _others(run, name, kinds[_kind_of(name)])
    if damage.name == "its folder deleted" and "/" not in name:
        name = rnd.choice(kinds["scores.zarr: chunks"])
    details: dict[str, object] = {"damage": damage.name, "file": name}
    damage.do(run / name, rnd, others)
    how = {"before": _as_nobody(folder)} if damage.name == "not permitted" and os.getuid() == 0 else {}
    outcome.counts[damage.name] += 1
    found = verify(lab, run, **how)
    complaints = named(found)
    is_named = name in complaints or any(item.startswith(f"{name.rpartition('/')[0]}/") for item in complaints)
    outcome.expect(is_named or damage.is_harmless, "verify does not name it", said=found.last_line, **details)
    outcome.expect(not found.faults, "verify ends badly", faults=found.faults, **details)
    _strays_are_removed(source / "run", run, complaints)
    put_right(lab, outcome, folder, scene, by_run=damage.is_seen and k // len(DAMAGES) % 2 == 1, details=details, **how)
    # However many things were wrong with it, it is one damage.
    outcome.failures = outcome.failures[:1]
    return outcome


def _others(run: Path, name: str, names: list[str]) -> list[Path]:
    data = (run / name).read_bytes()
    return [run / other for other in names if other != name and (run / other).read_bytes() != data]


def _strays_are_removed(source: Path, run: Path, complaints: set[str]) -> None:
    """As `verify` asks people to do with what it does not expect."""
    for name in complaints:
        if not (source / name).exists() and (run / name).exists():
            clear(run / name)
    for name in ("stray", "99", "zarr.json.bak", "000099.json"):
        for path in run.rglob(name):
            if not (source / path.relative_to(run)).exists():
                path.unlink()


# ---------------------------------------------------------------- commands on damage that nobody has looked for


def commands(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """A damaged run is read by every command: each answers, and none with a traceback."""
    outcome, folder = Outcome(tried=0), lab.a_folder()
    scene = scene_of(k)
    copy(pristine(lab, scene), folder)
    run = folder / "run"
    kinds = kinds_of_files(run)
    name = some_file(kinds, rnd)
    bit = flip(run / name, rnd, only_high=k % 2 == 0)
    object_id = _an_object(lab)
    if scene.trains:
        assert lab.has_network
    for words in (
        ("status", run),
        scene.words(lab, folder),
        ("verify", run, "--workers", 0),
        rnd.choice(
            [("report", run), ("tables", run), ("show", run, object_id), ("compare", run, pristine(lab, scene) / "run")]
        ),
    ):
        outcome.tried += 1
        outcome.counts[str(words[0])] += 1
        trial = lab.run(*words, seconds=120.0)
        outcome.expect(not trial.faults, f"{words[0]} ends badly", faults=trial.faults, file=name, bit=bit)
    return outcome


def _an_object(lab: Lab) -> int:
    if "object" not in lab.journals:
        from astropy.table import Table

        lab.journals["object"] = int(Table.read(pristine(lab, RUN) / "run/candidates.ecsv")["object_id"][0])
    return int(lab.journals["object"])
