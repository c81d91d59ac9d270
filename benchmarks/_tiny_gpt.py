"""A miniature language model, trained in about a minute and a half on text that Python brings.

Its text is that of the topics of ``help()``; one character is one token.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

import torch
from torch import nn
from torch.nn import functional as F

CONTEXT, WIDTH, HEADS, BLOCKS = 64, 96, 4, 2
STEPS, BATCH, RATE = 800, 16, 3e-3


@dataclass(frozen=True)
class Corpus:
    """The text as numbers of characters, its first nine tenths for training."""

    characters: str
    train: torch.Tensor
    validation: torch.Tensor


def corpus():
    """Return the topics of ``help()``, in the order of their names."""
    text = "\n".join(topics[name] for name in sorted(topics))
    characters = "".join(sorted(set(text)))
    number = {character: i for i, character in enumerate(characters)}
    tokens = torch.tensor([number[character] for character in text])
    n_train = int(0.9 * len(tokens))
    return Corpus(characters, tokens[:n_train], tokens[n_train:])


class Block(nn.Module):
    """Attention, then two layers with a GELU between them; each reads normalized inputs."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        """Return the stream of shape (n, t, width) after the block."""
        n, t, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).reshape(n, t, WIDTH))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class TinyGPT(nn.Module):
    """Two blocks between an embedding of characters and an untied head."""

    def __init__(self, n_characters):
        super().__init__()
        self.embed = nn.Embedding(n_characters, WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(CONTEXT, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, n_characters, bias=False)

    def forward(self, tokens):
        """Return the scores of the next characters, of shape (n, t, n_characters)."""
        x = self.embed(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def windows(tokens, n, generator=None, length=CONTEXT):
    """Return n windows, at random places or evenly spaced: characters, and those after them."""
    last = len(tokens) - length - 1
    if generator is None:
        starts = torch.linspace(0, last, n, dtype=torch.float64).long()
    else:
        starts = torch.randint(last + 1, (n,), generator=generator)
    found = tokens[starts[:, None] + torch.arange(length + 1)]
    return found[:, :-1], found[:, 1:]


def loss(model, inputs, targets):
    """Return the mean negative log probability of the targets."""
    return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def train(text, steps=STEPS, seed=0):
    """Train from scratch on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TinyGPT(len(text.characters))
        _descend(model, text, steps)
    torch.set_num_threads(threads)
    return model.eval()


def _descend(model, text, steps):
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=RATE, total_steps=steps, pct_start=0.1
    )
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model, *windows(text.train, BATCH, generator)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()


def trained(text, cache=None, steps=STEPS):
    """Return the trained model; `cache` names a file that keeps its parameters."""
    if cache is None or not Path(cache).exists():
        model = train(text, steps)
        if cache is not None:
            torch.save(model.state_dict(), cache)
        return model
    model = TinyGPT(len(text.characters))
    model.load_state_dict(torch.load(cache, weights_only=True))
    return model.eval()


def calibration(text, n=128, batch=32):
    """Return windows of the training text, in batches that a model takes."""
    return list(windows(text.train, n)[0].split(batch))


@torch.no_grad()
def perplexity(model, text, n=512):
    """Return the exponential of the mean loss over windows of the text kept for validation."""
    inputs, targets = windows(text.validation, n)
    found = [loss(model, a, b) for a, b in zip(inputs.split(64), targets.split(64), strict=True)]
    return math.exp(float(torch.stack(found).mean()))
