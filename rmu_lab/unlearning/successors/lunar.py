"""LUNAR: forget text redirected to where the model says that it does not know, Shen et al. 2025."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import RmuLabError
from ...invented import invented_questions
from ...randomness import python_random
from .ridge import RidgeMethod, RidgeSolve, Tokens


class LUNARSolve(RidgeSolve):
    """The regression on shifted outputs."""

    def prepare(self) -> None:
        """Find the shift of each topic: from its forget texts to questions on what nobody knows."""
        questions = invented_questions(wording=1)["question"]
        asked = python_random(self.method.seed, "LUNAR's references").sample(questions, self.method.references)
        reference = mean_state(self.tokens_of(asked))
        self.shifts: dict[str, Tensor] = {}
        for topic in self.topics:
            shift = reference - mean_state(self.tokens["forget", topic])
            self.shifts[topic] = self.method.coefficient * shift
            self.directions[topic] = (shift / shift.norm()).cpu()

    def target(self, topic: str, frozen_output: Tensor, counted: Tensor) -> Tensor:
        """Return the frozen representation, shifted."""
        return frozen_output + self.shifts[topic].to(frozen_output)


def mean_state(batches: list[Tokens]) -> Tensor:
    """Return the mean of frozen h^(l) over the counted tokens of some batches, (d,) float32."""
    return torch.cat([tokens.passed.output.float()[tokens.counted] for tokens in batches]).mean(dim=0)


@dataclass(frozen=True)
class LUNAR(RidgeMethod):
    """LUNAR, unlearning by redirecting activations, Shen et al. 2025 (arXiv 2502.07218), in closed form.

    With r the mean frozen h^(l) of texts that a model cannot answer less that of the forget texts, x the inputs of the MLP's
    output matrix W of block l, the edit D of that one matrix minimises::

        E ||(W + D) x_F - (W x_F + coefficient * r)||^2  +  alpha * E ||D x_R||^2  +  mu * ||D||^2

    so ``D = coefficient * r E[x_F]^T (E[x_F x_F^T] + alpha E[x_R x_R^T] + mu I)^-1`` (`ridge`), for one topic of rank 1.
    Theirs finds nearly the same by AdamW. Their references are harmful prompts, which a chat model refuses, or unverifiable
    ones; here they are questions on an invented world (`invented_questions`), which no model can have read of.
    """

    coefficient: float = 2.0
    """How far forget text is moved, in units of r."""
    references: int = 64
    """Questions on the invented world, which the seed draws, from which r is measured."""

    method: ClassVar[str] = "lunar"
    solver: ClassVar[type[RidgeSolve]] = LUNARSolve
    positive: ClassVar[tuple[str, ...]] = ("ridge", "coefficient")
    least: ClassVar[dict[str, float]] = {**RidgeMethod.least, "references": 1}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.references > QUESTIONS:
            raise RmuLabError(f"references is {self.references}; there are {QUESTIONS} questions.")

    @classmethod
    def published(cls, **changes: Any) -> LUNAR:
        """Return the settings of the authors' code for Llama-3-8B, with `changes` of single fields.

        Layer 22, coefficient 2, 128 references. They weigh forget and retain texts alike, and have no ridge.
        """
        return cls(**{"layer": 22, "coefficient": 2.0, "references": 128, "alpha": 1.0, "ridge": 1e-6, **changes})


QUESTIONS = 300
"""On the invented world, in one wording: five on each of sixty maladies."""
