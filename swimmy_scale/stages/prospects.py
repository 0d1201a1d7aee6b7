"""What would come out of a job, told from the catalogue and the listing of files, before a pixel is read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.quarantine import Code, merge_faults
from swimmy_scale.method.sample import CutCount, SampleColumns, SampleCuts, apply_cuts, merge_counts
from swimmy_scale.method.sections import TrainSection
from swimmy_scale.method.survey import AnyArray, BoolArray, FloatArray, Survey
from swimmy_scale.method.words import counted
from swimmy_scale.stages.sample import nothing_passes
from swimmy_scale.storage.cutouts import Cutouts, SampleRule, depth_limits
from swimmy_scale.storage.scores import BLOCK_OBJECTS

if TYPE_CHECKING:
    from swimmy_scale.ingest.catalogue.objects import Objects
    from swimmy_scale.ingest.pixels.sources import Index


@dataclass(frozen=True)
class Prospects:
    """How many objects a job has, and how far each would get. Numbers that are not known yet are None.

    Attributes
    ----------
    source : str
        Catalogue or store.
    n_objects, n_usable : int
        Given, and not in quarantine by what is known so far.
    quarantined : dict of str to (int, str)
        By code: objects, and the reason of the first.
    in_band : dict of str to int, optional
        Objects that have pixels in each band.
    seeing : dict of str to (int, float)
        By band: objects whose FWHM is known, and its median in arcsec.
    classes : dict of str to int
        Objects of each class, the most common first; ``""`` for those of no known class.
    cuts : list of CutCount
        Of the sample; empty where there is none.
    members : Counter of str
        Objects that training would choose from (under the name ``""``), and of the sample in each of the classes that
        judge weights.
    """

    source: str
    n_objects: int
    n_usable: int
    quarantined: dict[str, tuple[int, str]]
    in_band: dict[str, int] | None
    seeing: dict[str, tuple[int, float]]
    classes: dict[str, int]
    cuts: list[CutCount]
    members: Counter[str]
    train: TrainSection | None

    @property
    def n_training(self) -> int:
        """Objects that training would take."""
        n_objects, most = self.members[""], self.train.max_objects if self.train else None
        return n_objects if most is None else min(n_objects, most)

    def problems(self) -> Iterator[str]:
        """Why nothing would come out, in sentences; none if something would."""
        if self.n_usable == 0:
            found = "; ".join(f"{number:,} {code} ({reason})" for code, (number, reason) in self.quarantined.items())
            yield (
                f"{self.source}: all {counted(self.n_objects, 'objects')} would be in quarantine: {found}. Correct "
                "what the first of each says, or the columns that the job names."
            )
            return
        if self.cuts and (problem := nothing_passes(self.cuts)):
            yield f"{self.source}: {problem}"
            return
        if self.train is not None and not self.n_training:
            yield (
                f"{self.source}: no object of class {', '.join(self.train.classes) or 'any'} passes the sample cuts: "
                f"there is nothing to train on (classes: {self.words_for_classes()}). Set train.classes to classes of "
                "the catalogue's sample_class, or to [] for the whole sample."
            )
        elif self.train is not None and (problem := self.train.schedule.too_few(self.n_training)):
            yield f"{self.source}: {problem}"
        if (
            self.train is not None
            and self.train.evaluates
            and not any(self.members[name] for name in self.train.known_classes)
        ):
            yield (
                f"{self.source}: no object of the known classes {', '.join(self.train.known_classes)} is in the "
                f"sample, so they cannot judge weights (classes: {self.words_for_classes()}). Set train.known_classes "
                "to classes of the catalogue's sample_class, or train.choose: validation_loss without train.evaluate."
            )

    def check(self) -> None:
        """Refuse a job of which nothing would come out."""
        if problems := list(self.problems()):
            raise SwimmyError("\n".join(problems))

    def words_for_classes(self) -> str:
        """The classes and their numbers: ``no class 40``."""
        return ", ".join(f"{name or 'no class'} {number:,}" for name, number in self.classes.items()) or "none"


def _seeing(bands: tuple[str, ...], fwhm: FloatArray) -> dict[str, tuple[int, float]]:
    known = [column[np.isfinite(column)] for column in fwhm.T]
    return {
        band: (len(values), float(np.median(values)) if len(values) else math.nan)
        for band, values in zip(bands, known, strict=True)
    }


def _members(kinds: AnyArray, in_sample: BoolArray, trainable: BoolArray, train: TrainSection) -> Counter[str]:
    """Objects to train on (under the name ``""``), and of the known classes in the sample."""
    wanted = trainable & np.isin(kinds, train.classes) if train.classes else trainable
    known = {name: int((in_sample & (kinds == name)).sum()) for name in train.known_classes}
    return Counter({"": int(wanted.sum()), **known})


def prospects_of_catalogue(
    source: str,
    objects: Objects,
    survey: Survey,
    cuts: SampleCuts | None = None,
    train: TrainSection | None = None,
    index: Index | None = None,
) -> Prospects:
    """The prospects of a catalogue, and of its files where their ``index`` is known.

    Without ``cuts`` there is no sample, without ``train`` nothing is trained.
    """
    usable = np.ones(len(objects), np.bool_)
    merged = merge_faults(list(objects.faults))
    usable[[fault.row for fault in merged]] = False
    codes = Counter(fault.code for fault in merged)
    reasons = {fault.code: fault.reason for fault in reversed(merged)}
    quarantined = {code.label: (number, reasons[code]) for code, number in sorted(codes.items())}
    in_band = None
    if index is not None:
        there = np.ones((len(objects), survey.n_bands), np.bool_) if index.cube is not None else index.file >= 0
        in_band = dict(zip(survey.bands, there.sum(axis=0).tolist(), strict=True))
        lacking = usable & ~there.all(axis=1)
        if lacking.any():
            bands = [band for band, has in zip(survey.bands, there[np.argmax(lacking)], strict=True) if not has]
            reason = f"no pixels in band{'s' if len(bands) > 1 else ''} {', '.join(bands)}"
            quarantined[Code.MISSING_BAND.label] = (int(lacking.sum()), reason)
        usable &= ~lacking
    names = ("fwhm_arcsec", "depth_mag", "mag", "psf_mag", "flags", "redshift")
    columns = SampleColumns(usable=usable, **{name: getattr(objects, name) for name in names})
    kinds, counts, members = objects.sample_class.astype(str), list[CutCount](), Counter[str]()

    def cut(wanted: SampleCuts) -> tuple[BoolArray, list[CutCount]]:
        limits = depth_limits(wanted, survey.n_bands, [objects.depth_mag])
        return apply_cuts(columns, wanted, survey, objects.available, limits)

    if cuts is not None:
        in_sample, counts = cut(cuts)
        if train is not None:
            members = _members(kinds, in_sample, cut(train.cuts(cuts))[0], train)
    seeing, classes = _seeing(survey.bands, objects.fwhm_arcsec), dict(Counter(kinds.tolist()).most_common())
    n_usable, n_objects = int(usable.sum()), len(objects)
    return Prospects(source, n_objects, n_usable, quarantined, in_band, seeing, classes, counts, members, train)


def prospects_of_store(store: Cutouts, cuts: SampleCuts, train: TrainSection | None) -> Prospects:
    """The prospects of cutouts that are ingested already; their pixels are not read."""
    rules = [SampleRule.of(store, cuts), SampleRule.of(store, train.cuts(cuts) if train else cuts)]
    counts, codes, classes, members = list[list[CutCount]](), Counter[int](), Counter[str](), Counter[str]()
    fwhm, n_own = [], Cutouts.without_additions(store.path).n_objects
    for lo in range(0, store.n_objects, BLOCK_OBJECTS):
        hi = min(lo + BLOCK_OBJECTS, store.n_objects)
        code, kinds = store.read("quarantine_code", lo, hi), store.read("sample_class", lo, hi).astype(str)
        codes.update(code.tolist())
        classes.update(kinds.tolist())
        fwhm.append(store.read("fwhm_arcsec", lo, hi))
        (in_sample, found), (trainable, _) = (rule.apply(store, lo, hi, code == 0) for rule in rules)
        counts.append(found)
        if train is not None:
            # Additions neither train nor judge (see `Cutouts.without_additions`).
            own = slice(max(n_own - lo, 0))
            members += _members(kinds[own], in_sample[own], trainable[own], train)
    n_usable = codes.pop(0, 0)
    quarantined = {Code(code).label: (number, "see its quarantine.csv") for code, number in sorted(codes.items())}
    in_band = dict.fromkeys(store.survey.bands, n_usable)
    seeing = _seeing(store.survey.bands, np.concatenate(fwhm))
    ordered, cut, path = dict(classes.most_common()), merge_counts(counts), str(store.path)
    return Prospects(path, store.n_objects, n_usable, quarantined, in_band, seeing, ordered, cut, members, train)
