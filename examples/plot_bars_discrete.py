"""
Discrete sparse coding: causes that count
=========================================

Each bar appears once, twice, or not at all. You will see the bars that discrete sparse coding with
the alphabet 0, 1, 2 finds, and the probabilities it learns for the three values.
"""

import matplotlib.pyplot as plt
import numpy as np

from sparseprob.datasets import make_bars, match_components
from sparseprob.dictionary import DiscreteSparseCoding
from sparseprob.plotting import DictionaryDisplay

rng = np.random.default_rng(0)
truth, probabilities = make_bars(1, size=5).components, np.array([0.8, 0.15, 0.05])
states = rng.choice([0.0, 1.0, 2.0], size=(2000, 10), p=probabilities)
X = states @ truth + 2 * rng.normal(size=(2000, 25))

model = DiscreteSparseCoding(
    10, values=(0.0, 1.0, 2.0), n_candidates=7, max_active=5, schedule="anneal", max_iter=100,
    tol=0, n_init=3, random_state=0,
).fit(X)  # fmt: skip

match = match_components(model.components_, truth)
display = DictionaryDisplay(model.components_[match.order]).plot(n_columns=5)
display.ax_.set_title(f"learned, largest mean error {match.errors.max():.2f} of amplitude 10")

# %%
# The learned distribution of the values, beside the true one.

fig, ax = plt.subplots(figsize=(4, 2.6), layout="constrained")
place = np.arange(3)
ax.bar(place - 0.2, model.prior_, width=0.4, label="learned")
ax.bar(place + 0.2, probabilities, width=0.4, label="true", color="#b9c9dc")
ax.set(xticks=place, xticklabels=["0", "1", "2"], xlabel="value of a cause", ylabel="probability")
ax.legend()

# %%
# And how often the most probable value of a cause is the true one, by the true value.

values = model.transform(X, method="map")[:, match.order]
for value in (0.0, 1.0, 2.0):
    print(
        f"true value {value:g}: inferred right in {np.mean(values[states == value] == value):.1%}"
    )
plt.show()
