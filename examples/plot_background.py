"""
Moving objects in a surveillance video
======================================

A fixed camera, light that changes, squares that cross the picture. The background of all frames
together has rank 2, however the light goes; the squares are gross errors in it. You will see a
frame, the background found under the squares, and the mask, beside the principal components that
the squares pull along.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import median_filter
from sklearn.decomposition import PCA
from sklearn.metrics import f1_score

from sparseprob.datasets import make_surveillance_video
from sparseprob.rpca import BackgroundSubtractor

video = make_surveillance_video(120, random_state=0)
model = BackgroundSubtractor(random_state=0).fit(video.frames)

rows = video.frames.reshape(len(video.frames), -1)
pca = PCA(3, random_state=0).fit(rows)
plain = pca.inverse_transform(pca.transform(rows)).reshape(video.frames.shape)
far = np.abs(video.frames - plain) > model.threshold_
masks = {
    "robust": model.masks_,
    "PCA": median_filter(far.astype(np.uint8), size=(1, 3, 3)) > 0,  # the same vote of neighbors
}
scores = {name: f1_score(video.masks.ravel(), mask.ravel()) for name, mask in masks.items()}

frame = 60
fig, axes = plt.subplots(2, 3, figsize=(9, 5), layout="constrained")
pictures = {
    "frame": video.frames[frame],
    "background, robust": model.background(video.frames[frame]),
    "background, PCA": plain[frame],
    "true mask": video.masks[frame],
    f"mask, robust: F1 {scores['robust']:.2f}": masks["robust"][frame],
    f"mask, PCA: F1 {scores['PCA']:.2f}": masks["PCA"][frame],
}
for ax, (title, picture) in zip(axes.flat, pictures.items(), strict=True):
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1)
    ax.set(title=title, xticks=[], yticks=[])
plt.show()

# %%
# The robust background shows nothing of the squares, so the mask has their shape. Principal
# components keep shadows of the squares. Both masks share the threshold, which was found from the
# noise around the robust background, and the vote of neighbors. With the true rank of 2 and the
# best threshold, which somebody has to know, PCA is level: ``benchmarks/rpca_background.py`` has
# the figures.
