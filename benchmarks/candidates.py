"""Seconds of one GCG candidate: from the cache of what stands before the suffix, against a pass over the whole prompt.

    python -m benchmarks gcg

The published pattern runs the whole prompt with every candidate and makes logits for every token. Both must find the same
losses. The floor is the matrix work of suffix, what stands behind it and target, and of the target's logits.
`python -m benchmarks.gcg` compares whole attacks with nanoGCG.
"""

import time

import torch

from benchmarks.step import matmul_rate
from rmu_lab import decoder_blocks, load_model
from rmu_lab.attacks.greedy_coordinate import GCGConfig
from rmu_lab.attacks.suffixes import Layout, SuffixLoss, allowed_tokens

PROMPT = "What kind of organism causes malaria, and how does it get from one person to another?"
TARGET = "Malaria is caused by a parasite that mosquitoes carry."


def measure(n_candidates: int = 64) -> dict:
    """Seconds a candidate for each pattern, and the floor."""
    model, tokenizer = load_model(device="cpu")
    config = GCGConfig()
    layout = Layout.of(tokenizer, PROMPT, config.suffix, TARGET, chat_template=True)
    allowed = allowed_tokens(model, tokenizer)
    picked = torch.randint(len(allowed), (n_candidates, len(layout.suffix)), generator=torch.Generator().manual_seed(0))
    candidates = allowed[picked]

    scorer = SuffixLoss(model, layout, prefix_cache=True, batch_size=config.batch_size)
    scorer(candidates[:4])  # warm up
    start = time.perf_counter()
    ours, _ = scorer(candidates)
    seconds = time.perf_counter() - start

    around = [torch.tensor(ids).expand(n_candidates, -1) for ids in (layout.before, layout.after + layout.target)]
    wholes = torch.cat([around[0], candidates, around[1]], dim=1)
    n = len(layout.target)
    found = []
    start = time.perf_counter()
    with torch.inference_mode():
        for chunk in wholes.split(config.batch_size):
            logits = model(input_ids=chunk).logits[:, -n - 1 : -1].float()
            found.append(torch.nn.functional.cross_entropy(logits.mT, chunk[:, -n:], reduction="none").mean(dim=1))
    published = time.perf_counter() - start
    torch.testing.assert_close(ours, torch.cat(found), rtol=1e-3, atol=1e-3)

    blocks = decoder_blocks(model)
    block = sum(parameter.numel() for parameter in blocks[0].parameters() if parameter.ndim == 2)
    run = len(layout.suffix) + len(layout.after) + n - 1
    floor = 2 * (run * block * len(blocks) + n * model.get_output_embeddings().weight.numel()) / matmul_rate()
    each = {"seconds": seconds / n_candidates, "published": published / n_candidates, "floor": floor}
    return {"candidates": n_candidates, "tokens": wholes.shape[1], **each}
