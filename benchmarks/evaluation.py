"""Seconds of an evaluation: prompts run once with their options behind them, against every option as a text of its own.

    python -m benchmarks evaluation

The published pattern is that of the evaluation harnesses: each option's log-probability comes from a pass over prompt and
option together, so a question's prompt is run four times, and logits are made for every token. Both must answer alike.
The floor is the matrix work of every prompt once, of every option's tokens but the last, and of the logits that count.
"""

import time
from collections.abc import Mapping, Sequence

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.step import matmul_rate
from rmu_lab import accuracy, decoder_blocks, load_model, load_questions
from rmu_lab.evaluate import split_options
from rmu_lab.questions import cloze_prompt

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


def measure(n_questions: int = 50) -> dict:
    """Seconds for each pattern on the first bio test questions, and the floor."""
    model, tokenizer = load_model(device="cpu")
    rows = list(load_questions("bio", split="test").shuffle(seed=0).select(range(n_questions)))
    accuracy(model, tokenizer, rows[:8], progress=False)  # warm up
    start = time.perf_counter()
    ours = accuracy(model, tokenizer, rows, progress=False)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    theirs = published_predictions(model, tokenizer, rows)
    published = time.perf_counter() - start
    assert list(ours.predictions) == theirs
    floor = floor_flops(model, tokens_of(tokenizer, rows)) / matmul_rate()
    return {"questions": n_questions, "seconds": seconds, "published": published, "floor": floor}
