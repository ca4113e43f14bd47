"""Edits of the MLP's output matrix as ridge regressions: no steps, no learning rate. Closed-form RMU and LUNAR are such.

The matrix W of block l adds W x to the residual stream, so a change D of W changes h^(l) by D x, exactly, where no norm
follows the matrix inside the block (as one does in Gemma: the history shows what became of it). With t the change that is
wanted of h^(l) at each forget token, and x_F, x_R the matrix's inputs at forget and retain tokens, the edit minimises::

    E ||D x_F - t||^2  +  alpha * E ||D x_R||^2  +  mu * ||D||^2

Its gradient, ``2 E (D x_F - t) x_F^T + 2 alpha E D x_R x_R^T + 2 mu D``, is zero for::

    D = E[t x_F^T] (E[x_F x_F^T] + alpha * E[x_R x_R^T] + mu I)^-1

and the objective is strictly convex for mu > 0, so this is its only minimum. In the notation of matrices whose columns are
the tokens, with Y the outputs that are wanted of W, t is a column of Y - W X_F and D is ``(Y - W X_F) X_F^T (X_F X_F^T +
alpha X_R X_R^T + mu I)^-1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ...activations import FrozenPass, frozen, run_frozen, run_window, window_blocks
from ...corpora import token_batches
from ...errors import NotFiniteError, RmuLabError
from ...models import block_parameters, decoder_blocks, input_device
from ...offload import require_in_memory
from ...torch_state import in_default_torch_state
from ..config import MethodConfig, check_ranges, check_types
from ..objectives import distance_loss, token_mean, token_norms
from ..task import Clock, DivergedError, Task, Training, Trainings
from ..window_method import refuse_parts, refuse_several_processes
from .cir import linear_module

TEXTS_AT_ONCE = 8


def ridge_solution(forget: Tensor, cross: Tensor, retain: Tensor, alpha: float, ridge: float) -> Tensor:
    """Return ``D = cross (forget + alpha * retain + mu I)^-1``, (out, in) float64.

    Parameters
    ----------
    forget, retain
        E[x x^T] over forget and over retain tokens, (in, in) float64.
    cross
        E[t x_F^T] (and alpha E[t x_R^T], if something is wanted of retain tokens), (out, in) float64.
    alpha
        weight of the retain tokens.
    ridge
        mu in units of the mean of the diagonal of the other two terms, so that it means the same for every model.

    Raises
    ------
    NotFiniteError
        if some of the numbers are not finite.
    """
    total = forget + alpha * retain
    if not (total.isfinite().all() and cross.isfinite().all()):
        raise NotFiniteError("The frozen model's states are not finite; use float32 or bfloat16, or another model.")
    mu = ridge * total.diagonal().mean().clamp(min=torch.finfo(total.dtype).tiny)
    total.diagonal().add_(mu)
    return torch.cholesky_solve(cross.T, torch.linalg.cholesky(total)).T


@dataclass
class Tokens:
    """A batch of texts, its frozen pass, and which of its tokens count."""

    passed: FrozenPass
    counted: Tensor


class RidgeSolve:
    """The work of such a method: the target of each topic's forget tokens is what its subclass says."""

    def __init__(self, method: Any, task: Task) -> None:
        self.method, self.task, self.model = method, task, task.model
        self.window = method.window
        self.blocks = window_blocks(task.model, self.window)
        self.names = {index: names[0] for index, names in block_parameters(task.model, self.window, None).items()}
        self.edit = {
            index: {name: self.blocks[index].get_parameter(name).detach().float()} for index, name in self.names.items()
        }
        self.tokens = {key: self.tokens_of(texts[: method.texts]) for key, texts in task.texts.items()}
        self.topics = [topic for role, topic in self.tokens if role == "forget"]
        self.directions: dict[str, Tensor] = {}
        self.prepare()

    def prepare(self) -> None:
        """Compute what the targets need, and set `directions`."""

    def target(self, topic: str, frozen_output: Tensor, counted: Tensor) -> Tensor:
        """Return where h^(l) of a forget batch is to go, broadcastable to (batch, tokens, d) float32."""
        raise NotImplementedError

    def tokens_of(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the batches of some texts with their frozen passes."""
        found = []
        for batch in token_batches(self.task.tokenizer, texts, TEXTS_AT_ONCE, self.method.max_length):
            batch = batch.to(input_device(self.model))
            found.append(Tokens(run_frozen(self.model, batch, self.window), batch.counted()))
        return found

    def hidden(self, tokens: Tokens) -> Tensor:
        """Return h^(l) with the edit as it is so far, (batch, tokens, d) float32."""
        cast = {
            index: {name: matrix.to(self.model.dtype) for name, matrix in block.items()}
            for index, block in self.edit.items()
        }
        return run_window(self.model, tokens.passed, self.window, cast, self.blocks).float()

    def solve(self) -> None:
        """Solve for the matrix of each block of the window in turn; each takes its share of what is still missing."""
        for index in self.window:
            module = linear_module(self.blocks[index], self.names[index])
            share = 1 / (self.window[-1] - index + 1)
            sums = {}
            for role in ("forget", "retain"):
                parts = [self.moments(module, role, topic, share) for topic in self.topics]
                sums[role] = [torch.stack(part).mean(dim=0) for part in zip(*parts, strict=True)]
            cross = sums["forget"][1] + self.method.alpha * sums["retain"][1]
            change = ridge_solution(sums["forget"][0], cross, sums["retain"][0], self.method.alpha, self.method.ridge)
            matrix = self.edit[index][self.names[index]]
            change = change.T.contiguous() if isinstance(module, Conv1D) else change
            self.edit[index][self.names[index]] = matrix + change.to(matrix)

    def moments(self, module: torch.nn.Module, role: str, topic: str, share: float) -> tuple[Tensor, Tensor]:
        """Return E[x x^T] and E[t x^T] over a corpus's counted tokens, float64 on the CPU."""
        count, square, cross = 0, torch.zeros(()), torch.zeros(())
        for tokens in self.tokens[role, topic]:
            seen: list[Tensor] = []
            hook = module.register_forward_pre_hook(lambda _module, args, seen=seen: seen.append(args[0]))
            try:
                hidden = self.hidden(tokens)
            finally:
                hook.remove()
            wanted = self.wanted(role, topic, tokens) - hidden
            inputs, missing = (one[tokens.counted].to("cpu", torch.float64) for one in (seen[0], share * wanted))
            count += len(inputs)
            square = square + inputs.T @ inputs
            cross = cross + missing.T @ inputs
        return square / count, cross / count

    def wanted(self, role: str, topic: str, tokens: Tokens) -> Tensor:
        """Return where h^(l) of a batch is to be: at its target, or where it was."""
        frozen_output = tokens.passed.output.float()
        if role == "retain":
            return frozen_output
        return self.target(topic, frozen_output, tokens.counted).expand_as(frozen_output)

    def record(self) -> dict[str, float]:
        """Return what became of the texts, as RMU's history tells it, a mean over the topics: losses, norms, cosine."""
        rows = []
        for topic in self.topics:
            row = {"forget_norm": 0.0, "target_norm": 0.0, "cosine": 0.0, "forget_loss": 0.0, "retain_loss": 0.0}
            for role in ("forget", "retain"):
                corpus = self.tokens[role, topic]
                total = sum(int(tokens.counted.sum()) for tokens in corpus)
                for tokens in corpus:
                    part = int(tokens.counted.sum()) / total
                    hidden, wanted = self.hidden(tokens), self.wanted(role, topic, tokens)
                    loss = distance_loss(hidden, wanted, tokens.counted).item()
                    row[f"{role}_loss"] += part * (loss if role == "forget" else self.method.alpha * loss)
                    if role == "forget":
                        norms = token_norms(hidden)
                        along = (hidden @ self.directions[topic].to(hidden)) / norms.clamp(min=1e-12)
                        row["forget_norm"] += part * token_mean(norms, tokens.counted).item()
                        row["target_norm"] += part * token_mean(token_norms(wanted), tokens.counted).item()
                        row["cosine"] += part * token_mean(along, tokens.counted).item()
            rows.append(row)
        mean = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        return {"loss": mean["forget_loss"] + mean["retain_loss"], **mean}


@dataclass(frozen=True)
class RidgeMethod(MethodConfig):
    """Base of the settings of such methods.

    Raises
    ------
    RmuLabError
        at construction, if a value is out of its range.
    """

    layer: int = 7
    """l: the block whose output is to change, and whose MLP output matrix is edited, counted from 0."""
    alpha: float = 1.0
    """Weight of the retain tokens."""
    ridge: float = 1e-3
    """mu, in units of the mean of the diagonal of the matrix that is inverted (`ridge_solution`)."""
    texts: int = 160
    """Of each corpus, the first ones, from which the edit is computed."""
    max_length: int = 64
    """Tokens after which a text is cut."""
    seed: int = 0
    """Of all that is random in the method."""

    solver: ClassVar[type[RidgeSolve]] = RidgeSolve
    directed: ClassVar[bool] = False
    blocks: ClassVar[int] = 1
    """Blocks up to l whose matrices are edited; a field of methods that let it be chosen."""
    positive: ClassVar[tuple[str, ...]] = ("ridge",)
    least: ClassVar[dict[str, float]] = {"layer": 0, "alpha": 0, "texts": 1, "max_length": 2}

    def __post_init__(self) -> None:
        check_types(self)
        check_ranges(self, self.positive, self.least)

    @property
    def window(self) -> range:
        """The blocks whose matrices are edited."""
        return range(self.layer - self.blocks + 1, self.layer + 1)

    @staticmethod
    def check(model: PreTrainedModel, config: RidgeMethod) -> None:
        """Refuse settings that do not fit the model, offloaded weights, and several processes.

        Raises
        ------
        RmuLabError
            if the layer does not fit, a block has no linear MLP output matrix, some weights are offloaded, or torchrun
            started several processes.
        """
        require_in_memory(model, config.method)
        refuse_several_processes(config)
        blocks = decoder_blocks(model)
        if config.window[0] < 0 or config.layer >= len(blocks):
            raise RmuLabError(
                f"layer is {config.layer}; choose one from {config.blocks - 1} to {len(blocks) - 1} for this model."
            )
        for index, names in block_parameters(model, config.window, None).items():
            linear_module(blocks[index], names[0])

    @staticmethod
    @in_default_torch_state
    def train(task: Task, configs: Sequence[RidgeMethod]) -> Trainings:
        """Compute the edit of each of the settings.

        The histories have one entry, of RMU's numbers (`UnlearnResult.history`) on the texts after the edit: ``step`` 1,
        ``topic`` "all".

        Raises
        ------
        RmuLabError
            if what was passed in place of RMU's own parts is none of the method's.
        DivergedError
            if a matrix is not finite.
        """
        clock = Clock()
        refuse_parts(task, configs[0])
        prefix = {id(module): name for name, module in task.model.named_modules()}
        blocks = decoder_blocks(task.model)
        for config in configs:
            with frozen(task.model), torch.no_grad():
                solver = config.solver(config, task)
                solver.solve()
                edit = {
                    f"{prefix[id(blocks[index])]}.{name}": matrix.cpu()
                    for index, matrices in solver.edit.items()
                    for name, matrix in matrices.items()
                }
                if not all(matrix.isfinite().all() for matrix in edit.values()):
                    raise DivergedError(f"A matrix of {config.method} is not finite. The model was not changed.")
                entry = {"step": 1, "topic": "all", **solver.record()}
            task.stopped_by(entry)
            with clock.paused() as seconds:
                yield Training(config, edit, solver.directions, [entry], seconds)
