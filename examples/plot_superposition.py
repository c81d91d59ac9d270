"""
What superposition changes: patches of photographs
==================================================

Binary sparse coding adds its causes, maximal causes analysis lets the strongest one show. You
will see the atoms both learn from the same patches, split into what is brighter and what is
darker than the surround, as the cells of the retina do.
"""

import matplotlib.pyplot as plt
import numpy as np

from sparseprob.datasets import ZCAWhitening, extract_patches, load_photographs
from sparseprob.dictionary import BinarySparseCoding, MaximalCausesAnalysis
from sparseprob.plotting import DictionaryDisplay

patches = extract_patches(load_photographs(), 8000, size=8, random_state=0)
patches -= patches.mean(axis=1, keepdims=True)
white = ZCAWhitening(retained_variance=0.8).fit_transform(patches)
X = np.concatenate([np.maximum(white, 0), np.maximum(-white, 0)], axis=1)  # on and off

options = {"schedule": "anneal", "max_iter": 60, "tol": 0, "random_state": 0}
models = [
    BinarySparseCoding(64, **options).fit(X),
    MaximalCausesAnalysis(64, combination="hard", **options).fit(X),
]
fig, axes = plt.subplots(1, 2, figsize=(8, 4.2), layout="constrained")
for ax, model in zip(axes, models, strict=True):
    on, off = np.split(model.components_, 2, axis=1)
    DictionaryDisplay(on - off).plot(ax=ax)
    active = model.transform(X).sum(axis=1).mean()
    name = type(model).__name__
    ax.set_title(f"{name}\n{active:.2f} causes per patch", fontsize=9)
    print(f"{name}: free energy {model.lower_bound_:.2f} nats per patch")
plt.show()

# %%
# Both find edges. The free energies, which carry all constants, say which of the two kinds of
# superposition explains these patches better.
