"""Principal components and their removal, against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rmu_lab.unlearning.successors.components import Moments, without


def vectors_of(seed, count=40, size=7):
    generator = torch.Generator().manual_seed(seed)
    scales = torch.tensor([9.0, 5.0, 3.0, 1.0, 0.5, 0.2, 0.1])[:size]
    return torch.randn(count, size, generator=generator) * scales + torch.randn(size, generator=generator)


def moments_of(*parts):
    moments = Moments()
    for part in parts:
        moments.add(part)
    return moments


@given(seed=st.integers(0, 2**31), components=st.integers(0, 9), cut=st.integers(1, 39))
def test_the_basis_spans_the_mean_and_the_first_components(seed, components, cut):
    vectors = vectors_of(seed)
    basis = moments_of(vectors[:cut], vectors[cut:]).basis(components)  # it does not matter how they come
    assert basis.shape[1] == min(components + 1, 7)
    torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]), atol=1e-5, rtol=0)
    mean = vectors.double().mean(dim=0)
    _, _, right = np.linalg.svd((vectors.double() - mean).numpy())
    removed = torch.cat([mean[None], torch.from_numpy(right[:components])]).float()
    assert without(removed, basis).norm(dim=-1).max() < 1e-4 * removed.norm(dim=-1).max()


@given(seed=st.integers(0, 2**31))
def test_what_is_left_is_orthogonal_and_projecting_twice_is_projecting_once(seed):
    vectors = vectors_of(seed)
    basis = moments_of(vectors).basis(2)
    left = without(vectors, basis)
    assert (left @ basis).abs().max() < 1e-4
    torch.testing.assert_close(without(left, basis), left, atol=1e-5, rtol=1e-4)


def test_equal_vectors_have_no_components_but_their_mean():
    basis = moments_of(torch.tensor([3.0, 4.0]).repeat(5, 1)).basis(2)
    torch.testing.assert_close(basis.abs(), torch.tensor([[0.6], [0.8]]))
    assert moments_of(torch.zeros(3, 2)).basis(2).shape == (2, 0)


def test_by_hand():
    """Mean (0, 0, 2), variance along the first axis only."""
    basis = moments_of(torch.tensor([[1.0, 0, 2], [-1.0, 0, 2]])).basis(1)
    assert without(torch.tensor([5.0, 6.0, 7.0]), basis).tolist() == pytest.approx([0, 6, 0], abs=1e-6)
