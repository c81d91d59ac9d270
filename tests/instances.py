"""One small, fast instance of every public estimator; the common tests run over this table."""

from sparseprob.datasets import ZCAWhitening
from sparseprob.dictionary import BinarySparseCoding

INSTANCES = [
    BinarySparseCoding(3, max_iter=5, tol=0, random_state=0),
    ZCAWhitening(),
]

ITERATIVE = [estimator for estimator in INSTANCES if hasattr(estimator, "max_iter")]
