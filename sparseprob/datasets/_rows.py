"""Rows from files, without reading them."""

from pathlib import Path

import numpy as np

_SUFFIXES = (".h5", ".hdf5", ".he5")


def open_rows(path):
    """Open rows on disk for reading chunk by chunk.

    Parameters
    ----------
    path : str or Path
        A ``.npy`` file, which is memory mapped; a ``.npz`` file with one array, or
        ``"file.npz:name"``, which is read; or ``"file.h5:/name"``, a dataset of an HDF5 file.

    Returns
    -------
    rows : ndarray, memmap or h5py.Dataset of shape (n_samples, n_features)
        What any estimator of this package takes as X.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file does not hold a table of real numbers.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from sparseprob.datasets import open_rows
    >>> path = tempfile.mkdtemp() + "/rows.npy"
    >>> np.save(path, np.zeros((4, 2)))
    >>> open_rows(path).shape
    (4, 2)
    """
    text = str(path)
    file, _, name = text.rpartition(":") if _names_an_array(text) else (text, "", "")
    if not Path(file).is_file():
        raise FileNotFoundError(f"There is no file {file!r}; give a .npy, .npz or file.h5:/name.")
    suffix = Path(file).suffix.lower()
    if suffix == ".npy":
        rows = _open_npy(file)
    elif suffix == ".npz":
        rows = _open_npz(file, name)
    elif suffix in _SUFFIXES:
        rows = _open_hdf5(file, name)
    else:
        raise ValueError(f"{file!r} must end in .npy, .npz or .h5, not {suffix!r}; convert it.")
    return _checked(rows, text)


def _names_an_array(text):
    stem = text.rpartition(":")[0].lower()
    return stem.endswith((*_SUFFIXES, ".npz"))


def _open_npy(file):
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{file!r} is not a numeric .npy file ({error}); save it anew.") from error


def _open_npz(file, name):
    try:
        with np.load(file, allow_pickle=False) as arrays:
            names = arrays.files
            if not name and len(names) == 1:
                name = names[0]
            if name in names:
                return arrays[name]
    except (ValueError, EOFError, OSError, TypeError, AttributeError) as error:
        raise ValueError(f"{file!r} is not a numeric .npz file ({error}); save it anew.") from error
    raise ValueError(f"{file!r} holds the arrays {names}; name one, as in {file}:{names[0]}.")


def _open_hdf5(file, name):
    import h5py

    try:
        content = h5py.File(file, "r")
    except OSError as error:
        raise ValueError(f"{file!r} is not an HDF5 file ({error}); convert it first.") from error
    datasets = []
    content.visititems(lambda key, item: datasets.append(key) if hasattr(item, "dtype") else None)
    if name.strip("/") not in datasets:
        raise ValueError(
            f"{file!r} holds the datasets {datasets}; name one of them, as in {file}:/name."
        )
    return content[name]


def _checked(rows, text):
    if rows.dtype.kind not in "fiub":
        raise ValueError(f"{text!r} must hold real numbers, got dtype {rows.dtype}; convert it.")
    if rows.ndim != 2:
        raise ValueError(
            f"{text!r} must hold a table (n_samples, n_features), got shape {rows.shape}."
        )
    return rows
