"""Muon: what it does to a momentum, checked against singular values, and that it learns."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from training.muon import Muon, orthogonalise


@settings(deadline=None)
@given(rows=st.integers(2, 24), columns=st.integers(2, 24), seed=st.integers(0, 99))
def test_singular_values_come_close_to_one_and_their_vectors_stay(rows, columns, seed):
    draw = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(rows, rows, generator=draw))[0]
    right = torch.linalg.qr(torch.randn(columns, columns, generator=draw))[0]
    rank = min(rows, columns)
    values = torch.linspace(0.2, 1, rank)
    matrix = left[:, :rank] * values @ right[:, :rank].T
    changed = orthogonalise(matrix[None])[0]
    inner = left[:, :rank].T @ changed @ right[:, :rank]
    assert torch.allclose(inner, torch.diag(inner.diagonal()), atol=1e-3)
    assert inner.diagonal().min() > 0.6
    assert inner.diagonal().max() < 1.3


def test_a_zero_momentum_moves_nothing():
    weight = nn.Parameter(torch.ones(3, 2, 3, 3))
    weight.grad = torch.zeros_like(weight)
    Muon([weight], lr=0.1).step()
    assert torch.equal(weight, torch.ones_like(weight))


@pytest.mark.parametrize("shapes", [[(8, 8)], [(8, 8), (8, 8), (4, 6)]])
def test_shapes_in_common_are_updated_as_each_alone(shapes):
    def run(select):
        torch.manual_seed(0)
        weights = [nn.Parameter(torch.randn(o, i, 3, 3)) for o, i in shapes]
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        Muon([weights[i] for i in select], lr=0.1, weight_decay=0.1).step()
        return weights

    together = run(range(len(shapes)))
    for index in range(len(shapes)):
        assert torch.allclose(run([index])[index], together[index], atol=1e-3)


def test_it_reaches_a_known_solution():
    torch.manual_seed(0)
    target = torch.randn(6, 5)
    weight = nn.Parameter(torch.zeros(6, 5))
    inputs = torch.randn(64, 5)
    optimizer = Muon([weight], lr=0.5)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.5 * (1 - step / 200)
        loss = (inputs @ (weight - target).T).square().mean()
        weight.grad = None
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01
