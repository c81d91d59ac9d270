"""
Atoms of two photographs
========================

A dictionary of 64 atoms for 10 x 10 patches of two photographs, whitened. You will see edges of all
orientations and places, and the free energy that the fit climbed. They come out without any word
about edges in the model: they are what few causes per patch need.
"""

import matplotlib.pyplot as plt

from sparseprob.datasets import ZCAWhitening, extract_patches, load_photographs
from sparseprob.dictionary import BinarySparseCoding
from sparseprob.plotting import DictionaryDisplay, HistoryDisplay

patches = extract_patches(load_photographs(), 10_000, size=10, random_state=0)
patches -= patches.mean(axis=1, keepdims=True)
X = ZCAWhitening(retained_variance=0.5).fit_transform(patches)

model = BinarySparseCoding(64, schedule="anneal", max_iter=60, tol=0, random_state=0).fit(X)
DictionaryDisplay.from_estimator(model)

# %%
# The atoms are localized and oriented; the stripes are the roof of the temple. The curves tell when
# the temperature reached 1 and the noise stopped falling.

HistoryDisplay.from_estimator(model)
plt.show()
