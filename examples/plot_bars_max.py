"""
Maximal causes: where bars cross, the brighter one shows
=========================================================

In images of occluding things intensities do not add up. Here the pixels where two bars cross are as
bright as one. You will see what maximal causes analysis learns from such images, and what binary
sparse coding, which adds causes, makes of the same data.
"""

import matplotlib.pyplot as plt
import numpy as np

from sparseprob.datasets import make_bars, match_components
from sparseprob.dictionary import BinarySparseCoding, MaximalCausesAnalysis
from sparseprob.plotting import DictionaryDisplay, InferenceDisplay

bars = make_bars(1000, size=5, p_bar=0.2, model="max", random_state=0)
options = {"max_active": 5, "schedule": "anneal", "max_iter": 60, "tol": 0, "n_init": 3,
           "random_state": 0}  # fmt: skip
models = [
    MaximalCausesAnalysis(10, combination="hard", **options).fit(bars.data),
    BinarySparseCoding(10, **options).fit(bars.data),
]

fig, axes = plt.subplots(1, 2, figsize=(7, 2.4), layout="constrained")
for ax, model in zip(axes, models, strict=True):
    match = match_components(model.components_, bars.components)
    DictionaryDisplay(model.components_[match.order]).plot(ax=ax, n_columns=5)
    ax.set_title(f"{type(model).__name__}\nmean error {match.errors.mean():.2f}", fontsize=9)
    print(f"{type(model).__name__}: free energy {model.lower_bound_:.2f} nats per image, "
          f"noise {model.noise_scale_:.2f} (true 2)")  # fmt: skip

# %%
# The free energies can be compared, since both carry all constants: the model that superposes as
# the data do explains them better. Four images with their posterior under the better model:

busy = np.flatnonzero(bars.states.sum(axis=1) == 3)[:4]
InferenceDisplay.from_estimator(models[0], bars.data[busy], n_causes=4)
plt.show()
