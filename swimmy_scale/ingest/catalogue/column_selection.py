"""Which table of a file is read, and which of its columns, under which of our names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.table_files import Part
from swimmy_scale.method.words import known_names

_MAX_NAMES = 12  # column names that an error lists


class Selection:
    """Chooses the columns to read, once it is called with the names in the file (a `table_files.Pick`).

    It then knows ``names``, those in the file, and positions in it: of ``columns`` and ``kept`` by our names, and of
    ``isnull`` columns by the position of the column that they belong to.
    """

    def __init__(
        self,
        path: Path,
        wanted: Mapping[str, str],
        renames: Mapping[str, str],
        required: Sequence[str],
        kept: Sequence[str],
        hdu: int | str | None = None,
    ) -> None:
        self.path, self.wanted, self.required, self.kept_names, self.hdu = path, wanted, required, kept, hdu
        self.notes: list[str] = []
        self.form = ""
        self.renames = {_plain(ours): theirs for ours, theirs in renames.items()}
        strange = self.renames.keys() - {_plain(name) for name in (*wanted, *kept)}
        if strange:
            name = sorted(strange)[0]
            raise SwimmyError(
                f"--column {name}=...: no column of that name has a meaning here. The name on the left is "
                f"ours. {known_names([name], sorted(wanted), 'names', 'There are')}"
            )

    def __call__(self, names: Sequence[str]) -> dict[int, str]:
        self.names = list(names)
        columns = {name: self._place(name) for name in self.wanted}
        missing = [name for name in self.required if columns[name] is None]
        if missing and self.form == "CSV" and len(self.names) == 1 and len(self.names[0].split()) > 1:
            raise SwimmyError(
                f"{self.path} has no column {', '.join(missing)}, only one, {self.names[0]}. If spaces separate its "
                "columns, save it with commas."
            )
        if missing:
            raise SwimmyError(
                f"{self.path} has no column {', '.join(missing)}. {known_names(missing, self.names, 'columns')} Say "
                f"which column it is with --column OURS=THEIRS, for example --column {missing[0]}=NAME."
            )
        self.columns = {name: place for name, place in columns.items() if place is not None}
        self.kept: dict[str, int] = {}
        for name in self.kept_names:
            place = self._place(name)
            if place is None:
                raise SwimmyError(
                    f"{self.path} has no column {name}, which keep_columns asks for. "
                    f"{known_names([name], self.names, 'columns')} Correct keep_columns."
                )
            self.kept[name] = place
        places = {*self.columns.values(), *self.kept.values()}
        isnull = {place: self._find(f"{self.names[place]}_isnull") for place in sorted(places)}
        self.isnull = {place: flag for place, flag in isnull.items() if flag is not None}
        kinds = dict.fromkeys(self.kept.values(), "text") | dict.fromkeys(self.isnull.values(), "flag")
        kinds |= {place: self.wanted[name] for name, place in self.columns.items()}
        return dict(sorted(kinds.items()))

    def part(self, parts: Sequence[Part]) -> int:
        """See `table_files.Pick`."""
        if self.hdu is not None:
            named = [n for n, part in enumerate(parts) if _is_named(part, self.hdu)]
            if len(named) != 1:
                what = "more than one table" if named else "no table"
                raise SwimmyError(f"{self.path} has {what} {self.hdu!r}, only {_shown(parts)}. Name one of them.")
            return named[0]
        if len(parts) == 1:
            return 0
        found = [self._n_found(part.columns) if self._has_required(part.columns) else -1 for part in parts]
        most = max(found)
        if most < 0:
            raise SwimmyError(
                f"{self.path}: none of its tables has all of {', '.join(self.required)}: {_shown(parts)}. Say which "
                f"column it is with --column OURS=THEIRS, for example --column {self.required[0]}=NAME."
            )
        best = [n for n, number in enumerate(found) if number == most]
        if len(best) > 1 and most:
            raise SwimmyError(
                f"{self.path} has several tables that could be meant: {_shown([parts[n] for n in best])}. Name one of "
                "them with --hdu (catalogue.hdu in a job), or save it alone."
            )
        if best[0]:
            self.notes.append(f"{self.path}: {_label(parts[best[0]])} is read, which has the columns")
        return best[0]

    def suffices(self, part: Part) -> bool:
        """See `table_files.Pick`."""
        return self._has_required(part.columns) if self.hdu is None else _is_named(part, self.hdu)

    def whole_file(self, form: str) -> None:
        """See `table_files.Pick`."""
        self.form = form
        if self.hdu is not None:
            raise SwimmyError(f"{self.path} is {form}, which holds one table. Leave out hdu {self.hdu!r}.")

    def stated(self, units: Mapping[str, str]) -> dict[str, str]:
        """Units by our names, from what the user says of them."""
        plain = {_plain(name): name for name in self.wanted}
        strange = [name for name in units if plain.get(_plain(name)) not in self.columns]
        if strange:
            raise SwimmyError(
                f"--unit {strange[0]}={units[strange[0]]}: {self.path} has no column of that meaning. The name on the "
                f"left is ours. {known_names(strange[:1], sorted(self.columns), 'names', 'There are')}"
            )
        return {plain[_plain(name)]: unit for name, unit in units.items()}

    def _theirs(self, ours: str) -> str:
        return _plain(self.renames.get(_plain(ours), ours))

    def _has_required(self, names: Sequence[str]) -> bool:
        plain = {_plain(name) for name in names}
        return all(self._theirs(name) in plain for name in self.required)

    def _n_found(self, names: Sequence[str]) -> int:
        plain = {_plain(name) for name in names}
        return sum(self._theirs(name) in plain for name in (*self.wanted, *self.kept_names))

    def _place(self, ours: str) -> int | None:
        theirs = self.renames.get(_plain(ours))
        if theirs is None:
            return self._find(ours)
        place = self._find(theirs)
        if place is None:
            raise SwimmyError(
                f"--column {ours}={theirs}: {self.path} has no column {theirs}. "
                f"{known_names([theirs], self.names, 'columns')} Name one of those."
            )
        return place

    def _find(self, name: str) -> int | None:
        exact = [place for place, theirs in enumerate(self.names) if theirs == name]
        alike = exact or [place for place, theirs in enumerate(self.names) if _plain(theirs) == _plain(name)]
        if len(alike) > 1:
            found = ", ".join(self.names[place] for place in alike)
            raise SwimmyError(f"{self.path} has column {name} more than once ({found}). Rename all but one of them.")
        return alike[0] if alike else None


def _plain(name: str) -> str:
    """A column name in the form in which names are compared."""
    return name.lstrip("# ").strip().lower()


def _is_named(part: Part, hdu: int | str) -> bool:
    return str(hdu).strip().lower() in (str(part.number), part.name.lower())


def _label(part: Part) -> str:
    return f"{part.word} {part.number} {part.name}".strip()


def _shown(parts: Sequence[Part]) -> str:
    return "; ".join(f"{_label(part)} ({_listed(part.columns)})" for part in parts)


def _listed(names: Sequence[str]) -> str:
    """Names in one line, at most `_MAX_NAMES` of them."""
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more
