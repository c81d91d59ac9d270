"""The parameters that all sparse coding models share: said once, shown by each model."""

import inspect
import re
import textwrap

COMMON = {
    "n_components": None, "n_candidates": None, "max_active": None, "max_iter": 100, "tol": 1e-5,
    "schedule": None, "prior_correction": "none", "data_cut": 0.0, "preselect": "default",
    "state_search": "select", "n_states": None, "states_path": None, "missing": None,
    "init": "mean", "n_init": 1, "learn": ("components", "prior", "noise"), "reinit_dead": False,
    "batch_size": None, "max_states": 200_000, "random_state": None, "verbose": 0,
}  # fmt: skip

_PARAMETERS = """
n_components : int, default=None
    Number H of atoms; None means the number of features.
n_candidates : int, default=None
    Number H' of causes preselected for each row; None means 8, or `n_components` if less.
max_active : int, default=None
    Largest number of causes active together; None means 4, or `n_candidates` if that is less.
    ``max_active = n_candidates = n_components`` is exact EM.
max_iter : int, default=100
    Number of EM iterations of each restart.
tol : float, default=1e-5
    Stop after three iterations in which the free energy changed by less than this fraction; 0
    runs the whole schedule.
schedule : LinearSchedule or "anneal", default=None
    Annealing; "anneal" lowers the temperature from {hot:g} to 1 in the first {end:.0%} of
    iterations.
prior_correction : {"none", "et"}, default="none"
    "et" corrects the prior for the causes that truncation leaves out.
data_cut : float, default=0.0
    Leave rows out of the M-step that probably have more than `max_active` causes: this fraction
    of the prior mass beyond `max_active`.
preselect : {"default", "joint"} or callable, default="default"
    Score that ranks the candidates: projection on the unit atom, joint probability of the
    single cause, or ``preselect(projections (n, H), context) -> scores (n, H)``.
state_search : {"select", "sample", "evo"}, default="select"
    How the state sets are found: preselection, or learned by sampling or evolution.
n_states : int, default=None
    States kept for each row when they are learned; None means 32.
states_path : str, default=None
    File for learned states, memory mapped; None keeps them in memory.
missing : {"nan"}, default=None
    "nan": NaN in X marks entries that were not observed; codes, bounds and learning use the
    others. None refuses NaN.
init : {"mean", "data"}, array of shape (n_components, n_features) or dict, default="mean"
    Initial atoms: the mean plus noise, random rows, or given; a dict may hold "components",
    "prior", "noise_scale", "offset".
n_init : int, default=1
    Number of restarts; the one with the largest free energy is kept.
learn : tuple of str, default={learnable}
    Parameters to learn; the others keep their initial values.
reinit_dead : bool, default=False
    Replace atoms that no row uses by the row explained worst.
batch_size : int, default=None
    Rows computed at a time; None means 1024 on the CPU and 2^27 / H on a GPU.
max_states : int, default=200_000
    Refuse tables with more states.
random_state : int, RandomState instance or None, default=None
    Seed of initial values and learned states.
verbose : int, default=0
    Log one line per iteration to the logger "sparseprob.dictionary".
"""

_ATTRIBUTES = """
lower_bound_ : float
    Free energy per row of the last E-step, in nats.
history_ : dict of ndarray
    lower_bound, temperature, n_used, prior, noise_scale, seconds of each iteration.
n_iter_ : int
    Number of iterations of the restart kept.
converged_ : bool
    Whether `tol` was reached.
n_used_ : int
    Number of rows used by the last M-step.
n_features_in_ : int
    Number of features.
"""


def with_parameters(*, without=(), **extra):
    """Give an estimator a constructor and a docstring with the common parameters and its own.

    Its own parameters come first after ``n_components``, and may replace defaults of common ones.
    In the docstring, ``{parameters}`` and ``{attributes}`` stand for the common entries.

    Parameters
    ----------
    without : tuple of str
        Common parameters that make no sense for the estimator.
    **extra : object
        Names and default values of its own parameters.
    """
    own = {name: value for name, value in extra.items() if name not in COMMON}
    common = {name: extra.get(name, value) for name, value in COMMON.items() if name not in without}
    defaults = {"n_components": common.pop("n_components"), **own, **common}

    def decorate(cls):
        cls.__init__ = _constructor(cls, defaults)
        cls.__doc__ = _docstring(cls, defaults)
        return cls

    return decorate


def _constructor(cls, defaults):
    Parameter = inspect.Parameter
    parameters = [Parameter("self", Parameter.POSITIONAL_OR_KEYWORD)]
    for name, default in defaults.items():
        first = name == "n_components"
        kind = Parameter.POSITIONAL_OR_KEYWORD if first else Parameter.KEYWORD_ONLY
        parameters.append(Parameter(name, kind, default=default))
    signature = inspect.Signature(parameters)

    def __init__(self, *args, **kwargs):
        try:
            given = signature.bind(self, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{cls.__name__}() {error}") from None
        given.apply_defaults()
        for name, value in given.arguments.items():
            if name != "self":
                setattr(self, name, value)

    vars(__init__)["__signature__"] = signature
    return __init__


def _docstring(cls, defaults):
    hot, (end, _) = cls._annealing["T"][0][1], cls._annealing["T"][-1]
    texts = {
        "parameters": _entries(_PARAMETERS, defaults, cls.__doc__),
        "attributes": _entries(_ATTRIBUTES, None, cls.__doc__),
    }
    document = cls.__doc__
    for name, text in texts.items():
        document = document.replace("    {" + name + "}\n", textwrap.indent(text, "    "))
    words = {"{hot:g}": f"{hot:g}", "{end:.0%}": f"{end:.0%}", "{learnable}": repr(cls._learnable)}
    for word, text in words.items():
        document = document.replace(word, text.replace("'", '"'))
    return _in_order(document, list(defaults))


def _in_order(document, names):
    """Sort the entries of the section Parameters as in the signature."""
    before, title, rest = document.partition("    Parameters\n    ----------\n")
    section, gap, after = rest.partition("\n\n")
    entries = re.split(r"\n(?=    \w)", section)
    entries.sort(key=lambda entry: names.index(entry.partition(" :")[0].strip()))
    return before + title + "\n".join(entries) + gap + after


def _entries(text, allowed, document):
    """Those entries of a section that are allowed and not written in the docstring itself."""
    entries, kept = text.strip("\n").split("\n"), []
    keep = False
    for line in entries:
        if not line.startswith(" "):
            name = line.partition(" :")[0]
            keep = (allowed is None or name in allowed) and f"\n    {name} :" not in document
        if keep:
            kept.append(line)
    return "\n".join(kept) + "\n"
