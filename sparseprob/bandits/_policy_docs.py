"""Parameters and attributes that all policies share: said once, shown by each."""

import textwrap

_KERNEL = """
kernel : sklearn.gaussian_process.kernels.Kernel, default=None
    Covariance function with fixed parameters. None is an RBF whose length-scales are a fifth of the
    ranges of the features.
"""

_BETA = """
beta : {"self-normalized", "srinivas", "igp"}, float or callable, default="self-normalized"
    Width of the confidence bounds, which multiplies the root of the leverage: ``lam**0.5`` is one
    posterior standard deviation. "self-normalized", comparable with `BBKB`, is
    :math:`\\sqrt\\lambda F + \\xi \\sqrt{\\log\\det(I + K/\\lambda) + \\log(1/\\delta)}`;
    "srinivas" is for functions drawn from the process [Srinivas2010]_, "igp" for functions of norm
    F [Chowdhury2017]_. A callable gets the number t of the coming evaluation and the policy.
"""

_MEMORY = """
max_memory_mb : float, default=2048
    Limit of the memory for the posterior on the candidates of this process; what would need more is
    refused.
"""

_OTHERS = """
noise_variance : float, default=1e-2
    Bound :math:`\\xi^2` on the variance of the noise.
lam : float, default=None
    Ridge :math:`\\lambda`, the noise variance of the posterior. None is `noise_variance`.
fnorm : float, default=1.0
    Bound F on the norm of the function in the space of the kernel.
delta : {"auto", "1/T"}, float or None, default="auto"
    Probability that a bound fails. "1/T" is one over `max_evals`; "auto" is that where `max_evals`
    is given, else 0.5; None is 0.5.
max_evals : int, default=None
    Number of evaluations, those of the initial design included, after which `ask` returns none.
beta_scale : float, default=1.0
    Factor of the width of the confidence bounds.
normalize_y : False or "initial", default=False
    Whether feedback is standardized by the initial design.
n_initial : int, default=2
    Size of the initial design.
initial : {"random", "sobol"} or array-like of int, default="random"
    How the initial design is chosen, or the numbers of its candidates.
maximize : bool, default=True
    Whether large values are wanted.
random_state : int, RandomState instance or None, default=None
    Draws the initial design and whatever else is random.
"""

_ATTRIBUTES = """
best_ : BestResult
    The evaluated candidate of the best posterior mean: index, x, mean, std.
mean_, posterior_std_ : arrays of shape (n_candidates,)
    Posterior of the function on the candidates, in the library of the candidates.
history_ : structured array
    All evaluations in the order of asking.
n_evals_, n_batches_ : int
    Evaluations told; batches learned from, without the initial design.
batch_sizes_ : array of shape (n_batches,)
    Their sizes.
counts_, feedback_sums_ : arrays of shape (n_candidates,)
    How often each candidate was evaluated, and the sum of its feedback.
beta_ : float
    Width of the confidence bounds now, which multiplies the root of the leverage.
effective_dimension_, information_gain_ : float
    Sum of the leverages of the evaluations; half the sum of ``log(1 + leverage)`` at the picks.
"""

_PARTS = {
    "{kernel}": _KERNEL,
    "{beta}": _BETA,
    "{memory}": _MEMORY,
    "{others}": _OTHERS,
    "{attributes}": _ATTRIBUTES,
}


def described(cls):
    """Fill in {kernel}, {beta}, {memory}, {others} and {attributes} in a policy's docstring."""
    for mark, part in _PARTS.items():
        indented = textwrap.indent(part.strip(), "    ").strip()
        cls.__doc__ = (cls.__doc__ or "").replace(mark, indented)
    return cls
