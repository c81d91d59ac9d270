"""Parameters and attributes that the DKLGP estimators share: said once, shown by each."""

import textwrap

_FIRST = """
kernel : kernel object, default=None
    Products of ConstantKernel with Matern (nu 0.5, 1.5, 2.5), RBF or RationalQuadratic of
    scikit-learn, and sums of these; or gpytorch kernels of these kinds. None is a constant times a
    Matern with nu=1.5 and one length-scale for each feature, with start values from the data.
"""

_OTHERS = """
n_neighbors : int, default=30
    How many earlier latent values each one is conditioned on, in the prior and in the posterior; a
    prediction is conditioned on as many.
rho : float, default=2.0
    Radius of the balls of ``pattern="ball"``, in the distance of a point to those before it.
pattern : {"nearest", "ball"}, default="nearest"
    Which earlier values: the nearest, or those in a ball, as in [Cao2023]_. For equal numbers of
    entries the nearest are clearly better.
variant : {"full", "global", "diagonal"}, default="full"
    "global" conditions all values on the same first ones of the order, "diagonal" has a posterior
    of independent values. Both are there to be compared with.
ordering : {"maximin", "maximin-approximate", "random", "coordinate", "given"}, default="maximin"
    Order of the points. "given" is that of the rows.
metric : {"euclidean", "correlation"}, default="euclidean"
    Distance by which points are ordered and neighbors found: of inputs over length-scales, or
    :math:`\\sqrt{1 - c}` for correlations c, at a cost of :math:`O(n^2)`. They differ for sums of
    terms with different length-scales.
nugget : float, default=1e-6
    Added to the variance of latent values.
ancestors : {"auto", "pattern", "ball", "full"}, default="auto"
    Which earlier points the bound sees when it computes a marginal variance: those of the pattern,
    also those in balls of radius 3 around earlier points, or all. "auto" takes more until the
    variances are right to one percent on average, as far as balls of radius 4.
solver : {solvers}, default="auto"
    {solver_text}"lbfgs" takes quasi-Newton steps of kernel and likelihood, each with the posterior
    that is best for it; "adam" stochastic gradient steps of everything, as in [Cao2023]_.
batch_size : int, default=128
    Columns of a step of "adam".
learning_rate : float, default=0.01
    Of "adam"; a tenth of it in the last two sevenths of the iterations.
max_iter : int, default=60
    Largest number of iterations; of "adam", of passes over the data.
tol : float, default=1e-5
    The fit ends after a step that was expected to raise the bound by less than this share of it;
    "adam" when three passes change it by less.
reorder_tol : float, default=0.2
    Order and patterns are found anew when the ratio of two length-scales has changed by more than
    this share.
optimize_kernel : bool, default=True
    Whether kernel and likelihood are learned.
"""

_LAST = """
random_state : int, RandomState instance or None, default=None
    For random orders and the batches of "adam".
"""

_ATTRIBUTES = """
kernel_ : kernel object
    The kernel with learned hyper-parameters.
mean_ : array of shape (n_samples,)
    Posterior mean of the latent values, in the order of the rows.
factor_ : sparse array of shape (n_samples, n_samples)
    Upper triangular V, by columns: the posterior precision is :math:`V V^\\top`, in the order
    `order_`.
prior_factor_ : sparse array of shape (n_samples, n_samples)
    The same for the prior.
order_ : array of int of shape (n_samples,)
    Numbers of the rows, coarse to fine.
lengths_ : array of shape (n_samples,)
    Distance of each point, in that order, to those before it.
X_train_ : array of shape (n_samples, n_features)
    In the library of X; all rows of all ranks.
elbo_ : float
    Evidence lower bound.
elbo_history_ : list of float
    {history}
ancestor_bias_ : float
    Mean relative error of the marginal variances for seeing the chosen ancestors only, measured on
    200 points.
n_jitter_ : int
    Columns whose covariance had to be made regular by more than the nugget.
n_ic_shift_ : int
    How often an incomplete factor needed a larger diagonal.
n_iter_ : int
    Number of iterations.
converged_ : bool
    Whether the last step was as small as `tol` asks.
"""

_SOLVERS = {
    True: (
        '{"auto", "lbfgs", "adam", "response"}',
        '"response" maximizes the Vecchia likelihood of the noisy values, for Gaussian noise\n'
        '    only; "auto" is that, or "lbfgs" for other noise.\n    ',
        'Bound after every iteration; of "response" the log likelihood of noisy values.',
    ),
    False: ('{"auto", "lbfgs", "adam"}', '"auto" is "lbfgs". ', "Bound after every iteration."),
}


def described(*, gaussian):
    """Fill in {kernel}, {others}, {last} and {attributes} in a class's docstring."""

    def fill(cls):
        solvers, text, history = _SOLVERS[gaussian]
        others = _OTHERS.replace("{solvers}", solvers).replace("{solver_text}", text)
        parts = {
            "{kernel}": _FIRST,
            "{others}": others,
            "{last}": _LAST,
            "{attributes}": _ATTRIBUTES.replace("{history}", history),
        }
        for mark, part in parts.items():
            indented = textwrap.indent(part.strip(), "    ").strip()
            cls.__doc__ = (cls.__doc__ or "").replace(mark, indented)
        return cls

    return fill
