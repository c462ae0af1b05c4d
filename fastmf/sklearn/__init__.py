"""An estimator for scikit-learn, ``fastmf.sklearn.Recommender``; it needs scikit-learn 1.6 or newer."""

from fastmf.sklearn.recommender import Recommender

__all__ = ["Recommender"]
