"""One small, fast instance of every public estimator; the common tests run over this table."""

from sparseprob.bandits import (
    BBKB,
    BKB,
    BPE,
    GPBUCB,
    GPTS,
    GPUCB,
    AdaBKB,
    EpsilonGreedy,
    MiniGPEI,
    MiniGPUCB,
    NystromGPRegressor,
    RandomPolicy,
)
from sparseprob.datasets import ZCAWhitening
from sparseprob.dictionary import (
    KSVD,
    BinarySparseCoding,
    DiscreteSparseCoding,
    GaussianSparseCoding,
    MaximalCausesAnalysis,
    MaximumMagnitudeCausesAnalysis,
    MixtureOfPoissons,
    TernarySparseCoding,
)
from sparseprob.gp import (
    DKLGPClassifier,
    DKLGPPoissonRegressor,
    DKLGPRegressor,
    SWSGPClassifier,
    SWSGPRegressor,
    VecchiaGPRegressor,
)
from sparseprob.recovery import (
    CoSaMP,
    HardThresholdingPursuit,
    IterativeHardThresholding,
    OrthogonalMatchingPursuit,
    SparseBayesianLearning,
    SubspacePursuit,
    WeightedOMP,
    WeightedOMPCV,
)
from sparseprob.rpca import OnlineRobustPCA, RobustPCA
from sparseprob.sketch import SketchedRidge

INSTANCES = [
    BinarySparseCoding(3, max_iter=5, tol=0, random_state=0),
    GaussianSparseCoding(3, max_iter=5, tol=0, random_state=0),
    TernarySparseCoding(3, max_iter=5, tol=0, random_state=0),
    DiscreteSparseCoding(3, values=(-2.0, 0.0, 1.0), max_iter=5, tol=0, random_state=0),
    MixtureOfPoissons(3, counts="any", max_iter=5, tol=0, random_state=0),
    MaximalCausesAnalysis(3, max_iter=5, tol=0, random_state=0),
    MaximumMagnitudeCausesAnalysis(3, max_iter=5, tol=0, random_state=0),
    KSVD(3, max_iter=5, tol=0, random_state=0),
    ZCAWhitening(),
    OnlineRobustPCA(2, max_iter=3, random_state=0),
    RobustPCA(solver="admm", tol=1e-4, max_iter=2000, random_state=0),
    CoSaMP(),
    HardThresholdingPursuit(),
    IterativeHardThresholding(),
    OrthogonalMatchingPursuit(),
    SparseBayesianLearning(),
    SubspacePursuit(),
    WeightedOMP(),
    WeightedOMPCV(cv=3),
    SketchedRidge(),
    NystromGPRegressor(random_state=0),
    SWSGPClassifier(n_inducing=10, n_neighbors=5, max_iter=60, random_state=0),
    VecchiaGPRegressor(n_neighbors=5, max_iter=10, tol=0, random_state=0),
    DKLGPRegressor(n_neighbors=5, max_iter=10, tol=0, random_state=0),
    DKLGPClassifier(n_neighbors=5, max_iter=4, tol=0, random_state=0),
    DKLGPPoissonRegressor(n_neighbors=5, max_iter=4, tol=0, random_state=0, counts="any"),
    SWSGPRegressor(n_inducing=10, n_neighbors=5, max_iter=60, random_state=0),
]

# Those whose iterations are announced to callbacks.
ITERATIVE = [estimator for estimator in INSTANCES if hasattr(estimator, "_fitted_attributes")]

# Every bandit policy; beta_scale is small, so that a few dozen evaluations learn something.
_BANDIT = {"beta_scale": 0.2, "noise_variance": 1e-2, "n_initial": 4, "random_state": 0}
POLICIES = [
    BBKB(max_batch_size=6, **_BANDIT),
    BKB(**_BANDIT),
    GPUCB(**_BANDIT),
    GPBUCB(batch_size=5, **_BANDIT),
    GPTS(batch_size=5, **_BANDIT),
    MiniGPUCB(**_BANDIT),
    MiniGPEI(**_BANDIT),
    BPE(max_evals=80, **_BANDIT),
    EpsilonGreedy(**_BANDIT),
    RandomPolicy(batch_size=5, **_BANDIT),
    AdaBKB(max_cells=500, **_BANDIT),
]
