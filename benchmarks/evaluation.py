"""Seconds of an evaluation: each question one row of prompt and options, against every option as a text of its own.

    python -m benchmarks evaluation

The published pattern is that of the evaluation harnesses: each option's log-probability comes from a pass over prompt and
option together, so a question's prompt is run four times, and logits are made for every token. The first edition of this
package ran each prompt once and let the options go on from its cache. Both run with torch's default product, as they did,
and all must answer alike, in bfloat16 to all but a few questions.
The floor is the matrix work of every prompt once, of every option's tokens but the last, and of the logits that count.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.step import fastest_rates
from rmu_lab import accuracy, decoder_blocks, load_model, load_questions
from rmu_lab.evaluate import split_options
from rmu_lab.matmul import in_chosen_matmul
from rmu_lab.questions import cloze_prompt
from rmu_lab.scoring import score_from_caches

BATCH = 16


def tokens_of(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping]) -> list[tuple[list[int], list[list[int]]]]:
    """Tokens of each question's prompt, and of its options behind it."""
    return [split_options(tokenizer, cloze_prompt(row["question"]), [f" {text}" for text in row["choices"]]) for row in rows]


def floor_flops(model: PreTrainedModel, tokens: list[tuple[list[int], list[list[int]]]], blocks: int | None = None) -> float:
    """Matrix work that no evaluation by these options can avoid, in the upper `blocks` of the model (all of them)."""
    block = sum(parameter.numel() for parameter in decoder_blocks(model)[0].parameters() if parameter.ndim == 2)
    head = model.get_output_embeddings().weight.numel()
    behind = sum(len(option) - 1 for _, options in tokens for option in options)
    run = sum(len(prompt) for prompt, _ in tokens) + behind
    return 2 * (run * block * (blocks or len(decoder_blocks(model))) + (len(tokens) + behind) * head)


@torch.inference_mode()
def published_predictions(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping]) -> list[int]:
    """The chosen options, every option scored in a pass over prompt and option."""
    wholes = [
        (question, choice, prompt + option, len(option))
        for question, (prompt, options) in enumerate(tokens_of(tokenizer, rows))
        for choice, option in enumerate(options)
    ]
    wholes.sort(key=lambda whole: len(whole[2]))
    scores = [[0.0] * len(row["choices"]) for row in rows]
    for start in range(0, len(wholes), BATCH):
        chosen = wholes[start : start + BATCH]
        longest = max(len(ids) for *_, ids, _ in chosen)
        ids = torch.stack([pad(torch.tensor(ids), (0, longest - len(ids))) for *_, ids, _ in chosen])
        mask = torch.stack([(torch.arange(longest) < len(ids)).long() for *_, ids, _ in chosen])
        logs = model(input_ids=ids, attention_mask=mask).logits.float().log_softmax(dim=-1)
        for row, (question, choice, whole, n) in enumerate(chosen):
            places = torch.arange(len(whole) - n, len(whole))
            score = logs[row, places - 1, ids[row, places]].sum().item()
            scores[question][choice] = score / len(rows[question]["choices"][choice])
    return [max(range(len(options)), key=options.__getitem__) for options in scores]


@torch.inference_mode()
def first_edition_predictions(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping]
) -> list[int]:
    """The chosen options as the first edition found them: going on from their prompt's cache, 16 questions at once."""
    tokens = sorted(enumerate(tokens_of(tokenizer, rows)), key=lambda numbered: len(numbered[1][0]))
    chosen = [0] * len(rows)
    for start in range(0, len(tokens), BATCH):
        batch = tokens[start : start + BATCH]
        scores = score_from_caches(model, [prompt for _, (prompt, _) in batch], [options for _, (_, options) in batch])
        for (question, _), of_options in zip(batch, scores, strict=True):
            lengths = [len(choice) for choice in rows[question]["choices"]]
            chosen[question] = max(range(len(lengths)), key=lambda option, s=of_options, n=lengths: s[option] / n[option])
    return chosen


def measure(dtype: str = "float32", n_questions: int = 64) -> dict:
    """Seconds for each pattern on bio test questions, and the floor."""
    model, tokenizer = load_model(device="cpu", dtype=dtype)
    plain, _ = load_model(device="cpu") if dtype != "float32" else (model, tokenizer)
    rows = list(load_questions("bio", split="test").shuffle(seed=0).select(range(n_questions)))
    accuracy(model, tokenizer, rows[:8], progress=False)  # warm up
    ours, seconds = timed(accuracy, model, tokenizer, rows, progress=False)
    with in_chosen_matmul():
        theirs, published = timed(published_predictions, model, tokenizer, rows)
    theirs_as_user, as_user = timed(published_predictions, plain, tokenizer, rows)
    former, first_edition = timed(first_edition_predictions, plain, tokenizer, rows)
    agreeing = min(sum(map(int.__eq__, ours.predictions, others)) for others in (theirs, theirs_as_user, former))
    assert agreeing == n_questions if dtype == "float32" else agreeing >= 0.95 * n_questions
    floor = floor_flops(model, tokens_of(tokenizer, rows)) / fastest_rates()[dtype]
    return {
        "dtype": dtype,
        "questions": n_questions,
        "same answers": agreeing,
        "seconds": seconds,
        "published": published,
        "published as a user would run it": as_user,
        "first edition": first_edition,
        "floor": floor,
    }


def timed(function: Callable, *arguments, **named) -> tuple[Any, float]:
    """A function's result, and its seconds."""
    start = time.perf_counter()
    result = function(*arguments, **named)
    return result, time.perf_counter() - start
