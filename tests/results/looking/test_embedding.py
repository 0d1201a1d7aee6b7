"""UMAP as it is installed, once; and what is said where it is not, or cannot be made."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from swimmy_scale.errors import SwimmyError
from swimmy_scale.results.looking.embedding import N_LEAST, check_embedding, embedded

# Two groups that are far from each other: a map of likeness must part them.
TWO_GROUPS = """
import sys, numpy as np
from swimmy_scale.results.looking.embedding import N_LEAST, embedded
random = np.random.default_rng(3)
values = random.normal(0, 1, (2 * N_LEAST, 4)).astype(np.float32)
values[::2] += 20
place = embedded(values)
assert place.tobytes() == embedded(values.copy()).tobytes()
assert "tensorflow" not in sys.modules
np.save(sys.stdout.buffer, place)
"""


@pytest.mark.slow
def test_a_umap_parts_what_is_unlike_with_the_same_bytes_each_time_and_loads_no_tensorflow() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", TWO_GROUPS], check=True, capture_output=True)
    assert not done.stderr
    place = np.frombuffer(done.stdout[128:], np.float64).reshape(2 * N_LEAST, 2)
    distance = np.hypot(*(place[:, None] - place[None]).T)
    np.fill_diagonal(distance, np.inf)
    assert np.array_equal(distance.argmin(axis=0) % 2, np.arange(len(place)) % 2)
    assert distance[::2, 1::2].min() > 3 * np.partition(distance, 1, axis=0)[1].max()


def test_equal_objects_are_in_one_place() -> None:
    assert not embedded(np.full((N_LEAST, 3), 2.0, np.float32)).any()


def test_too_few_objects_and_no_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    check_embedding(N_LEAST)
    with pytest.raises(SwimmyError, match=r"the sample has 29 objects, and a UMAP needs 30\. .* --map pca\."):
        check_embedding(29)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "umap" else found(name))
    said = r'a map by UMAP needs umap, which is not installed\. Install: .* -m pip install "swimmy-scale\[umap\]"'
    with pytest.raises(SwimmyError, match=said):
        check_embedding(1000)
