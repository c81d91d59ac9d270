"""
Maximum magnitude causes: signed things that hide each other
============================================================

Bars are bright or dark, and where two cross the one of larger magnitude shows. You will see the
bars that maximum magnitude causes analysis finds, and the posterior of a few images.
"""

import matplotlib.pyplot as plt
import numpy as np

from sparseprob.datasets import make_bars, match_components
from sparseprob.dictionary import LinearSchedule, MaximumMagnitudeCausesAnalysis
from sparseprob.plotting import DictionaryDisplay, InferenceDisplay

bars = make_bars(1000, size=5, signed=True, model="absmax", random_state=0)
hot = LinearSchedule({"T": [(0, 12.0), (0.8, 1.0)]})
model = MaximumMagnitudeCausesAnalysis(
    10, n_candidates=7, max_active=5, schedule=hot, max_iter=80, tol=0, n_init=3, random_state=0
).fit(bars.data)

match = match_components(model.components_, bars.components)
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.4), layout="constrained")
DictionaryDisplay(model.components_[match.order]).plot(ax=left, n_columns=5)
DictionaryDisplay(bars.components).plot(ax=right, n_columns=5)
left.set_title(f"learned, largest mean error {match.errors.max():.2f}")
right.set_title("true bars, amplitude 10")

# %%
# Unlike a ternary cause, a cause here has one sign: its atom is bright or dark.

busy = np.flatnonzero(bars.states.sum(axis=1) == 3)[:4]
InferenceDisplay.from_estimator(model, bars.data[busy], n_causes=4)
plt.show()
