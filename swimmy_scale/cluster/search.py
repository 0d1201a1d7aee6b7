"""The search for the objects of a task at which workers end, and their trial.

Workers end for other reasons too: their node fails, other users take the memory, the batch system needs the place. An
object is blamed only if it ends a worker every time that it is processed alone, while all others of its task pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from swimmy_scale.stages.engine import Task
from swimmy_scale.stages.lost_workers import MAX_LOST_WORKERS, Piece

MAX_SUSPECTS_ALONE = 8
"""So many suspects, and nothing of the task that passes, speak against something else than these objects."""


@dataclass
class Search:
    """The search among the objects of one task; it asks for pieces to be tried and is told what came of them.

    First pieces that end a worker are halved, down to single objects: the suspects. Then come `MAX_LOST_WORKERS`
    trials. In each all suspects are tried alone, and so is what lies between them. Where workers end without a task as
    well, there are up to three times as many trials.

    Attributes
    ----------
    n_ended_idle : callable
        How many workers ended without a task since the search began.
    disturbed : str
        Why no object can be blamed, such as that a worker ended at what had passed before.
    """

    task: Task
    n_ended_idle: Callable[[], int] = lambda: 0
    disturbed: str = ""
    _suspects: set[int] = field(default_factory=set)  # rows, counted from the task's first
    _n_open: int = 0  # pieces that are asked for and not told of
    _n_passed: int = 0
    _trial: int = 0

    @property
    def is_over(self) -> bool:
        """Whether no piece is left to be tried."""
        return self._n_open == 0

    @property
    def found(self) -> list[int]:
        """The rows at fault, counted from the task's first, once the search is over."""
        return [] if self.disturbed else sorted(self._suspects)

    def begin(self) -> list[Piece]:
        """The first pieces to try."""
        whole = Piece(self.task, 0, self.task.n_objects)
        return self._ask(_halves(whole) if self.task.n_objects > 1 else [whole])

    def take(self, piece: Piece, lost: bool) -> list[Piece]:
        """Take what came of a piece: it ended a worker, or passed. Returns further pieces to try next."""
        self._n_open -= 1
        further = []
        if piece.trial:
            self._judge(piece, lost)
        elif not lost:
            self._n_passed += 1
        elif piece.hi - piece.lo > 1:
            further = _halves(piece)
        else:
            self._suspects.add(piece.lo)
            if len(self._suspects) >= MAX_SUSPECTS_ALONE and self._n_passed == 0:
                self.disturbed = f"{len(self._suspects)} objects ended a worker, and nothing passed"
        if self.disturbed:
            return []
        if self._n_open == 0 and not further and self._suspects and self._trial < self._n_trials():
            self._trial += 1
            further = self._pieces_of_trial()
        return self._ask(further)

    def forget(self, n_pieces: int) -> None:
        """Pieces that were asked for will not be tried."""
        self._n_open -= n_pieces

    def _n_trials(self) -> int:
        return (
            MAX_LOST_WORKERS * (1 + min(self.n_ended_idle(), 2))
            if self._trial >= MAX_LOST_WORKERS
            else MAX_LOST_WORKERS
        )

    def _ask(self, pieces: list[Piece]) -> list[Piece]:
        self._n_open += len(pieces)
        return pieces

    def _judge(self, piece: Piece, lost: bool) -> None:
        suspected = piece.hi - piece.lo == 1 and piece.lo in self._suspects
        if suspected and not lost:
            self._suspects.discard(piece.lo)
        elif lost and not suspected:
            self.disturbed = "a worker ended at objects that had passed before"

    def _pieces_of_trial(self) -> list[Piece]:
        """Each suspect, and all that lies between them, in order."""
        pieces, lo = [], 0
        for row in sorted(self._suspects):
            pieces += [Piece(self.task, lo, row, self._trial)] if row > lo else []
            pieces.append(Piece(self.task, row, row + 1, self._trial))
            lo = row + 1
        return [
            *pieces,
            *([Piece(self.task, lo, self.task.n_objects, self._trial)] if lo < self.task.n_objects else []),
        ]


def _halves(piece: Piece) -> list[Piece]:
    middle = (piece.lo + piece.hi) // 2
    return [Piece(piece.task, piece.lo, middle), Piece(piece.task, middle, piece.hi)]
