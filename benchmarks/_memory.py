"""Peak memory of a fit over memory-mapped rows; a program of its own, started by dictionary.py.

Prints the anonymous memory that the fit added at its peak to that of the same process after a small
fit. Pages of the mapped file belong to the system's cache and are not counted.
"""

import sys
import threading
import time

import numpy as np

from sparseprob.dictionary import BinarySparseCoding


def anonymous_bytes():
    """Memory of this process that no file backs."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


def watch(peak, done):
    """Keep the largest value seen."""
    while not done.is_set():
        peak[0] = max(peak[0], anonymous_bytes())
        time.sleep(0.002)


def main(path, n_components):
    """Fit, watch, print bytes."""
    X = np.load(path, mmap_mode="r")
    model = BinarySparseCoding(n_components, max_iter=2, tol=0, init="data", random_state=0)
    model.fit(np.array(X[:5000]))  # compiles and loads everything
    before = anonymous_bytes()
    peak, done = [before], threading.Event()
    watcher = threading.Thread(target=watch, args=(peak, done))
    watcher.start()
    model.fit(X)
    done.set()
    watcher.join()
    print(peak[0] - before)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
