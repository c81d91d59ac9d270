"""
A dictionary for five coefficients a patch
==========================================

K-SVD learns 100 atoms from patches of two photographs, so that five of them represent a patch. You
will see the atoms, and the error against time with and without the online start.
"""

import matplotlib.pyplot as plt

from sparseprob.callbacks import History
from sparseprob.datasets import extract_patches, load_photographs
from sparseprob.dictionary import KSVD
from sparseprob.plotting import DictionaryDisplay

patches = extract_patches(load_photographs(), 20_000, size=8, random_state=0)
patches -= patches.mean(axis=1, keepdims=True)
KSVD(100, n_nonzero_coefs=5, max_iter=1, tol=0).fit(patches[:1000])  # compiles

histories = {}
for online_passes in (4, 0):
    histories[online_passes] = history = History(("error_",))
    model = KSVD(
        100, n_nonzero_coefs=5, online_passes=online_passes, max_iter=25, tol=0, random_state=0
    )
    model.set_callbacks(history).fit(patches)
    if online_passes:
        DictionaryDisplay.from_estimator(model)

# %%
# Atoms are edges and bars at many places, a few gratings from the roof of the temple, and smooth
# ramps: what is common comes in many variants, because five coefficients must do.

fig, ax = plt.subplots(figsize=(5, 3.5))
energy = (patches**2).sum()
for online_passes, history in histories.items():
    shares = [errors[-1] / energy for errors in history.records["error_"]]
    ax.plot(history.records["seconds"], shares, ".-", label=f"online_passes={online_passes}")
ax.set(xlabel="seconds", ylabel="share of the squares that is left")
ax.legend()
fig.tight_layout()

# %%
# After four passes in batches, the first iteration is below the last one of plain K-SVD.

plt.show()
