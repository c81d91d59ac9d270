"""
Ternary sparse coding: causes with a sign
=========================================

A bar may be added or taken away. You will see the ten bars that ternary sparse coding finds in
1000 images, up to their signs, and for a few images the posterior: which bars are there. Noise on
the atoms in the first iterations keeps two half bars from sharing an atom.
"""

import matplotlib.pyplot as plt
import numpy as np

from sparseprob.datasets import make_bars, match_components
from sparseprob.dictionary import LinearSchedule, TernarySparseCoding
from sparseprob.plotting import DictionaryDisplay, InferenceDisplay

bars = make_bars(1000, size=5, values=(-1.0, 1.0), random_state=0)
schedule = LinearSchedule({"T": [(0, 2.0), (0.7, 1.0)], "components_noise": [(0, 3.0), (0.7, 0.0)]})
model = TernarySparseCoding(
    10, n_candidates=7, max_active=5, schedule=schedule, max_iter=100, tol=0, n_init=3,
    random_state=0,
).fit(bars.data)  # fmt: skip

match = match_components(model.components_, bars.components, signed=True)
atoms = match.signs[:, None] * model.components_[match.order]
display = DictionaryDisplay(atoms).plot(n_columns=5)
display.ax_.set_title(f"learned, largest mean error {match.errors.max():.2f} of amplitude 10")
print(f"prior {model.prior_:.3f} (true 0.2), noise {model.noise_scale_:.3f} (true 2)")

# %%
# The posterior of four images: dark bars are atoms with the value -1. The number is the probability
# that the cause is there, with either sign.

busy = np.flatnonzero((bars.states != 0).sum(axis=1) == 3)[:4]
InferenceDisplay.from_estimator(model, bars.data[busy], n_causes=4)
plt.show()
