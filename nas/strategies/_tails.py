"""What fails should not decide how good candidates are told apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BAD_TAIL = 2.0


def without_bad_tail(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(n,)` losses; further above the median than twice the least is below counts as that far.

    Unknown ones (NaN) stay unknown.
    """
    if not np.isfinite(losses).any():
        return losses
    middle = np.nanmedian(losses)
    return np.minimum(losses, middle + BAD_TAIL * (middle - np.nanmin(losses)))
