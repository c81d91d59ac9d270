"""Binary Sparse Coding (M. Henniges, G. Puertas, J. Bornschein, J. Eggert, J. Lücke, 2010)."""

import numpy as np

from .._arrays import to_numpy
from ._base import TruncatedSparseCoding
from ._linear_model import LinearDiscreteModel

_PARAMETERS = ("components", "prior", "noise")


class BinarySparseCoding(TruncatedSparseCoding):
    r"""Linear sparse coding with binary causes, learned by truncated EM.

    Each row is a sum of a few atoms plus noise,
    :math:`p(s_h = 1) = \pi`, :math:`p(y \mid s) = \mathcal N(y; W s + m, \sigma^2 I)`.
    The posterior is computed over a truncated set of states: none, every single cause, and all
    combinations of at most `max_active` causes among `n_candidates` preselected for the row.

    Parameters
    ----------
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
        Annealing; "anneal" lowers the temperature from 5 to 1 in the first 80 % of iterations.
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
    init : {"mean", "data"}, array of shape (n_components, n_features) or dict, default="mean"
        Initial atoms: the mean plus noise, random rows, or given; a dict may hold "components",
        "prior", "noise_scale", "offset".
    n_init : int, default=1
        Number of restarts; the one with the largest free energy is kept.
    learn : tuple of str, default=("components", "prior", "noise")
        Parameters to learn; the others keep their initial values.
    fit_offset : bool, default=False
        Learn an offset m too.
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

    Attributes
    ----------
    components_ : array of shape (n_components, n_features)
        The atoms, in the units of X.
    prior_ : float
        Probability that a cause is active.
    noise_scale_ : float
        Standard deviation of the noise, in the units of X.
    offset_ : array of shape (n_features,)
        The offset m; zeros unless `fit_offset`.
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

    References
    ----------
    .. [1] M. Henniges, G. Puertas, J. Bornschein, J. Eggert, J. Lücke. "Binary Sparse Coding".
       LVA/ICA, 2010.
    .. [2] J. Lücke, J. Eggert. "Expectation Truncation and the Benefits of Preselection in Training
       Generative Models". JMLR 11:2855-2900, 2010.

    Examples
    --------
    >>> from sparseprob.datasets import make_bars
    >>> from sparseprob.dictionary import BinarySparseCoding
    >>> X = make_bars(1000, random_state=0).data
    >>> model = BinarySparseCoding(10, schedule="anneal", max_iter=60, random_state=0).fit(X)
    >>> model.transform(X).shape
    (1000, 10)
    """

    _annealing = {"T": [(0, 5.0), (0.8, 1.0)]}
    _learnable = _PARAMETERS
    _values = (1.0,)

    def __init__(
        self,
        n_components=None,
        *,
        n_candidates=None,
        max_active=None,
        max_iter=100,
        tol=1e-5,
        schedule=None,
        prior_correction="none",
        data_cut=0.0,
        preselect="default",
        state_search="select",
        n_states=None,
        states_path=None,
        init="mean",
        n_init=1,
        learn=_PARAMETERS,
        fit_offset=False,
        reinit_dead=False,
        batch_size=None,
        max_states=200_000,
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.n_candidates = n_candidates
        self.max_active = max_active
        self.max_iter = max_iter
        self.tol = tol
        self.schedule = schedule
        self.prior_correction = prior_correction
        self.data_cut = data_cut
        self.preselect = preselect
        self.state_search = state_search
        self.n_states = n_states
        self.states_path = states_path
        self.init = init
        self.n_init = n_init
        self.learn = learn
        self.fit_offset = fit_offset
        self.reinit_dead = reinit_dead
        self.batch_size = batch_size
        self.max_states = max_states
        self.random_state = random_state
        self.verbose = verbose

    def _make_model(self):
        return LinearDiscreteModel(self._values, tied=True, **self._model_options())

    def _parameter_attributes(self, params):
        return {
            "components_": params["components"],
            "prior_": float(params["prior"].sum()),
            "noise_scale_": float(params["noise_scale"]),
            "offset_": params["offset"],
        }

    def _parameters(self):
        return {
            "components": to_numpy(self.components_).astype(np.float64),
            "prior": np.array([self.prior_]),
            "noise_scale": np.array(self.noise_scale_),
            "offset": to_numpy(self.offset_).astype(np.float64),
        }
