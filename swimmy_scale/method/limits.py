"""Limits that keep equations 1 and 6 finite in float32, for all that compute them: NumPy, Keras and numba."""

from __future__ import annotations

COUNTS_LIMIT = 3e38
"""Counts are clipped to +-this, so that a sum of rounded weights cannot overflow at the largest float."""

FLUX_LIMIT = 1e30
"""Scaled counts x are clipped to +-this / max(alpha, 1), far above any real flux; it keeps alpha I inside float32."""

SERIES_LIMIT = 1e-4
"""a = alpha |I| of equation 1 is raised to this, where arcsinh(a) / a is 1 to float32: no 0 / 0 at I = 0."""

RECONSTRUCTION_FLOOR = 1e-12
"""Reconstructions below this count as this one in equation 6.

The network's sigmoid is never 0 in exact arithmetic, but underflows in float32; equation 6 would then be infinite or
NaN. With the floor a score stays finite for any survey. No real reconstruction is near it: the stretch maps an empty
sky to 0.05.
"""
