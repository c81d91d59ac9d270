"""
The bars test: causes that overlap
==================================

Horizontal and vertical bars appear independently in small noisy images. A method that assumes one
cause per image, like clustering, cannot take them apart. You will see the ten bars recovered from
1000 images, and for a few images the posterior: which bars are there, with which probability.
"""

import matplotlib.pyplot as plt
import numpy as np

from sparseprob.datasets import make_bars, match_components
from sparseprob.dictionary import BinarySparseCoding
from sparseprob.plotting import DictionaryDisplay, InferenceDisplay

bars = make_bars(1000, size=5, random_state=0)
model = BinarySparseCoding(10, max_active=5, schedule="anneal", max_iter=60, tol=0, random_state=0)
model.fit(bars.data)

# %%
# The atoms in the order of the true bars, and the true bars. Annealing from temperature 5 down to 1
# is what keeps the fit out of poor local optima.

match = match_components(model.components_, bars.components)
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.4), layout="constrained")
DictionaryDisplay(model.components_[match.order]).plot(ax=left, n_columns=5)
DictionaryDisplay(bars.components).plot(ax=right, n_columns=5)
left.set_title(f"learned, largest mean error {match.errors.max():.2f}")
right.set_title("true bars, amplitude 10")
print(f"prior {model.prior_:.3f} (true 0.2), noise {model.noise_scale_:.3f} (true 2)")

# %%
# The posterior of four images. Each number is the probability that the bar above it is present:
# most are certain, although the noise has a fifth of the bars' amplitude.

busy = np.flatnonzero(bars.states.sum(axis=1) == 3)[:4]
InferenceDisplay.from_estimator(model, bars.data[busy], n_causes=4)
plt.show()
