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
white = ZCAWhitening(retained_variance=0.8).fit_transform(patches)
X = np.concatenate([np.maximum(white, 0), np.maximum(-white, 0)], axis=1)  # on and off

options = {"schedule": "anneal", "max_iter": 60, "tol": 0, "random_state": 0}
fig, axes = plt.subplots(1, 2, figsize=(8, 4.2), layout="constrained")
for ax, Model in zip(axes, (BinarySparseCoding, MaximalCausesAnalysis), strict=True):
    model = Model(64, **options).fit(X)
    on, off = np.split(model.components_, 2, axis=1)
    DictionaryDisplay(on - off).plot(ax=ax)
    active = model.transform(X).sum(axis=1).mean()
    ax.set_title(f"{Model.__name__}\n{active:.1f} causes per patch", fontsize=9)
plt.show()

# %%
# Atoms that must not add up have no need to be thin: maximal causes are broader, and fewer of them
# share a patch.
