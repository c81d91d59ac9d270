"""Claims about the other sparse coding models; a part of dictionary.py, which runs them."""

import time

import numpy as np
from _report import Threads, row
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode

from sparseprob import dictionary
from sparseprob.datasets import ImagePatches, load_photographs, make_bars, match_components
from sparseprob.dictionary._states import n_states
from sparseprob.metrics import peak_signal_to_noise_ratio

N_CANDIDATES, MAX_ACTIVE = 8, 4
PHOTOGRAPH = np.s_[200:328, 250:378]  # of the temple: roof, tiles, sky


# ---------------------------------------------------------------- speed
def microseconds(model, X):
    """Microseconds per row of the fastest EM iteration, one thread."""
    with Threads(1):
        return float(model.fit(X).history_["seconds"].min()) / len(X) * 1e6


def speed_cases(sizes):
    """For each model: rows it would draw, the estimator started at the truth, ProSper's start."""
    n, D, H = sizes
    rng = np.random.default_rng(0)
    W, prior = rng.normal(size=(H, D)), 2 / H
    S, noise = rng.random((n, H)) < prior, rng.normal(size=(n, D))
    options = {"n_candidates": N_CANDIDATES, "max_active": MAX_ACTIVE, "max_iter": 4, "tol": 0}
    start = {"components": np.abs(W), "prior": prior, "noise_scale": 1.0}
    largest = _largest(S, np.abs(W))
    yield "MCA", largest + noise, dictionary.MCA(H, init=start, **options), {
        "W": np.abs(W).T, "pi": prior, "sigma": 1.0
    }  # fmt: skip
    Z = S * (1.0 + rng.normal(size=S.shape))
    slab = {"components": W, "prior": prior, "noise_variance": 1.0, "slab_mean": np.ones(H),
            "slab_covariance": np.ones(H)}  # fmt: skip
    gsc = dictionary.GSC(H, init=slab, **options)
    yield "GSC", Z @ W + noise, gsc, {
        "W": W.T, "pi": np.full(H, prior), "mu": np.ones(H), "sigma_sq": np.array(1.0),
        "psi_sq": np.eye(H),
    }  # fmt: skip


def _largest(S, W):
    """Elementwise largest active atom of each row."""
    rows = np.zeros((len(S), W.shape[1]))
    for n, active in enumerate(S):
        if active.any():
            rows[n] = W[active].max(axis=0)
    return rows


def speed(options):
    """MCA and GSC per row against the target and ProSper; TSC and DSC per state against BSC."""
    limits = {"MCA": (80, 150), "GSC": (50, 2000)}
    for name, X, model, start in speed_cases(options.sizes):
        target, times = limits[name]
        ours = microseconds(model, X)
        yield row(f"{name}: µs per row and iteration", ours, target, unit="µs")
        if options.prosper is not None:
            from _prosper import step

            rows = X[: 400 if name == "GSC" else 4000]
            with Threads(1):
                _, seconds = step(
                    options.prosper, name.lower(), rows, start, N_CANDIDATES, MAX_ACTIVE
                )
            theirs = seconds / len(rows) * 1e6
            yield row(f"{name}: times faster than ProSper", theirs / ours, times, at_least=True,
                      note=f"{theirs:.0f} µs per row, over {len(rows)} rows")  # fmt: skip
    yield from _per_state(options.sizes)


def _per_state(sizes):
    n, D, H = sizes
    rng = np.random.default_rng(0)
    W = rng.normal(size=(H, D))
    X = (rng.random((n, H)) < 2 / H) @ W + rng.normal(size=(n, D))
    per_state = {}
    for name, values in (("BSC", 2), ("TSC", 3), ("DSC", 3)):
        model = getattr(dictionary, name)(
            H, n_candidates=N_CANDIDATES, max_active=MAX_ACTIVE, max_iter=6, tol=0,
            init={"components": W, "noise_scale": 1.0},
        )  # fmt: skip
        states = n_states(H, N_CANDIDATES, MAX_ACTIVE, values)
        per_state[name] = microseconds(model, X) / states
        note = f"{per_state[name] * 1e3:.1f} ns per state, {states} states"
        if name != "BSC":
            ratio = per_state[name] / per_state["BSC"]
            yield row(f"{name}: time per state over BSC's", ratio, 4, note=note)


# ---------------------------------------------------------------- recovery
def bars_cases():
    """Name, estimator, and how its bars are drawn (5 x 5 pixels, 10 bars of amplitude 10)."""
    common = {"tol": 0, "max_active": 5}
    noisy = dictionary.LinearSchedule(
        {"T": [(0, 2.0), (0.7, 1.0)], "components_noise": [(0, 3.0), (0.7, 0.0)]}
    )
    quiet = dictionary.LinearSchedule(
        {"T": [(0, 4.0), (0.8, 1.0)], "components_noise": [(0, 1.0), (0.7, 0.0)]}
    )
    yield "TSC", dictionary.TSC(
        10, n_candidates=7, schedule=noisy, max_iter=100, n_init=3, **common
    ), {"values": (-1.0, 1.0), "p_bar": 0.2}  # fmt: skip
    yield "DSC", dictionary.DSC(
        10, n_candidates=7, schedule="anneal", max_iter=100, n_init=3, **common
    ), {}  # fmt: skip
    yield "MCA", dictionary.MCA(
        10, n_candidates=8, schedule="anneal", combination="hard", max_iter=60, n_init=3,
        **common
    ), {"model": "max", "p_bar": 0.2}  # fmt: skip
    yield "MMCA", dictionary.MMCA(
        10, n_candidates=7, schedule=quiet, combination="hard", max_iter=100, n_init=3, **common
    ), {"model": "absmax", "signed": True, "p_bar": 0.2}  # fmt: skip
    yield "GSC", dictionary.GSC(
        10, n_candidates=7, max_active=4, schedule="anneal", max_iter=60, tol=0
    ), {}  # fmt: skip


def recovery(model_name):
    """Make the claim: seeds of the bars test with all bars found by a model."""

    def claim(options):
        name, model, drawn = next(case for case in bars_cases() if case[0] == model_name)
        found, times = 0, []
        for seed in range(options.seeds):
            X, truth = bars_rows(name, drawn, seed)
            began = time.perf_counter()
            model.set_params(random_state=seed).fit(X)
            times.append(time.perf_counter() - began)
            found += bool(recovered(name, model, truth))
        yield row(f"{name} bars: seeds of {options.seeds} with all bars found", found,
                  18 / 20 * options.seeds, at_least=True,
                  note=f"n_init={model.n_init}, {np.median(times):.1f} s a run")  # fmt: skip

    return claim


def bars_rows(name, drawn, seed):
    """Rows and true atoms of a seed."""
    rng = np.random.default_rng(seed)
    if name == "GSC":
        W = make_bars(1, 5, random_state=seed).components
        Z = (rng.random((10_000, 10)) < 0.2) * rng.normal(1.0, 1.0, size=(10_000, 10))
        return Z @ W + rng.normal(size=(10_000, 25)), W
    if name == "DSC":
        W = make_bars(1, 5, random_state=seed).components
        S = rng.choice([0.0, 1.0, 2.0], size=(1000, 10), p=(0.8, 0.15, 0.05))
        return S @ W + 2 * rng.normal(size=(1000, 25)), W
    data = make_bars(1000, 5, random_state=seed, **drawn)
    return data.data, data.components


def recovered(name, model, truth):
    """Whether every true bar has an atom within 1.5 of it; GSC's atoms have free scales.

    The mean error of an atom of zeros is 2.
    """
    W = np.asarray(model.components_)
    if name == "GSC":
        W = W * np.linalg.norm(truth, axis=1).mean() / np.linalg.norm(W, axis=1, keepdims=True)
    signed = name in ("TSC", "MMCA", "GSC")
    return match_components(W, truth, signed=signed).errors.max() < 1.5


def consistency(options):
    """Noise variance that exact EM finds for GSC when it starts at the truth."""
    rng = np.random.default_rng(0)
    W, n = rng.normal(size=(4, 8)), 20_000
    Z = (rng.random((n, 4)) < 0.3) * rng.normal(1.0, 1.0, size=(n, 4))
    X = Z @ W + np.sqrt(0.3) * rng.normal(size=(n, 8))
    start = {"components": W, "prior": 0.3, "noise_variance": 0.3, "slab_mean": np.ones(4),
             "slab_covariance": np.ones(4)}  # fmt: skip
    model = dictionary.GSC(4, n_candidates=4, max_active=4, init=start, max_iter=50, tol=0).fit(X)
    gap = abs(float(model.noise_variance_) / 0.3 - 1)
    yield row("GSC: relative error of the noise variance, N=20000", gap, 0.015)


def search(options):
    """Evolved state sets against preselected ones where six causes are active on average."""
    rng = np.random.default_rng(0)
    W = rng.normal(size=(100, 144)) * 1.5
    X = (rng.random((1000, 100)) < 0.06) @ W + rng.normal(size=(1000, 144))
    bounds = {}
    for kind in ("select", "evo"):
        model = dictionary.BSC(
            100, n_candidates=8, max_active=4, max_iter=10, tol=0, state_search=kind,
            init={"components": W, "prior": 0.06, "noise_scale": 1.0}, random_state=0,
        )  # fmt: skip
        bounds[kind] = model.fit(X).lower_bound_
    yield row("evo: free energy per row above preselection's (nats)",
              bounds["evo"] - bounds["select"], 0, at_least=True)  # fmt: skip


# ---------------------------------------------------------------- images
def denoising(options):
    """GSC against an l1 dictionary with OMP at its best sparsity, and BM3D if installed."""
    truth = load_photographs()[0][PHOTOGRAPH]
    scale = 25 / 255
    noisy = truth + scale * np.random.default_rng(0).normal(size=truth.shape)
    model = dictionary.GaussianSparseCoding(
        128, n_candidates=12, init={"noise_variance": scale**2},
        learn=("components", "prior", "slab"), tol=0,
        max_iter=40, random_state=0,
    )  # fmt: skip
    ours = peak_signal_to_noise_ratio(truth, dictionary.restore_image(noisy, model))
    best, n_nonzero = best_with_omp(truth, noisy)
    yield row("denoising σ=25: GSC, PSNR above MiniBatchDictionaryLearning with OMP", ours - best,
              0, at_least=True, unit="dB",
              note=f"{ours:.2f} over {best:.2f} at {n_nonzero} atoms a patch; noisy "
              f"{peak_signal_to_noise_ratio(truth, noisy):.2f}")  # fmt: skip
    try:
        from bm3d import bm3d
    except ImportError:
        return
    theirs = peak_signal_to_noise_ratio(truth, bm3d(noisy, scale))
    yield row("denoising σ=25: GSC, PSNR above BM3D", ours - theirs, unit="dB",
              note=f"BM3D {theirs:.2f}")  # fmt: skip


def best_with_omp(truth, noisy):
    """Best PSNR of an l1 dictionary of 128 atoms with OMP, over the number of atoms a patch."""
    patches = ImagePatches(noisy, size=8)
    rows = patches[:]
    atoms = MiniBatchDictionaryLearning(
        128, alpha=25 / 255, batch_size=256, max_iter=20, random_state=0
    ).fit(rows).components_  # fmt: skip
    scores = {}
    for n_nonzero in (1, 2, 3, 4, 6):
        codes = sparse_encode(rows, atoms, algorithm="omp", n_nonzero_coefs=n_nonzero)
        scores[n_nonzero] = peak_signal_to_noise_ratio(truth, patches.average(codes @ atoms))
    best = max(scores, key=scores.get)
    return scores[best], best


def inpainting(options):
    """GSC against biharmonic inpainting, half of the pixels missing."""
    truth = load_photographs()[0][PHOTOGRAPH]
    holes = truth.copy()
    mask = np.random.default_rng(0).random(truth.shape) < 0.5
    holes[mask] = np.nan
    model = dictionary.GaussianSparseCoding(128, missing="nan", tol=0, max_iter=40, random_state=0)
    restored = np.where(mask, dictionary.restore_image(holes, model), truth)
    ours = peak_signal_to_noise_ratio(truth, restored)
    try:
        from skimage.restoration import inpaint_biharmonic
    except ImportError:
        yield row("inpainting, 50 % missing: GSC, PSNR", ours, unit="dB")
        return
    theirs = peak_signal_to_noise_ratio(truth, inpaint_biharmonic(np.where(mask, 0, truth), mask))
    yield row("inpainting, 50 % missing: GSC, PSNR above biharmonic", ours - theirs, 0,
              at_least=True, unit="dB", note=f"{ours:.2f} over {theirs:.2f}")  # fmt: skip


CLAIMS = {
    "speed": speed, "consistency": consistency, "search": search,
    "denoising": denoising, "inpainting": inpainting,
} | {f"bars_{name}": recovery(name) for name in ("TSC", "DSC", "MCA", "MMCA", "GSC")}  # fmt: skip
