"""Commands: ``sparseprob demo | learn | denoise | inpaint | background | compress | info``."""

import argparse
import sys

from .. import __version__

_INTERRUPTED = 130  # what shells report for Ctrl-C


def main(arguments=None):
    """Run a command; errors of the user become one line.

    Parameters
    ----------
    arguments : list of str, default=None
        Command line without the program's name; None means ``sys.argv[1:]``.

    Returns
    -------
    int
        Exit status: 0, 1 for an error, 130 after Ctrl-C.
    """
    from . import _background, _compress, _demo, _images, _info, _learn

    parser = argparse.ArgumentParser(prog="sparseprob", description="Probabilistic sparse coding.")
    parser.add_argument("--version", action="version", version=f"sparseprob {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (_demo, _learn, _images, _background, _compress, _info):
        module.add_parser(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt as stopped:
        _say(f"sparseprob: interrupted. {stopped}".rstrip(), everywhere=False)
        return _INTERRUPTED
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError, MemoryError) as error:
        if options.traceback:
            raise
        _say(f"sparseprob: error: {error}", everywhere=not getattr(error, "on_all_ranks", False))
        return 1
    return 0


def _say(line, *, everywhere):
    """Print to standard error: once, or on every rank if only this one knows."""
    world = getattr(sys.modules.get("mpi4py.MPI"), "COMM_WORLD", None)
    if everywhere or world is None or world.rank == 0:
        print(line, file=sys.stderr)
