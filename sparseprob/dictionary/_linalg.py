"""Small dense linear algebra of the M-steps."""

import warnings

import numpy as np
from scipy import linalg


def solve_symmetric(A, B):
    """Solve A X = B for positive semi-definite A by Cholesky, with the smallest jitter."""
    scale = np.trace(A) / len(A)
    for jitter in (0.0, 1e-12, 1e-10, 1e-8, 1e-6):
        try:
            factor = linalg.cho_factor(A + jitter * scale * np.eye(len(A)), lower=True)
        except linalg.LinAlgError:
            continue
        if jitter:
            warnings.warn(
                f"The second moments of the codes are singular; {jitter:g} of their mean diagonal "
                "was added. Fewer components or reinit_dead=True avoid it.",
                UserWarning,
                stacklevel=3,
            )
        return linalg.cho_solve(factor, B)
    raise FloatingPointError(
        "The M-step failed: the second moments of the codes are not positive semi-definite; "
        "use fewer components or float64 data."
    )
