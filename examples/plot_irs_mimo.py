"""
A channel through a reflecting surface
======================================

A mobile station sends three pilots over a surface of 256 elements that shows six patterns: 288
measurements of a channel with 5832 coefficients, whose support is a product of a few angles. You
will see the error of the estimated channel, and of symbols sent through it, against the
signal-to-noise ratio. OMP and sparse Bayesian learning are blind to the product; KroneckerSBL
is not.
"""

import matplotlib.pyplot as plt
import numpy as np

from sparseprob.channel import IRSMIMOLink, channel_nmse, qpsk_symbols, transmit
from sparseprob.linear_operators import KroneckerOperator
from sparseprob.metrics import symbol_error_rate
from sparseprob.recovery import (
    KroneckerSBL,
    OrthogonalMatchingPursuit,
    SparseBayesianLearning,
)


def omp(factors, slabs):
    """Run OMP with as many atoms as there are paths."""
    A = KroneckerOperator(factors)
    return OrthogonalMatchingPursuit(n_nonzero_coefs=9).fit(A, slabs.ravel()).coef_


def sbl(factors, slabs):
    """Learn which coefficients there are, one by one."""
    A = KroneckerOperator(factors).to_dense()
    return SparseBayesianLearning("fast").fit(A, slabs.ravel()).coef_


def kronecker_sbl(factors, slabs):
    """Learn which rows of each factor there are, and the noise."""
    return KroneckerSBL(max_iter=500, tol=1e-3).fit(factors, slabs).coef_


def errors(method, snr_db, seed):
    """Channel error and symbol error rate of one link."""
    link = IRSMIMOLink(pilots=3, patterns=6, random_state=seed)
    channel = link.sample_channel(random_state=seed)
    slabs, noise_var = link.measure(channel, snr_db, random_state=seed)
    coef = method(link.dictionaries(), slabs).reshape(18, 18, 18)
    estimate, truth = link.channel_from_coef(coef), channel.cascaded(link.patterns)
    sent = qpsk_symbols(5000, random_state=seed)
    received = transmit(sent, truth, estimate, noise_var, random_state=seed)
    rate = symbol_error_rate(received, np.broadcast_to(sent, received.shape))
    return channel_nmse(estimate, truth), rate


snrs = np.arange(0, 21, 5)
fig, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for method in (omp, sbl, kronecker_sbl):
    found = np.array([[errors(method, snr, seed) for seed in range(6)] for snr in snrs])
    nmse, rates = np.median(found[..., 0], axis=1), found[..., 1].mean(axis=1)
    axes[0].semilogy(snrs, nmse, "o-", label=method.__name__)
    axes[1].plot(snrs, rates, "o-")
    print(method.__name__.ljust(14), "median NMSE", nmse.round(4), "mean SER", rates.round(4))
axes[0].set(title="channel error, median", xlabel="SNR in dB", ylabel="NMSE")
axes[1].set(title="symbol error rate, mean", xlabel="SNR in dB")
axes[1].set_yscale("symlog", linthresh=1e-4)
axes[0].legend()
plt.show()

# %%
# The same pilots make a better channel when the estimator knows that angles of arrival and
# departure multiply: most so where the noise is strong. Symbols are harder to spoil than channels,
# since only the strongest direction has to be right.
