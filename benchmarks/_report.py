"""What all benchmark programs share: hardware, timing, tables, JSON, and the tables in the READMEs.

Run ``python benchmarks/_report.py`` to bring the READMEs up to date with the results.
"""

import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ("benchmarks/results", "mpi/results", "gpu/results")
_PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "scikit-learn",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "cupy",
    "mpi4py",
)
_BEGIN, _END = "<!-- figures:begin -->", "<!-- figures:end -->"


def hardware():
    """Return processor, cores, GPU, BLAS and versions of this machine."""
    from threadpoolctl import threadpool_info

    import sparseprob

    blas = [library for library in threadpool_info() if library["user_api"] == "blas"]
    facts = {
        "processor": _processor(), "cores": len(os.sched_getaffinity(0)), "gpu": _gpu(),
        "blas": blas[0]["internal_api"] + " " + str(blas[0]["version"]) if blas else "unknown",
        "python": platform.python_version(), "sparseprob": sparseprob.__version__,
    }  # fmt: skip
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts


def _processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _gpu():
    try:
        import cupy
    except ImportError:
        return None
    if not cupy.cuda.is_available():
        return None
    return cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()


class Threads:
    """Numba and BLAS on some threads."""

    def __init__(self, n_threads):
        self.n_threads = n_threads

    def __enter__(self):
        import numba
        from threadpoolctl import threadpool_limits

        self.before = numba.get_num_threads()
        numba.set_num_threads(self.n_threads)
        self.limits = threadpool_limits(self.n_threads)

    def __exit__(self, *error):
        import numba

        self.limits.restore_original_limits()
        numba.set_num_threads(self.before)


def fastest(function, repeats=5, *, finish=lambda: None):
    """Return the shortest of some timings in seconds, after one run that is not counted."""
    function()
    finish()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        finish()
        times.append(time.perf_counter() - began)
    return min(times)


def row(what, measured, target=None, *, unit="", at_least=False, note=""):
    """Return one line of a table; `target` is an upper bound, or a lower one if `at_least`."""
    met = None if target is None else bool(measured >= target if at_least else measured <= target)
    bound = None if target is None else f"{'≥' if at_least else '≤'} {target:g}"
    return {
        "what": what,
        "target": bound,
        "measured": measured,
        "unit": unit,
        "met": met,
        "note": note,
    }


def print_table(rows, title):
    """Print rows as plain text."""
    print(f"\n{title}")
    width = max(len(r["what"]) for r in rows)
    for r in rows:
        met = {True: "met", False: "NOT MET", None: ""}[r["met"]]
        figure = _figure(r["measured"], r["unit"])
        print(f"  {r['what']:<{width}}  {figure:>18}  {r['target'] or '':>10}  {met:<8}{r['note']}")


def _figure(value, unit):
    text = str(value) if isinstance(value, (str, bool, int)) else f"{value:.3g}"
    return f"{text} {unit}".strip()


def write_json(path, rows, **more):
    """Write rows with the hardware they were measured on; replaces the file in one step."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"hardware": hardware(), "rows": rows, **more}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, path)
    print(f"written to {path}")


def full_table():
    """Return a table of all figures that have a target, from the committed results."""
    lines = ["| what | target | measured | | machine |", "|---|---|---|---|---|"]
    for _, machine, rows in _results():
        for r in rows:
            met = "met" if r["met"] else "**not met**"
            figure = _figure(r["measured"], r["unit"])
            lines.append(f"| {r['what']} | {r['target']} | {figure} | {met} | {machine} |")
    return "\n".join(lines)


def summary_table():
    """Return a table of how many targets each program meets, and which it misses."""
    lines = ["| results | targets met | missed |", "|---|---|---|"]
    for name, _, rows in _results():
        missed = [r for r in rows if not r["met"]]
        said = "; ".join(
            f"{r['what']}: {_figure(r['measured'], r['unit'])} ({r['target']})" for r in missed
        )
        lines.append(f"| `{name}` | {len(rows) - len(missed)} of {len(rows)} | {said} |")
    return "\n".join(lines)


def _results():
    """Yield file, machine and the rows with a target of every committed result."""
    for folder in RESULTS:
        for path in sorted((ROOT / folder).glob("*.json")):
            content = json.loads(path.read_text())
            facts = content["hardware"]
            machine = facts["gpu"] if folder.startswith("gpu") else facts["processor"]
            rows = [r for r in content["rows"] if r["target"] is not None]
            if rows:
                yield f"{folder.removesuffix('/results')}/{path.stem}", machine, rows


PAGES = {"README.md": summary_table, "benchmarks/README.md": full_table}


def main():
    """Rewrite the tables between the markers of the pages."""
    for name, table in PAGES.items():
        page = ROOT / name
        before, rest = page.read_text().split(_BEGIN)
        after = rest.split(_END)[1]
        page.write_text(f"{before}{_BEGIN}\n{table()}\n{_END}{after}")


if __name__ == "__main__":
    main()
