"""What the summary says of additions."""

from __future__ import annotations

from typing import Any

import numpy as np

from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.selection import Selection


def added(cutouts: Cutouts, selection: Selection) -> dict[str, Any]:
    """The counts of the additions of a store, for ``summary.json``; nothing where there are none.

    Returns
    -------
    dict
        ``additions``, each with ``name``, ``given`` = ``scored`` + ``quarantined``, and ``superseded``: rows that were
        in quarantine before it, and whose object is usable in it. Their sum is ``superseded``: these rows stay in
        quarantine, and count there.
    """
    if not cutouts.additions:
        return {}
    object_id, code = selection.scores.read("object_id"), selection.scores.read("quarantine_code")
    counts = []
    for addition in cutouts.additions:
        rows = slice(addition.first_row, addition.first_row + addition.n_objects)
        usable = object_id[rows][code[rows] == 0]
        before = object_id[: addition.first_row][code[: addition.first_row] != 0]
        counts.append(
            {
                "name": addition.name,
                "given": addition.n_objects,
                "scored": len(usable),
                "quarantined": addition.n_objects - len(usable),
                "superseded": int(np.isin(before, usable).sum()),
            }
        )
    return {"superseded": sum(count["superseded"] for count in counts), "additions": counts}
