"""Threads of a process that runs the network."""

from __future__ import annotations

import pytest
from small_networks import TINY

from swimmy_scale.errors import SwimmyError
from swimmy_scale.model.autoencoder import build
from swimmy_scale.model.devices import configure_threads


@pytest.mark.parametrize("n_threads", [0, 2])
def test_threads_cannot_change_after_first_use(one_thread, n_threads):
    build(TINY)
    configure_threads(1)
    with pytest.raises(SwimmyError, match=r"n_threads 0 must be 1|already runs with 1 threads .* and 2 were asked for"):
        configure_threads(n_threads)
