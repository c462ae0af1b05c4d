from statistics import NormalDist

import numpy as np
import pytest

from fastmf.kernels import random


def test_bits_are_those_of_splitmix64():
    # the first numbers of the generator's published C code (Vigna, splitmix64.c) from state 1234567
    state = np.uint64(1234567) + random.GOLDEN * np.arange(1, 4, dtype=np.uint64)
    assert random.mix_numpy(state).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_compiled_bits_are_those_of_numpy():
    seed, stream, row = (np.uint64(n) for n in (2**64 - 1, 3, 2**40))
    key = np.uint64(random.key_of(seed, stream, row))
    counters = np.array([0, 1, 2**63], np.uint64)
    found = [int(random.bits_of(key, counter)) for counter in counters]
    assert found == random.bits_numpy(seed, stream, row, counters).tolist()
    assert all(0 < random.unit_of(np.uint64(bits)) <= 1 for bits in (0, 2**64 - 1, *found))


def test_the_ziggurat_has_layers_of_one_area():
    edges, height = random.EDGES, np.exp(-0.5 * random.EDGES**2)
    np.testing.assert_allclose(edges[1:-1] * np.diff(height[1:]), random.AREA, rtol=1e-9)
    tail = np.sqrt(2 * np.pi) * NormalDist().cdf(-random.LAST_EDGE)
    assert random.LAST_EDGE * height[1] + tail == pytest.approx(random.AREA, rel=1e-9)


@pytest.mark.big
def test_normal_draws_reach_every_level_as_often_as_they_must():
    n, levels = 400_000, [*np.linspace(-3, 3, 25), -random.LAST_EDGE, random.LAST_EDGE, -4.2, 4.2]
    key = np.uint64(random.key_of(np.uint64(3), np.uint64(1), np.uint64(4)))
    found = np.sort([random.normal(key, np.uint64(number)) for number in range(n)])
    below = np.searchsorted(found, levels)
    share = np.array([NormalDist().cdf(level) for level in levels])
    np.testing.assert_array_less(np.abs(below - n * share), 4.5 * np.sqrt(n * share * (1 - share)))


@pytest.mark.parametrize("n", [500, pytest.param(20_000, marks=pytest.mark.big)])
@pytest.mark.parametrize("shape", [1.0, 5.5, 80.0])
def test_gamma_and_normal_draws_have_their_moments(shape, n):
    keys = [np.uint64(random.key_of(np.uint64(3), np.uint64(1), np.uint64(row))) for row in range(n)]
    found = np.array([random.gamma(key, np.uint64(0), shape) for key in keys])
    assert found.mean() == pytest.approx(shape, rel=5 / np.sqrt(n * shape))
    assert found.var() == pytest.approx(shape, rel=5 * np.sqrt((2 + 6 / shape) / n))
    normal = np.array([random.normal(key, np.uint64(9)) for key in keys])
    assert normal.mean() == pytest.approx(0, abs=4.2 / np.sqrt(n))
    assert np.mean(normal**4) == pytest.approx(3, rel=14 / np.sqrt(n))


def test_draws_beyond_the_last_edge_have_the_mean_of_the_tail():
    n, edge = 500, random.LAST_EDGE
    found = [random._beyond(np.uint64(key), np.uint64(0)) for key in range(n)]
    assert min(found) > edge
    mean = NormalDist().pdf(edge) / NormalDist().cdf(-edge)
    assert np.mean(found) == pytest.approx(mean, abs=5 * 0.26 / np.sqrt(n))
