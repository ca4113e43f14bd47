"""How near the advisor comes to a search on three models; its layer rule tuned on two of them and tested on the third.

    python -m benchmarks.study --model NAME --part settings --part advised
    python -m benchmarks.advisor --json data/results/advisor.json

The search is what `benchmarks.study` stored of each model: the advisor's own numbers at nine layers, at one, three and
ten times its learning rate, on `dev` questions. *Regret* is what the proposal forgets less, in points, than the best of
these settings that costs at most five points of general accuracy; a proposal that costs more has all that the best one
forgets as regret. The layer rule has one number, `SHARE`; each model in turn is left out, and the number that has the
least mean regret on the other two is tried on it. The last two columns are what exactly the proposal loses on `test`,
with three directions.
"""

import argparse
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.arguments import result_file
from rmu_lab import Advice, advise, load_corpus, load_model
from rmu_lab.files import write_json
from rmu_lab.provenance import provenance
from rmu_lab.study.model_study import BOUND, Study
from rmu_lab.study.readings import read_advised
from rmu_lab.study.studied_models import STUDIED
from rmu_lab.unlearning.advisor import SHARE, proposed_layer

SHARES = [round(0.05 * step, 2) for step in range(20)]


def advice(model_name: str) -> Advice:
    """What the advisor measures of a model, and proposes for it."""
    model, tokenizer = load_model(model_name, device="cpu", dtype=STUDIED[model_name].dtype)
    return advise(model, tokenizer, load_corpus("forget_bio"), load_corpus("retain_general"))


def layer_of(one: dict[str, Any], share: float = SHARE) -> int:
    """The layer that the rule proposes for a model."""
    return proposed_layer([row["separability"] for row in one["advice"]["profile"]], share)


def outcomes(study: Study) -> dict[int, list[tuple[float, float]]]:
    """By layer, the points of bio and of general accuracy that its settings lose on dev, the advised learning rate first."""
    base, *rows = study.rows("settings")
    found: dict[int, list[tuple[float, float]]] = {}
    for row in sorted((row for row in rows if not row.error), key=lambda row: row.config.lr):
        lost = [100 * (base.scores[name].accuracy - row.scores[name].accuracy) for name in ("bio", study.model.general)]
        found.setdefault(row.config.layer, []).append((round(lost[0], 6), round(lost[1], 6)))
    return found


def regret(by_layer: dict[int, list[tuple[float, float]]], layer: int) -> float:
    """What the proposal at the studied layer next to this one forgets less than the best cheap setting, in points."""
    best = max(bio for settings in by_layer.values() for bio, general in settings if general <= 100 * BOUND)
    bio, general = by_layer[min(by_layer, key=lambda at: (abs(at - layer), at))][0]
    return best - bio if general <= 100 * BOUND else best


def tuned(studied: dict[str, Any], names: list[str]) -> float:
    """The share with the least mean regret on these models; of equal ones the middle."""
    total = {
        share: sum(regret(studied[name]["outcomes"], layer_of(studied[name], share)) for name in names) for share in SHARES
    }
    best = [share for share in SHARES if total[share] <= min(total.values()) + 1e-9]
    return best[len(best) // 2]


def main() -> None:
    """Ask the advisor on each model, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=result_file, help="also write the numbers to this file")
    arguments = parser.parse_args()
    stored = {name: (outcomes(Study(name)), read_advised(Study(name))) for name in STUDIED}  # before models are loaded
    found = {
        name: {"outcomes": tried, "advised": {what: asdict(number) for what, number in advised.items()}}
        | {"advice": asdict(advice(name))}
        for name, (tried, advised) in stored.items()
    }
    table = Table(
        "model", "layer", f"regret, share {SHARE}", "share tuned on the others", "layer", "regret", "bio", "general"
    )
    rows = []
    for name, one in found.items():
        layer = layer_of(one)
        share = tuned(found, [other for other in found if other != name])
        there = layer_of(one, share)
        row = {"model": name, "layer": layer, "regret": regret(one["outcomes"], layer), "share left out": share}
        rows.append(row | {"layer left out": there, "regret left out": regret(one["outcomes"], there)})
        cells = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in rows[-1].values()]
        table.add_row(*cells, *map(str, stored[name][1].values()))
    Console().print(table)
    if arguments.json:
        write_json(
            arguments.json,
            {"benchmark": "advisor", "share": SHARE, "rows": rows, "models": found, "provenance": provenance()},
        )


if __name__ == "__main__":
    main()
