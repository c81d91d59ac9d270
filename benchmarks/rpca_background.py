"""Masks of moving objects on the generated scene, beside other ways to find them.

``python benchmarks/rpca_background.py`` prints a table and writes its JSON. OpenCV is left out if
it is not installed: ``pip install opencv-python-headless``.
"""

import argparse
import importlib.util
import time
from pathlib import Path

import numpy as np
from _report import ROOT, print_table, row, write_json
from sklearn.decomposition import IncrementalPCA
from sklearn.metrics import f1_score

from sparseprob.datasets import make_surveillance_video
from sparseprob.rpca import BackgroundSubtractor

THRESHOLDS = np.linspace(0.02, 0.3, 29)


def score(masks, video):
    """F1 of the masks over all pixels."""
    return f1_score(video.masks.ravel(), np.asarray(masks).ravel())


def mog2(video):
    """Masks of OpenCV's mixtures of Gaussians at the best of its thresholds, shadows left out."""
    import cv2

    levels = np.round(255 * video.frames).astype(np.uint8)
    found = []
    for threshold in (4, 8, 16, 32, 64):
        method = cv2.createBackgroundSubtractorMOG2(len(levels), threshold, detectShadows=False)
        for frame in levels:  # a first pass to learn from, as the others have
            method.apply(frame)
        found.append([method.apply(frame, learningRate=0) > 127 for frame in levels])
    return max(found, key=lambda masks: score(masks, video))


def principal_components(video):
    """Masks of the residual of three components at the best of many thresholds."""
    rows = video.frames.reshape(len(video.frames), -1)
    pca = IncrementalPCA(3, batch_size=40).fit(rows)
    residual = np.abs(rows - pca.inverse_transform(pca.transform(rows)))
    residual = residual.reshape(video.frames.shape)
    return max((residual > t for t in THRESHOLDS), key=lambda masks: score(masks, video))


def claims(options):
    """Scores of every method, the mean over some scenes."""
    n_seeds, n_frames = (1, 40) if options.quick else (5, 120)
    videos = [make_surveillance_video(n_frames, random_state=seed) for seed in range(n_seeds)]
    ours = {}
    for solver in ("ialm", "stable", "orpca", "grasta"):
        began = time.perf_counter()
        fits = [BackgroundSubtractor(solver=solver, random_state=0).fit(v.frames) for v in videos]
        seconds = (time.perf_counter() - began) / len(videos)
        ours[solver] = np.mean([score(m.masks_, v) for m, v in zip(fits, videos, strict=True)])
        yield row(f"generated scene, {solver}: F1", float(ours[solver]),
                  note=f"{1e3 * seconds / n_frames:.1f} ms a frame")  # fmt: skip
    peers = {"IncrementalPCA": principal_components}
    if importlib.util.find_spec("cv2"):
        peers["MOG2 of OpenCV"] = mog2
    for name, method in peers.items():
        theirs = float(np.mean([score(method(video), video) for video in videos]))
        yield row(f"generated scene, ialm: F1 above that of {name}", float(ours["ialm"]) - theirs,
                  0, at_least=True, note=f"{theirs:.3f} at its best threshold")  # fmt: skip


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one small scene: a test")
    output = ROOT / "benchmarks/results/rpca_background.json"
    parser.add_argument("--output", type=Path, default=output)
    options = parser.parse_args()
    rows = list(claims(options))
    print_table(rows, "Moving objects")
    write_json(options.output, rows)


if __name__ == "__main__":
    main()
