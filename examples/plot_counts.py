"""
Mixture of Poissons: counts with one cause each
===============================================

Handwritten digits, their pixels read as counts. A mixture explains each image by one prototype: it
clusters. You will see the prototypes, and how pure the clusters are.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import homogeneity_score

from sparseprob.dictionary import MixtureOfPoissons
from sparseprob.plotting import DictionaryDisplay

X, digit = load_digits(return_X_y=True)
model = MixtureOfPoissons(20, max_iter=100, n_init=3, random_state=0).fit(X)
DictionaryDisplay.from_estimator(model, n_columns=10)

# %%
# The prototypes are rates: the expected count of each pixel. Homogeneity is 1 when no cluster mixes
# digits.

clusters = model.transform(X).argmax(axis=1)
print(f"homogeneity {homogeneity_score(digit, clusters):.2f}")
print(f"free energy {model.lower_bound_:.1f} nats per image, smallest cluster", end=" ")
print(np.bincount(clusters).min())
plt.show()
