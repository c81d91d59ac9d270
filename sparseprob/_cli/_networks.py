"""Neural networks on disk, directories of transformers or modules of torch, and their inputs."""

import contextlib
import json
import pickle
import shutil
from pathlib import Path

import numpy as np

_BATCH = 8
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".ot", ".gguf")
_CONTEXT = 128


def open_network(path, *, trust=False):
    """Return the network at a path, ready to be compressed.

    Parameters
    ----------
    path : Path
        A directory with config.json, or a file of torch.save.
    trust : bool, default=False
        Whether code in the file may be run.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"There is no model at {str(path)!r}; give a directory of transformers, or a file in "
            "which torch.save put a whole module."
        )
    return Pretrained(path) if path.is_dir() else SavedModule(path, trust=trust)


class Pretrained:
    """A model of transformers with its tokenizer; calibrated on text.

    Parameters
    ----------
    path : Path
        Directory with config.json.
    """

    def __init__(self, path):
        if not (path / "config.json").is_file():
            raise FileNotFoundError(
                f"The directory {str(path)!r} has no config.json; give one that save_pretrained of "
                "transformers wrote."
            )
        self.path, self._transformers = path, _transformers()
        self.model = self._load(self._class())

    def _class(self):
        names = json.loads((self.path / "config.json").read_text()).get("architectures") or []
        name = names[0] if names else "AutoModel"
        found = getattr(self._transformers, name, None)
        if found is None:
            raise ValueError(
                f"{str(self.path)!r} is a {name}, which transformers "
                f"{self._transformers.__version__} does not have; update transformers."
            )
        return found

    def _load(self, cls):
        with _quiet(self._transformers):
            return cls.from_pretrained(self.path, local_files_only=True, dtype="auto").eval()

    def batches(self, source, n_windows, context):
        """Return windows of a text, evenly spread over it, as batches of the model."""
        import torch

        windows = torch.as_tensor(self._windows(source, n_windows, context))
        windows = windows.to(self.model.device)
        return [self._batch(part) for part in windows.split(_BATCH)]

    def _batch(self, windows):
        import torch

        batch = {"input_ids": windows, "attention_mask": torch.ones_like(windows)}
        if self.model.config.is_encoder_decoder:
            batch["decoder_input_ids"] = windows
        return batch

    def _windows(self, source, n_windows, context):
        with _quiet(self._transformers):
            tokenizer = self._transformers.AutoTokenizer.from_pretrained(
                self.path, local_files_only=True
            )
        longest = self._longest(tokenizer)
        if context is not None and context > longest:
            raise ValueError(f"--context must be at most {longest} for this model, got {context}.")
        context = min(_CONTEXT, longest) if context is None else context
        ids = tokenizer(_read_text(source), add_special_tokens=False, verbose=False)["input_ids"]
        before, after = _around(tokenizer)
        length = context - len(before) - len(after)
        if length < 1 or len(ids) < length:
            raise ValueError(
                f"The calibration text has {len(ids)} tokens, less than one context of {context}; "
                "give a longer text, or a shorter --context."
            )
        n = min(n_windows, len(ids) // length)
        starts = np.linspace(0, len(ids) - length, n).astype(int)
        return np.array([[*before, *ids[start : start + length], *after] for start in starts])

    def _longest(self, tokenizer):
        longest = getattr(self.model.config, "max_position_embeddings", None) or 10**9
        return int(min(longest, tokenizer.model_max_length, 10**9))

    def save(self, model, folder, *, as_module):
        """Write the compressed model into a folder, with what else its directory holds."""
        for path in self.path.iterdir():
            hidden = path.name.startswith(".") or path.name.endswith(".index.json")
            if hidden or path.suffix in _WEIGHTS:
                continue
            copy = shutil.copytree if path.is_dir() else shutil.copyfile
            copy(path, folder / path.name)
        if as_module:
            return _save_module(model, folder)
        with _quiet(self._transformers):
            model.save_pretrained(folder)
        return f"transformers.{type(model).__name__}.from_pretrained(DIR)"


class SavedModule:
    """A module of torch in a file; calibrated on rows of inputs.

    Parameters
    ----------
    path : Path
        File of ``torch.save(module, path)``.
    trust : bool
        Whether code in the file may be run.
    """

    def __init__(self, path, *, trust):
        import torch

        if not trust:
            raise ValueError(
                f"Loading the module in {str(path)!r} runs code that the file brings along; add "
                "--trust if you know where it comes from."
            )
        try:
            self.model = torch.load(path, map_location="cpu", weights_only=False)
        except (pickle.UnpicklingError, EOFError, RuntimeError, AttributeError) as error:
            raise ValueError(
                f"{str(path)!r} is no readable file of torch.save ({error}); save the module anew."
            ) from error
        if not isinstance(self.model, torch.nn.Module):
            raise ValueError(
                f"{str(path)!r} holds a {type(self.model).__name__}, no module; save the whole "
                "model, torch.save(model, path), rather than its state_dict."
            )
        self.model.eval()

    def batches(self, source, n_windows, context):
        """Return rows of a .npy file as batches, of the type of the model."""
        import torch

        if context is not None:
            raise ValueError("--context is for text; a saved module takes rows of a .npy file.")
        try:
            rows = np.load(source, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(
                f"{str(source)!r} is not a numeric .npy file ({error}); a saved module is "
                "calibrated on rows of its inputs, saved by numpy.save."
            ) from error
        if rows.ndim == 0 or len(rows) == 0:
            raise ValueError(f"There are no rows in {str(source)!r}; save inputs of the model.")
        rows = torch.from_numpy(np.ascontiguousarray(rows[: n_windows * _BATCH]))
        like = next(self.model.parameters(), None)
        if like is not None:
            rows = rows.to(like.device, like.dtype if rows.is_floating_point() else rows.dtype)
        return list(rows.split(_BATCH))

    def save(self, model, folder, *, as_module):
        """Write the compressed module into a folder."""
        return _save_module(model, folder)


def _save_module(model, folder):
    import torch

    torch.save(model, folder / "model.pt")
    return 'torch.load("DIR/model.pt", weights_only=False)'


def _read_text(path):
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} is no text in UTF-8 ({error}); convert it.") from error


def _around(tokenizer):
    """Special tokens that a tokenizer puts before and after a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    return [], []


def _transformers():
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "Directories of models are read by transformers, which is not installed; "
            "pip install 'sparseprob[transformers]'."
        ) from error
    return transformers


@contextlib.contextmanager
def _quiet(transformers):
    """Leave progress bars to us."""
    bars = transformers.utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
