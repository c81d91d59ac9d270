"""Channels through an intelligent reflecting surface: the model, its sparse form, its scores."""

from ._irs_mimo import IRSChannel, IRSMIMOLink, Received, channel_nmse
from ._steering import angle_grid, steering_vectors
from ._symbols import qpsk_symbols, transmit

__all__ = [
    "IRSChannel",
    "IRSMIMOLink",
    "Received",
    "angle_grid",
    "channel_nmse",
    "qpsk_symbols",
    "steering_vectors",
    "transmit",
]
