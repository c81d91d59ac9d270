"""Pictures of bandit policies: regret of several, and one batch as it is built."""

import numpy as np

from ._arrays import to_numpy

__all__ = ["BatchDisplay", "RegretDisplay"]

_COLORS = ("#1f5fa8", "#c44e2c", "#0a8f8f", "#7a4fa3", "#d69a1e", "#6b6b6b", "#a83a6b", "#4f7f2b",
           "#222222", "#8fa9c9", "#b98a5a", "#5aa9b9")  # fmt: skip
_LINES = ("-", "--", ":", "-.")
_KINDS = {
    "cumulative": "cumulative regret",
    "simple": "gap of the best evaluation",
    "inference": "gap of the recommended candidate",
    "relative": "regret relative to chance",
}
_AGAINST = {
    "evaluations": "evaluations",
    "batches": "rounds of feedback",
    "seconds": "seconds, the function itself included",
}
_LARGEST_LABEL = 99  # picks numbered beyond this would cover each other


class RegretDisplay:
    """Regret of policies over evaluations, rounds of feedback, or time.

    Parameters
    ----------
    curves : dict of str to array of shape (n_evals,)
        Regret after each evaluation, by the name of the policy.
    kind : {"cumulative", "simple", "inference", "relative"}, default="relative"
        Which regret the curves are.
    positions : dict of str to array of shape (n_evals,), default=None
        Where each evaluation stands on the horizontal axis; None numbers them from 1.
    against : {"evaluations", "batches", "seconds"}, default="evaluations"
        What the positions are.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the curves.
    figure_ : matplotlib Figure
        Figure of the curves.

    Examples
    --------
    >>> from sparseprob.plotting import RegretDisplay
    >>> display = RegretDisplay({"ours": [1.0, 0.4, 0.2], "chance": [1.1, 0.9, 1.0]}).plot()
    >>> [line.get_label() for line in display.ax_.lines[:2]]
    ['ours', 'chance']
    """

    def __init__(self, curves, *, kind="relative", positions=None, against="evaluations"):
        self.curves, self.kind = curves, kind
        self.positions, self.against = positions, against

    @classmethod
    def from_policies(
        cls, policies, f_values, kind="relative", *, against="evaluations", ax=None, n_legend=None
    ):
        """Show the regret of policies that have run.

        Parameters
        ----------
        policies : dict of str to policy
            Policies of ``sparseprob.bandits`` on the same candidates, by the name to be shown.
        f_values : array of shape (n_candidates,)
            Noise-free value of every candidate.
        kind : {"cumulative", "simple", "inference", "relative"}, default="relative"
            Which regret; see ``policy.regret``.
        against : {"evaluations", "batches", "seconds"}, default="evaluations"
            The horizontal axis.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        n_legend : int, default=None
            Columns of the legend; None chooses, 0 leaves the legend out.

        Returns
        -------
        display : RegretDisplay
        """
        _check_choice("against", against, _AGAINST)
        curves = {name: policy.regret(f_values, kind) for name, policy in policies.items()}
        positions = {name: _positions(policy, against) for name, policy in policies.items()}
        display = cls(curves, kind=kind, positions=positions, against=against)
        return display.plot(ax=ax, n_legend=n_legend)

    def plot(self, *, ax=None, n_legend=None):
        """Draw one curve for each policy.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        n_legend : int, default=None
            Columns of the legend; None chooses, 0 leaves the legend out.

        Returns
        -------
        display : RegretDisplay
        """
        _check_choice("kind", self.kind, _KINDS)
        _check_choice("against", self.against, _AGAINST)
        ax = _new_axes((6.0, 3.8)) if ax is None else ax
        for i, (name, curve) in enumerate(self.curves.items()):
            where = np.arange(1, len(curve) + 1) if self.positions is None else self.positions[name]
            ax.plot(
                where, curve, _LINES[i // len(_COLORS) % len(_LINES)], label=name, linewidth=1.5,
                color=_COLORS[i % len(_COLORS)],
                drawstyle="default" if self.against == "evaluations" else "steps-post",
            )  # fmt: skip
        ax.set(xlabel=_AGAINST[self.against], ylabel=_KINDS[self.kind])
        if self.kind == "relative":
            ax.axhline(1, color="0.6", linestyle=":", linewidth=1, zorder=0)
            ax.set_ylim(bottom=0)
        if n_legend != 0:
            ax.legend(fontsize="small", ncols=n_legend or 1 + len(self.curves) // 7, frameon=False)
        _plain(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self


class BatchDisplay:
    """A batch over candidates with one feature: mean, width, and the picks in their order.

    Parameters
    ----------
    x : array of shape (n_candidates,)
        Where the candidates lie.
    mean, width : array of shape (n_candidates,)
        Posterior mean, and half the width of the confidence interval.
    picks : array of shape (batch_size,)
        Where the picks of the batch lie, the first pick first.
    bounds : array of shape (batch_size,), default=None
        Upper confidence bound of each pick when it was picked; None leaves the picks out of the
        upper axes.
    evaluated : tuple of two arrays of shape (n_evals,), default=None
        Where evaluations lie, and their feedback.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of mean and width.
    axes_ : ndarray of matplotlib Axes of shape (2,)
        Axes of mean and width, and of the picks.
    figure_ : matplotlib Figure
        Figure of both.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.plotting import BatchDisplay
    >>> x = np.linspace(0, 1, 50)
    >>> display = BatchDisplay(x, np.sin(x), np.ones(50), picks=[0.2, 0.9, 0.2]).plot()
    >>> display.axes_[1].lines[0].get_ydata().tolist()
    [1, 2, 3]
    """

    def __init__(self, x, mean, width, picks, *, bounds=None, evaluated=None):
        self.x, self.mean, self.width, self.picks = x, mean, width, picks
        self.bounds, self.evaluated = bounds, evaluated

    @classmethod
    def from_policy(cls, policy, *, axes=None, label=None):
        """Show what a policy knows and has asked for; without pending evaluations, its last batch.

        Parameters
        ----------
        policy : policy
            A policy of ``sparseprob.bandits`` with feedback, on candidates with one feature.
        axes : sequence of two matplotlib Axes, default=None
            Axes to draw on, the upper first; None makes a figure.
        label : str, default=None
            Title above the axes.

        Returns
        -------
        display : BatchDisplay
        """
        from .bandits._ledger import PENDING, TOLD

        X, log = to_numpy(policy._candidates.X), policy._ledger.log
        if X.shape[1] != 1:
            raise ValueError(f"The candidates must have one feature to be drawn, got {X.shape[1]}.")
        policy._check_learned()
        mean, leverage = (to_numpy(A) for A in policy._posterior_on_candidates())
        pending = log["status"] == PENDING
        shown = pending if pending.any() else log["batch"] == log["batch"].max(initial=0)
        sign = policy._sign * policy._scale
        told, picked = log[log["status"] == TOLD], log[shown]
        display = cls(
            X[:, 0], policy._outside(mean), policy._beta * policy._scale * np.sqrt(leverage),
            policy._points(picked["index"])[:, 0],
            bounds=picked["mu_at_pick"] + sign * picked["beta"] * np.sqrt(picked["s_at_pick"]),
            evaluated=(policy._points(told["index"])[:, 0], told["y"]),
        )  # fmt: skip
        return display.plot(axes=axes, label=label)

    def plot(self, *, axes=None, label=None):
        """Draw mean and width above, the picks below.

        Parameters
        ----------
        axes : sequence of two matplotlib Axes, default=None
            Axes to draw on, the upper first; None makes a figure.
        label : str, default=None
            Title above the axes.

        Returns
        -------
        display : BatchDisplay
        """
        if axes is None:
            axes = _new_axes((6.0, 4.2), 2, sharex=True, height_ratios=(2.2, 1))
        self.axes_ = np.asarray(axes)
        self.ax_, self.figure_ = axes[0], axes[0].figure
        self._draw_posterior(axes[0])
        self._draw_picks(axes[1])
        if label is not None:
            axes[0].set_title(label, fontsize="medium")
        return self

    def _draw_posterior(self, ax):
        x, mean, width = (np.asarray(to_numpy(a)) for a in (self.x, self.mean, self.width))
        order = np.argsort(x, kind="stable")
        x, mean, width = x[order], mean[order], width[order]
        ax.fill_between(x, mean - width, mean + width, color=_COLORS[0], alpha=0.18, linewidth=0)
        ax.plot(x, mean, color=_COLORS[0], linewidth=1.6)
        if self.evaluated is not None:
            ax.plot(*self.evaluated, ".", color="0.35", markersize=4)
        if self.bounds is not None:
            ax.plot(self.picks, self.bounds, "v", color=_COLORS[1], markersize=4, linewidth=0)
        ax.set_ylabel("mean and width")
        _plain(ax)

    def _draw_picks(self, ax):
        numbers = np.arange(1, len(self.picks) + 1)
        ax.plot(self.picks, numbers, "o", color=_COLORS[1], markersize=3)
        ax.set_ylim(max(len(numbers), 1) + 0.9, 0.1)  # the first pick on top
        ax.set(xlabel="x", ylabel="pick")
        ax.yaxis.get_major_locator().set_params(integer=True, nbins=5)
        _plain(ax)


def _positions(policy, against):
    from .bandits._regret import counted

    log = policy._ledger.log[counted(policy)]
    if against == "seconds":
        return log["wall"]
    if against == "batches":
        return np.unique(log["batch"], return_inverse=True)[1] + 1
    return np.arange(1, len(log) + 1)


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name} must be one of {sorted(choices)}, got {value!r}.")


def _new_axes(size, n_rows=1, **options):
    from .plotting import _pyplot

    _, axes = _pyplot().subplots(n_rows, 1, figsize=size, layout="constrained", **options)
    return axes


def _plain(ax):
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
