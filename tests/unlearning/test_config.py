"""Every field of every method's settings refuses what is not of its type, in one sentence that names it."""

import dataclasses
import json
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmu_lab import RmuLabError, UnlearnConfig
from rmu_lab.unlearning.baselines import NPO
from rmu_lab.unlearning.method_table import METHODS, config_from_dict

KINDS = list(dict.fromkeys(method.config for method in METHODS.values()))
FIELDS = [(kind, item.name) for kind in KINDS for item in dataclasses.fields(kind)]
WRONG = {
    bool: ["no", 1, None, 0.0],
    int: [2.5, "2", None, True, float("nan"), 2.0],
    float: ["5e-5", None, True, float("nan"), float("inf"), 1e39, [1.0]],
}


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=lambda part: getattr(part, "__name__", part))
def test_a_value_of_another_type_is_refused(kind, name):
    hint = get_type_hints(kind)[name]
    for value in WRONG.get(hint, [5, 2.5, "", [], ["x", 3]]):
        with pytest.raises(RmuLabError, match=rf"^{name} is "):
            kind(**{name: value})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_seeds_are_what_generators_take(kind):
    assert kind(seed=2**32 - 1).seed == 2**32 - 1
    for seed in (-1, 2**32, 10**20):
        with pytest.raises(RmuLabError, match=r"seed is .*; give a whole number from 0 to 4294967295"):
            kind(seed=seed)


@given(st.integers(1, 100), st.booleans())
def test_whole_numbers_are_the_same_setting_as_decimal_ones(number, npo):
    kind = NPO if npo else UnlearnConfig
    whole, decimal = kind(alpha=number), kind(alpha=float(number))
    assert whole == decimal and json.dumps(whole.to_dict()) == json.dumps(decimal.to_dict())
    assert config_from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
