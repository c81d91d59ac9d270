"""Sparse recovery: greedy pursuit, thresholding, sparse Bayesian learning."""
