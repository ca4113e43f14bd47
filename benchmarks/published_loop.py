"""The loop of the published code of RMU and Adaptive RMU, as a plain reference (see also `benchmarks/step.py`).

Two whole models, forward hooks, full forward passes, gradients for every parameter, padding on the
left and counted in both losses, `mse_loss`, one adaptive coefficient per topic taken from its first
batch in the model being trained. Matrices are chosen by name instead of by index.
"""

import copy

import torch
from torch.nn.functional import mse_loss


def hooked_output(model, block, inputs):
    """What a block puts out when the whole model runs."""
    kept = []
    hook = block.register_forward_hook(lambda _block, _args, output: kept.append(output))
    model(**inputs)
    hook.remove()
    return kept[0][0] if isinstance(kept[0], tuple) else kept[0]


def published_loop(model, tokenizer, blocks_of, forget, retain, directions, config, matrix, on_step=lambda: None):
    """Train a copy of `model`; return the trained matrices in the order of the blocks.

    `forget` and `retain` map topics to texts, `blocks_of` gives a model's blocks, `matrix` names the
    trained parameter inside a block. `on_step` is called after every step.
    """
    frozen = model
    updated = copy.deepcopy(model).train()
    for parameter in updated.parameters():
        parameter.requires_grad_(True)
    matrices = [blocks_of(updated)[index].get_parameter(matrix) for index in config.window]
    optimizer = torch.optim.AdamW(matrices, lr=config.lr, eps=config.adam_epsilon, weight_decay=0.0)
    topics = list(forget)
    scale = dict.fromkeys(topics, config.coefficient)

    def encode(texts, index):
        batch = texts[index * config.batch_size : (index + 1) * config.batch_size]
        encoded = tokenizer(
            batch, padding=True, padding_side="left", truncation=True, max_length=config.max_length, return_tensors="pt"
        )
        return {name: encoded[name].to(model.device) for name in ("input_ids", "attention_mask")}

    for step in range(config.steps):
        topic, index = topics[step % len(topics)], step // len(topics)
        forget_output = hooked_output(updated, blocks_of(updated)[config.layer], encode(forget[topic], index))
        if config.method == "adaptive_rmu" and index == 0:
            scale[topic] = config.beta * forget_output.norm(dim=-1).mean(dim=1).mean().item()
        forget_loss = mse_loss(forget_output, (directions[topic] * scale[topic]).expand_as(forget_output))

        retain_inputs = encode(retain[topic], index)
        retain_output = hooked_output(updated, blocks_of(updated)[config.layer], retain_inputs)
        with torch.no_grad():
            frozen_output = hooked_output(frozen, blocks_of(frozen)[config.layer], retain_inputs)
        loss = forget_loss + config.alpha * mse_loss(retain_output, frozen_output)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        on_step()
    return [matrix.detach() for matrix in matrices]
