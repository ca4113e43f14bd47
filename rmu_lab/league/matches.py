"""A match: an entry's edits, scaled to each budget of divergence, under relearning attacks whose rate is searched."""

from __future__ import annotations

import dataclasses
import time
from contextlib import suppress
from typing import Any

from ..attacks.relearning_speed import relearning_curve, search_rate
from ..errors import RmuLabError
from ..evaluate import accuracy
from ..provenance import provenance
from ..unlearning.config import MethodConfig
from ..unlearning.method_table import check_method
from ..unlearning.result import UnlearnResult
from .disruption import ScaledEdit, scaled_to_divergence
from .entry_table import Entry, with_seed
from .material import Material
from .properties import edit_properties
from .settings import LeagueSettings
from .stores import Stores
from .tuning import chosen, config_in, edits_of, tune

BASE = "base"
"""The name of the model before unlearning in a league's rows."""


def play_base(material: Material, settings: LeagueSettings, stores: Stores) -> dict[str, Any]:
    """Score the base model on all that the entries are asked, once; returns its row."""

    def score() -> dict[str, Any]:
        start, how = time.perf_counter(), {"progress": False}
        model, tokenizer = material.model, material.tokenizer
        asked = {name: accuracy(model, tokenizer, one.questions, **how) for name, one in material.attacks.items()}  # type: ignore[arg-type]
        topic, general = (accuracy(model, tokenizer, rows, **how) for rows in (material.topic, material.general))  # type: ignore[arg-type]
        return {
            "topic": topic.to_dict(),
            "general": general.to_dict(),
            "attacks": {name: {"score": found.to_dict()} for name, found in asked.items()},
            "settings": settings.to_dict(),
            "seconds": time.perf_counter() - start,
            "provenance": provenance(),
        }

    return stores.matches.add(score, league=material.digest(settings), entry=BASE, budget=0.0, seed=settings.dev_seed)


def play_entry(
    entry: Entry,
    material: Material,
    settings: LeagueSettings | None = None,
    stores: Stores | None = None,
    *,
    edit: UnlearnResult | None = None,
) -> list[dict[str, Any]]:
    """Tune an entry, scale its edits to each budget, attack them, and return a row for each budget and seed.

    First all trials are tried on dev questions (`tune`), unless there is but one; then, on the choice's edit with the dev
    seed, the attacker's learning rate is searched for each budget and attack; then for each test seed an edit is trained,
    and at each budget scored, described and attacked at that rate. What the stores hold is not run again. The row of the
    base model is made first if it is missing.

    Parameters
    ----------
    stores
        where rows are kept; in memory only by default. A line with an ``error`` is kept like any other: to try again, take
        it out of its file.
    edit
        of an entry of one trial: what that setting gave with one of the seeds, to spare its training.

    Returns
    -------
    list of dict
        rows with ``entry``, ``budget`` and ``seed``; ``strength`` and ``divergence``; the scores ``topic`` and ``general``;
        ``properties``; and by attack its ``lr``, the step ``end`` at which it did best on dev, and its ``curve``. A row of
        an edit that failed has an ``error`` instead. There are no rows if no trial can be scaled to every budget.

    Raises
    ------
    RmuLabError
        if a setting does not fit the model, or a question or text does not, or `edit` is of other settings.
    """
    settings, stores = settings or LeagueSettings(), stores or Stores.in_folder()
    for config in entry.trials:
        check_method(material.model, config)
    play_base(material, settings, stores)
    starts = dict.fromkeys(settings.budgets, 1.0)
    if len(entry.trials) == 1:
        config = entry.trials[0]
    else:
        best = chosen(tune(entry, material, settings, stores.tuning))
        if best is None:
            return []
        config = config_in(best)
        starts |= {one["budget"]: one["strength"] for one in best["at"]}
    match = _Match(entry, config, material, settings, stores, starts)
    if edit is not None:
        match.give(edit)
    with suppress(RmuLabError):  # which the rows will tell
        for budget in settings.budgets:  # before the test seeds, so that the edit with the dev seed is trained once
            for attack in material.attacks:
                match.rate(budget, attack)
    rows = [match.row(budget, seed) for seed in settings.seeds for budget in settings.budgets]
    for row in rows if settings.controls else ():
        for attack, found in row.get("attacks", {}).items():
            match.control(attack, found["lr"])
    return rows


class _Match:
    """One entry's settings in the league, with the edit that was trained last."""

    def __init__(
        self,
        entry: Entry,
        config: MethodConfig,
        material: Material,
        settings: LeagueSettings,
        stores: Stores,
        starts: dict[float, float],
    ) -> None:
        self.entry, self.config, self.material, self.settings, self.stores = entry, config, material, settings, stores
        self.starts = starts
        self.key = {"league": material.digest(settings), "entry": entry.name}
        self.trained: tuple[int, UnlearnResult] | None = None

    def give(self, edit: UnlearnResult) -> None:
        """Take an edit that was trained before, as if it had been trained here."""
        seed = getattr(edit.config, "seed", self.settings.dev_seed)
        if edit.config != with_seed(self.config, seed):
            raise RmuLabError(f"The edit is of other settings than {self.entry.name}'s; give one of {self.config}.")
        self.trained = seed, edit

    def edit(self, seed: int) -> UnlearnResult:
        """Return the edit with a seed; that of one seed is kept, for those of all blocks are as large as the model."""
        if self.trained is None or self.trained[0] != seed:
            self.trained = None
            ((_, found, _),) = edits_of(self.material, [with_seed(self.config, seed)])
            if isinstance(found, str):
                raise RmuLabError(found)
            self.trained = seed, found
        return self.trained[1]

    def scaled(self, seed: int, budget: float) -> ScaledEdit:
        """Return the edit with a seed at a budget."""
        found = scaled_to_divergence(
            self.material.model,
            self.material.tokenizer,
            self.edit(seed),
            self.material.held_out,
            budget,
            base=self.material.base,
            start=self.starts[budget],
        )
        self.starts[budget] = found.strength
        return found

    def rate(self, budget: float, attack: str) -> dict[str, Any]:
        """Return the attacker's learning rate, and the step at which it did best."""

        def search() -> dict[str, Any]:
            start, material, settings = time.perf_counter(), self.material, self.settings
            edit, texts = self.scaled(settings.dev_seed, budget).result, material.attacks[attack]
            with edit.applied(material.model):
                best, tried = search_rate(
                    material.model,
                    material.tokenizer,
                    texts.texts,
                    texts.dev,
                    material.dev_general,
                    settings.relearning(settings.rates[0], settings.dev_seed),
                    rates=settings.rates,
                    bound=settings.bound,
                    halving=settings.halving,
                    progress=False,
                )
            facts = {"seconds": time.perf_counter() - start, "provenance": provenance(settings.dev_seed)}
            return {"lr": best.lr, "end": best.steps[-1], "tried": [dataclasses.asdict(one) for one in tried], **facts}

        return self.stores.rates.add(search, **self.key, budget=budget, attack=attack)

    def row(self, budget: float, seed: int) -> dict[str, Any]:
        """Return the row of a test seed at a budget."""

        def play() -> dict[str, Any]:
            start, known = time.perf_counter(), {"config": self.config.to_dict()}
            try:
                found = self.scored(budget, seed)
            except RmuLabError as error:  # such as a training that diverges with this seed
                found = {"error": str(error)}
            return known | found | {"seconds": time.perf_counter() - start, "provenance": provenance(seed)}

        return self.stores.matches.add(play, **self.key, budget=budget, seed=seed)

    def scored(self, budget: float, seed: int) -> dict[str, Any]:
        """Scale, score, describe and attack an edit."""
        model, tokenizer, material = self.material.model, self.material.tokenizer, self.material
        rates = {attack: self.rate(budget, attack) for attack in material.attacks}
        scaled = self.scaled(seed, budget)
        texts = material.forget[: self.settings.property_texts]
        described = edit_properties(model, tokenizer, scaled.result, texts)
        attacks: dict[str, Any] = {}
        with scaled.result.applied(model):
            topic, general = (
                accuracy(model, tokenizer, rows, progress=False) for rows in (material.topic, material.general)
            )
            for attack, given in material.attacks.items():
                config = self.settings.relearning(rates[attack]["lr"], seed)
                curve = relearning_curve(
                    model,
                    tokenizer,
                    given.texts,
                    given.questions,
                    config,
                    progress=False,
                )
                attacks[attack] = {"lr": config.lr, "end": rates[attack]["end"], "curve": curve.to_dict()}
        return {
            "strength": scaled.strength,
            "divergence": scaled.divergence,
            "topic": topic.to_dict(),
            "general": general.to_dict(),
            "properties": dataclasses.asdict(described),
            "attacks": attacks,
        }

    def control(self, attack: str, lr: float) -> dict[str, Any]:
        """Return the row of the base model under the same fine-tune, with the first test seed: made once for each rate."""

        def run() -> dict[str, Any]:
            start, given, seed = time.perf_counter(), self.material.attacks[attack], self.settings.seeds[0]
            curve = relearning_curve(
                self.material.model,
                self.material.tokenizer,
                given.texts,
                given.questions,
                self.settings.relearning(lr, seed),
                progress=False,
            )
            return {"curve": curve.to_dict(), "seconds": time.perf_counter() - start, "provenance": provenance(seed)}

        return self.stores.controls.add(run, league=self.key["league"], attack=attack, lr=lr)
