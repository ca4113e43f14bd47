"""A league for a lesson: three methods in a few minutes, without tuning, with one direction and few questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import RmuLabError
from ..unlearning.config import MethodConfig
from ..unlearning.result import UnlearnResult
from .entry_table import Entry, entry_of
from .matches import play_base, play_entry
from .material import Material, league_material
from .settings import LeagueSettings
from .stores import Stores

MINI = LeagueSettings(
    budgets=(0.1,),
    seeds=(350,),
    steps=(1, 2, 4, 8),
    halving=(4,),
    rates=(2e-4, 8e-4),
    property_texts=8,
    controls=False,
)
"""One budget, one direction, on which the attacker's rate is searched too, and eight steps."""


def mini_material(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Material:
    """Return the course's material with few questions and texts, and one attack."""
    return league_material(model, tokenizer, dev=24, test=40, held_out=16, attacks=("unrelated",))


def mini_league(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    methods: Sequence[str | MethodConfig | type[MethodConfig]],
    *,
    material: Material | None = None,
    settings: LeagueSettings = MINI,
    stores: Stores | None = None,
    edits: Mapping[str, UnlearnResult] | None = None,
) -> list[dict[str, Any]]:
    """Play a few methods at their defaults: three in some three minutes on two cores with SmolLM2.

    No settings are tuned, so that it shows how a league goes and not who wins it. With one direction and few questions
    most intervals are wide. Taught in notebook 12.

    Parameters
    ----------
    methods
        names of methods, classes of settings, or settings, of which each is played as it is.
    material
        by default the course's, with 40 test questions of each kind and one attack.
    settings
        by default one budget, one direction and eight steps of relearning.
    stores
        where rows are kept; in memory only by default.
    edits
        by an entry's name an edit that its settings gave with the seed of `settings`, to spare its training.

    Returns
    -------
    list of dict
        the rows of `play_entry`, the base model's first: what `league_table` takes.

    Raises
    ------
    RmuLabError
        if there are no methods, one is given twice, there is no such method, or it does not fit the model.
    """
    found = [entry_of(method) for method in methods]
    names = [entry.name for entry in found]
    if not found or len(set(names)) < len(names):
        raise RmuLabError(f"The methods are {names}; give one at least, and each once.")
    material, stores = material or mini_material(model, tokenizer), stores or Stores.in_folder()
    rows = [play_base(material, settings, stores)]
    for entry in found:
        edit = (edits or {}).get(entry.name)
        rows += play_entry(Entry(entry.name, entry.config), material, settings, stores, edit=edit)
    return rows
