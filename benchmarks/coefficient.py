"""What RMU's coefficient c does: forgetting, retention, alignment and confidence over c, seeds and steps.

    python -m benchmarks.coefficient --json data/results/coefficient.json

Notebook 03 reads the stored numbers (Figures 2 and 3 of Dang et al. 2024, on SmolLM2). Only `test`
questions are asked: nothing is chosen by these numbers.
"""

import argparse

import torch
from rich.progress import track

from benchmarks.arguments import result_file
from rmu_lab import UnlearnConfig, accuracy, alignment, load_corpus, load_model, load_questions, max_logits, unlearn
from rmu_lab.evaluate import Accuracy
from rmu_lab.files import write_json
from rmu_lab.provenance import provenance
from rmu_lab.questions import cloze_prompt

COEFFICIENTS = (28.5, 57.0, 114.0, 228.0, 570.0, 1140.0)  # 0.25 to 10 times the median ||h|| after block 7
SEEDS = (0, 1, 2)  # of the direction u
STEPS = (20, 40)
TEXTS, PROMPTS, QUESTIONS = 40, 32, 100
QUANTILES = [round(0.05 * index, 2) for index in range(21)]


def quantiles(values: torch.Tensor) -> list[float]:
    """The 0%, 5%, ... 100% quantiles of what is not NaN."""
    values = values[~values.isnan()]
    return [round(value, 4) for value in values.quantile(torch.tensor(QUANTILES)).tolist()]


def score(result: Accuracy) -> dict:
    """An accuracy as plain numbers."""
    return {"accuracy": result.accuracy, "interval": result.interval, "questions": len(result.correct)}


def main() -> None:
    """Train and score every coefficient, seed and number of steps; the file is written anew after each training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=result_file, required=True, help="where the numbers go")
    arguments = parser.parse_args()
    model, tokenizer = load_model("smollm2-135m", device="cpu")
    forget, retain = load_corpus("forget_bio")["text"], load_corpus("retain_general")["text"]
    questions = {
        name: list(load_questions(name, split="test").shuffle(seed=0).select(range(QUESTIONS)))
        for name in ("bio", "general")
    }
    prompts = {name: [cloze_prompt(row["question"]) for row in rows[:PROMPTS]] for name, rows in questions.items()}

    def measure(confidence: bool) -> dict:
        row = {name: score(accuracy(model, tokenizer, rows, progress=False)) for name, rows in questions.items()}
        if confidence:
            for name, texts in prompts.items():
                found = max_logits(model, tokenizer, texts)
                row[f"{name} max logit"] = quantiles(found.logit)
                row[f"{name} max probability"] = quantiles(found.probability)
        return row

    def cosines(direction: torch.Tensor) -> dict:
        texts = {"forget cosine": forget[:TEXTS], "retain cosine": retain[:TEXTS]}
        return {name: quantiles(alignment(model, tokenizer, part, direction, layer=7)) for name, part in texts.items()}

    base, rows = measure(confidence=True), []
    grid = [(c, seed, steps) for c in COEFFICIENTS for seed in SEEDS for steps in STEPS]
    for c, seed, steps in track(grid):
        config = UnlearnConfig(method="rmu", coefficient=c, seed=seed, steps=steps)
        result = unlearn(model, tokenizer, forget, retain, config, progress=False)
        with result.applied(model):
            measured = measure(confidence=steps == max(STEPS)) | cosines(result.directions["forget"])
        norm = result.history[-1]["forget_norm"]
        rows.append({"coefficient": c, "seed": seed, "steps": steps, "forget norm": norm, **measured})
        record = {"config": config.to_dict(), "quantiles": QUANTILES, "base": base, "rows": rows}
        write_json(arguments.json, {"benchmark": "coefficient", **record, "provenance": provenance()})


if __name__ == "__main__":
    main()
