import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rmu_lab import RmuLabError
from rmu_lab.sweeps.activation_store import ActivationStore


@settings(deadline=None)  # the disk may be slow
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    budget=st.integers(0, 2000),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_store_gives_back_what_it_took_within_its_budget(sizes, budget, dtype, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("scratch")
    store = ActivationStore(budget, scratch, "rmu-lab-")
    groups = [{depth: torch.randn(size, 2, depth + 1).to(dtype) for depth in (0, 3)} for size in sizes]
    try:
        for number, group in enumerate(groups):
            store.put(("group", number), group)
        store.discard(("group", 0))
        assert store.bytes_in_memory <= budget
        assert store.bytes_on_disk == sum(file.stat().st_size for file in scratch.rglob("*.safetensors"))
        for number, group in enumerate(groups[1:], 1):
            assert all(store.get(("group", number), depth).equal(tensor) for depth, tensor in group.items())
    finally:
        store.clear()
    assert not list(scratch.iterdir())


def test_store_that_cannot_write(tmp_path):
    store = ActivationStore(0, tmp_path / "missing", "rmu-lab-")
    with pytest.raises(RmuLabError, match=r"Activations cannot be stored in .*missing.*memory_bytes"):
        store.put("a", {0: torch.zeros(3)})
