"""Monarch layers and mixers trained on the digits of scikit-learn; all in minutes on one core.

`monarch_digits()` and `mixer_digits()` yield rows of the table;
``python benchmarks/_torch_mixer.py`` prints them.
"""

from functools import cache

import numpy as np
import torch
from _report import print_table, row
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

from sparseprob.torch.layers import (
    MixerBlock,
    MonarchLinear,
    StaticSparseLinear,
    effective_width,
    n_connections,
)

EPOCHS, BATCH, RATE, DEPTH, EXPANSION = 40, 64, 3e-3, 2, 2
# Tokens and channels with about as many connections, 8192, a layer.
SIZES = ((16, 16), (28, 8), (43, 4))
POINTS_MONARCH, POINTS_RANDOM = 1.0, 1.5  # of accuracy, in percent


@cache
def data():
    """Return pictures (n, 64) between 0 and 1 and classes, for training and for testing."""
    X, y = load_digits(return_X_y=True)
    parts = train_test_split(X / 16, y, test_size=0.3, stratify=y, random_state=0)
    X, X_test, y, y_test = (torch.tensor(part) for part in parts)
    return X.float(), y, X_test.float(), y_test


def accuracy(make, seed):
    """Train a network and return its share of right answers on the test pictures, in percent."""
    torch.manual_seed(seed)
    X, y, X_test, y_test = data()
    model = make()
    n_steps = EPOCHS * -(-len(X) // BATCH)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=n_steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(X)).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(model(X[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return 100 * (model.eval()(X_test).argmax(dim=1) == y_test).double().mean().item()


def accuracies(make, n_seeds):
    """Return the accuracies of some seeds."""
    return np.array([accuracy(make, seed) for seed in range(n_seeds)])


def perceptron(hidden):
    """Return a network 64-256-256-10 whose middle layer is given."""
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), hidden, nn.ReLU(), nn.Linear(256, 10))


def monarch_digits(n_seeds=5):
    """Accuracy with Monarch layers of 256 x 256 in place of a dense one."""
    dense = accuracies(lambda: perceptron(nn.Linear(256, 256)), n_seeds)
    yield row("digits, dense 256 x 256: accuracy", dense.mean(), unit="%", note=_spread(dense))
    for n_blocks in (4, 8, 16):
        found = accuracies(lambda n=n_blocks: perceptron(MonarchLinear(256, 256, n)), n_seeds)
        layer = MonarchLinear(256, 256, n_blocks, bias=False)
        kept = sum(p.numel() for p in layer.parameters()) / 256**2
        note = f"{kept:.1%} of the weights, {_spread(found)}"
        what = f"digits, Monarch {n_blocks} blocks"
        yield row(f"{what}: accuracy", found.mean(), unit="%", note=note)
        lost = dense.mean() - found.mean()
        yield row(f"{what}: points lost to dense", lost, POINTS_MONARCH)


class Mixer(nn.Module):
    """Patches of 2 x 2, mapped to tokens and channels, some blocks, and the mean of the tokens."""

    def __init__(self, n_tokens, n_channels, permutation):
        super().__init__()
        self.tokens, self.channels = nn.Linear(16, n_tokens), nn.Linear(4, n_channels)
        blocks = [MixerBlock(n_tokens, n_channels, EXPANSION, permutation) for _ in range(DEPTH)]
        self.blocks, self.norm = nn.Sequential(*blocks), nn.LayerNorm(n_channels)
        self.head = nn.Linear(n_tokens * n_channels, 10)

    def forward(self, X):
        """Return scores of the classes of pictures (n, 64)."""
        tokens = self.tokens(self.channels(patches(X)).mT).mT
        return self.head(self.norm(self.blocks(tokens)).flatten(1))


class MaskedPerceptron(nn.Module):
    """A wide network with fixed random masks, as wide and with as many connections as a mixer.

    It has more weights to learn: those of a mixer are shared by its connections.
    """

    def __init__(self, n_tokens, n_channels):
        super().__init__()
        self.tokens, self.channels = nn.Linear(16, n_tokens), nn.Linear(4, n_channels)
        width = effective_width(n_tokens, n_channels)
        hidden = EXPANSION * width
        density = n_connections(n_tokens, n_channels, EXPANSION) / (width * hidden)
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width),
                StaticSparseLinear(width, hidden, density),
                nn.GELU(),
                StaticSparseLinear(hidden, width, density),
            )
            for _ in range(2 * DEPTH)  # a block mixes twice
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, X):
        """Return scores of the classes of pictures (n, 64)."""
        u = self.tokens(self.channels(patches(X)).mT).mT.flatten(1)
        for network in self.networks:
            u = u + network(u)
        return self.head(self.norm(u))


def patches(X):
    """Return the 16 patches (n, 16, 4) of pictures (n, 64)."""
    return X.view(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, 16, 4)


def mixer_digits(n_seeds=5):
    """Mixers of several shapes with as many connections, and what has no structure."""
    found = {}
    for S, C in SIZES:
        kinds = {
            "mixer": lambda S=S, C=C: Mixer(S, C, "mixer"),
            "random mixer": lambda S=S, C=C: Mixer(S, C, "random"),
        }
        if S == C:
            kinds["masked network"] = lambda S=S, C=C: MaskedPerceptron(S, C)
        for kind, make in kinds.items():
            found[kind, C] = accuracies(make, n_seeds)
            note = (f"width {effective_width(S, C)}, {n_connections(S, C, EXPANSION):.0f} "
                    f"connections, {_spread(found[kind, C])}")  # fmt: skip
            what = f"digits, {kind} of {S} tokens x {C} channels: accuracy"
            yield row(what, found[kind, C].mean(), unit="%", note=note)
    balanced, narrow = (found["mixer", C] for C in (SIZES[0][1], SIZES[-1][1]))
    noise = 2 * np.sqrt((balanced.var(ddof=1) + narrow.var(ddof=1)) / n_seeds) if n_seeds > 1 else 0
    lost = narrow.mean() - balanced.mean()
    what = "digits, mixer: points lost by as many channels as tokens to 4 channels"
    yield row(what, lost, round(float(noise), 2), note="bound: two standard errors")
    apart = max(abs(found["mixer", C].mean() - found["random mixer", C].mean()) for _, C in SIZES)
    what = "digits, random mixer: points from the mixer, farthest shape"
    yield row(what, apart, POINTS_RANDOM)


def _spread(values):
    return f"{len(values)} seeds, {values.min():.1f} to {values.max():.1f}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    print_table([*monarch_digits(), *mixer_digits()], "Monarch layers and mixers")
