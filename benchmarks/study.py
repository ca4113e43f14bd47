"""The study of the claims: the same runs on three models, stored part by part.

    python -m benchmarks.study --model smollm2-135m
    python -m benchmarks.study --model qwen2.5-coder-1.5b --part layers

Each part goes on where it was stopped; one that is stored at today's settings is left as it is. On two cores SmolLM2 and
Gemma take about an hour each and the 1.5B model about four; every row and every measurement says its command and seconds.
"""

import argparse
from pathlib import Path

from rich.console import Console

from rmu_lab.study.model_study import Study
from rmu_lab.study.parts import ADVISED, BY_ADVICE, PARTS, SETTINGS
from rmu_lab.study.running import run_parts
from rmu_lab.study.studied_models import MAIN, STUDIED


def main(given: list[str] | None = None) -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=MAIN, choices=list(STUDIED))
    parser.add_argument("--part", action="append", choices=[*BY_ADVICE, *PARTS], help="by default all, in their order")
    parser.add_argument("--out", type=Path, help="folder; by default data/results/study/MODEL")
    arguments = parser.parse_args(given)
    study, console = Study(arguments.model, arguments.out), Console()
    for name, seconds in run_parts(study, arguments.part or [SETTINGS, *PARTS, ADVISED]):
        console.print(f"{study.model.title}, {name}: {seconds / 60:.1f} minutes")
        if name == SETTINGS:
            chosen = study.chosen
            console.print(
                f"chosen: layer {chosen.layer}, lr {chosen.lr:g}, alpha {chosen.alpha:g}, c {chosen.coefficient:g}"
            )


if __name__ == "__main__":
    main()
