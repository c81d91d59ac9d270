"""Learn a dictionary over MPI ranks; a script to copy and change.

``mpiexec -n 16 python -m mpi4py mpi/learn_dictionary.py rows.npy``: each rank reads its own rows of
the file. Started again after an interruption, it continues from the checkpoint.
"""

import argparse
from pathlib import Path

import joblib
import numpy as np

from sparseprob import dictionary, distributed, row_slice
from sparseprob.callbacks import Checkpoint

MODELS = ("bsc", "tsc", "dsc", "mca", "mmca", "gsc", "mop")


def main():
    """Learn from the rows of this rank; rank 0 saves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", help=".npy file, float32 or float64, (n_samples, n_features)")
    parser.add_argument("--model", choices=MODELS, default="bsc")
    parser.add_argument("--n-components", type=int, default=200)
    parser.add_argument("--max-iter", type=int, default=100)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint.npz"))
    parser.add_argument("--output", default="model.joblib")
    parser.add_argument("--gpu", action="store_true", help="each rank streams its rows to its GPU")
    options = parser.parse_args()

    with distributed() as comm:
        X = np.load(options.rows, mmap_mode="r")
        X = X[row_slice(len(X))]
        if options.gpu:
            from sparseprob.datasets import on_gpu

            X = on_gpu(X)
        model = getattr(dictionary, options.model.upper())(
            options.n_components, schedule="anneal", max_iter=options.max_iter, random_state=0
        )
        model.set_callbacks(Checkpoint(options.checkpoint, every=5))
        known = comm.bcast(options.checkpoint.exists())
        model.fit(X, resume_from=options.checkpoint if known else None)
        if comm.rank == 0:
            print(f"free energy {model.lower_bound_:.3f} after {model.n_iter_} iterations")
            joblib.dump(model, options.output)


if __name__ == "__main__":
    main()
