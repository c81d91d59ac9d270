"""Digits, and a small network trained in factorized form; a part of torch_compression.py.

Two hidden layers are stored in a quarter of their size: by low rank and then fine-tuned, in a dense
and a sparse factor found once and then fine-tuned, and in these factors while they follow a full
weight that is trained (straight through).
"""

import copy

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F

from sparseprob.torch import apply_stf, compress, freeze_stf
from sparseprob.torch.layers import DictionaryLinear, LowRankLinear
from sparseprob.torch.solvers import DSFormer, LowRank

HIDDEN = ("0", "2")
WAYS = ("low rank", "factors once", "straight through")


def digits():
    """Return images and labels to train on, and to test on."""
    X, y = load_digits(return_X_y=True)
    parts = train_test_split(X / 16, y, test_size=0.3, stratify=y, random_state=0)
    X_train, X_test = (torch.tensor(part, dtype=torch.float32) for part in parts[:2])
    return X_train, torch.tensor(parts[2]), X_test, torch.tensor(parts[3])


def network(seed):
    """Return the network before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = (nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
        return nn.Sequential(*sizes)


def train(model, data, seed, epochs=30, rate=1e-3, batch=64):
    """Train by Adam, with a rate that falls to zero."""
    X, y = data[:2]
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    n_steps = epochs * -(-len(X) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(X), generator=generator).split(batch):
            optimizer.zero_grad()
            F.cross_entropy(model(X[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model, data):
    """Return the share of test images that are named right."""
    return float((model(data[2]).argmax(1) == data[3]).float().mean())


def factorized(dense, way, compression, rho):
    """Return the network with its two hidden layers in another form."""
    if way == "straight through":
        return apply_stf(copy.deepcopy(dense), compression, include=HIDDEN, exclude=(), rho=rho)
    solver = LowRank(compression, whiten=False)
    if way == "factors once":
        solver = DSFormer(compression, rho=rho)
    return compress(dense, solver, include=HIDDEN, exclude=(), replace="module")[0]


def n_bits(model):
    """Return the storage of the hidden layers at 16 bits a number, without their biases."""
    total = 0
    for layer in (model[int(name)] for name in HIDDEN):
        if isinstance(layer, LowRankLinear):
            total += 16 * (layer.left.numel() + layer.right.numel())
        elif isinstance(layer, DictionaryLinear):
            segment = layer.n_atoms // layer.n_nonzero
            total += 16 * layer.dictionary.numel()
            total += (16 + int(np.ceil(np.log2(segment)))) * layer.values.numel()
        else:
            total += 16 * layer.weight.numel()
    return total


def straight_through(n_seeds=5, compression=0.75, rho=2, epochs=30):
    """Compare the three ways.

    Returns
    -------
    dict
        Test accuracies of the dense network and of each way, one a seed, in percent; and under
        "share of storage" that of the hidden layers in the dense network, by way.
    """
    data, found = digits(), {"dense": []}
    shares = {}
    for seed in range(n_seeds):
        dense = train(network(seed), data, seed, epochs)
        found["dense"].append(100 * accuracy(dense, data))
        for way in WAYS:
            model = train(factorized(dense, way, compression, rho), data, seed, epochs)
            if way == "straight through":
                model = freeze_stf(model).eval()
            found.setdefault(way, []).append(100 * accuracy(model, data))
            shares[way] = n_bits(model) / n_bits(dense)
    return found | {"share of storage": shares}


if __name__ == "__main__":
    for name, values in straight_through().items():
        print(name, values, "" if isinstance(values, dict) else f"mean {np.mean(values):.2f}")
