"""How good models are: likelihoods, scores on features, dependence between levels, entropies."""

from lapgan.evaluation.config import EvaluationConfig
from lapgan.evaluation.suite import Evaluation, evaluate

__all__ = ["Evaluation", "EvaluationConfig", "evaluate"]
