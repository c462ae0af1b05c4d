import math

import pytest


@pytest.fixture
def naive():
    """The measures of one user's list, by their definitions."""

    def naive(ranked, relevant, n):
        hits = [item in relevant for item in ranked[:n]]
        ideal = min(len(relevant), n)
        return {
            "precision": sum(hits) / n,
            "recall": sum(hits) / len(relevant),
            "ndcg": sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit)
            / sum(1 / math.log2(place + 2) for place in range(ideal)),
            "map": sum(sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit) / ideal,
            "mrr": max((1 / (place + 1) for place, hit in enumerate(hits) if hit), default=0),
            "hit_rate": float(any(hits)),
        }

    return naive
