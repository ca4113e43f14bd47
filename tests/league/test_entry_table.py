"""Every method plays, with as many trials as any other."""

import dataclasses
from importlib.util import find_spec
from typing import ClassVar

import pytest

import rmu_lab.league
from rmu_lab import RmuLabError, UnlearnConfig
from rmu_lab.league import TRIALS, Entry, entries, entry_of
from rmu_lab.league.entry_table import with_seed
from rmu_lab.unlearning.baselines import NPO
from rmu_lab.unlearning.config import MethodConfig
from rmu_lab.unlearning.method_table import METHODS
from rmu_lab.unlearning.successors import MCURMU
from rmu_lab.unlearning.teach_method import Teach


def test_every_method_that_forgets_plays_and_rmu_first():
    names = [entry.name for entry in entries()]
    assert names[0] == "rmu" and sorted(names) == sorted(set(METHODS) - {"teach"})
    assert all(entry.config.method == entry.name for entry in entries())


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_all_have_as_many_trials_that_differ_in_what_they_use(entry):
    trials = entry.trials
    assert len(trials) == TRIALS and len(set(trials)) == TRIALS
    used = {(config.work_key(), getattr(config, "steps", 0)) for config in trials}
    if entry.name not in ("ssd", "rank_one_rmu"):  # which share their work in settings that act after it
        assert len(used) == TRIALS


def test_more_trials_than_others_have_are_refused():
    with pytest.raises(RmuLabError, match="has 7 trials, but each has at most 6"):
        Entry("mine", NPO(), {"lr": [1e-5 * n for n in range(1, 8)]})


def test_an_entry_is_found_by_its_name_its_class_or_its_settings():
    by_name = entry_of("mcu_rmu")
    assert by_name.trials == entry_of(MCURMU).trials == entry_of(MCURMU()).trials
    assert entry_of(by_name) is by_name
    other = entry_of(UnlearnConfig(beta=3.0))
    assert other.name == "adaptive_rmu" and {config.beta for config in other.trials} == {3.0}
    assert len(other.trials) == 1


@pytest.mark.parametrize(("method", "said"), [("magic", "There is no method 'magic'"), (Teach, "teach makes a model know")])
def test_what_cannot_play_is_refused(method, said):
    with pytest.raises(RmuLabError, match=said):
        entry_of(method)


def test_methods_of_ones_own_have_as_many_trials(own_method, plugins_undone):
    assert len(entry_of("bounded_ascent").trials) == len(entry_of(own_method).trials) == TRIALS
    window = entry_of(_own_window())
    assert window.name == "own_window" and len(window.trials) == TRIALS


def _own_window():
    @dataclasses.dataclass(frozen=True)
    class OwnWindow(MCURMU):
        method: ClassVar[str] = "own_window"

    return OwnWindow


def test_a_method_without_a_seed_keeps_its_settings():
    @dataclasses.dataclass(frozen=True)
    class Plain(MethodConfig):
        method: ClassVar[str] = "plain"

    assert with_seed(Plain(), 3) == Plain() and with_seed(NPO(), 3).seed == 3


@pytest.mark.parametrize("name", rmu_lab.league.__all__)
def test_public_names_exist_are_documented_and_no_module_has_the_same(name):
    value = getattr(rmu_lab.league, name)
    assert getattr(value, "__doc__", None) or isinstance(value, int | tuple | dict)
    assert find_spec(f"rmu_lab.league.{name}") is None
