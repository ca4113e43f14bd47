"""What a model's shape alone says about memory and arithmetic: computed, never measured.

For planning a run on a model that is not here yet, and for setting measured times beside what they cannot go below.
Taught in notebook 09.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder of the Llama family (Mistral, Yi, Mixtral, SmolLM2, ...)."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    num_local_experts: int = 1
    num_experts_per_tok: int = 1
    tie_word_embeddings: bool = False

    @classmethod
    def of(cls, config: PreTrainedConfig | Mapping[str, Any]) -> Shape:
        """Make a shape from a model's configuration, or a mapping with the same names."""
        plain = config if isinstance(config, Mapping) else config.to_dict()
        return cls(**{name: plain[name] for name in cls.__dataclass_fields__ if plain.get(name) is not None})

    @property
    def attention(self) -> int:
        """Parameters of a block's four attention matrices."""
        key_values = self.hidden_size // self.num_attention_heads * self.num_key_value_heads
        return 2 * self.hidden_size * (self.hidden_size + key_values)

    @property
    def matrix(self) -> int:
        """Parameters of one MLP matrix, such as ``down_proj``, of one expert."""
        return self.hidden_size * self.intermediate_size

    @property
    def trained(self) -> int:
        """Parameters that RMU trains: the MLP's output in three blocks, of all experts."""
        return 3 * self.matrix * self.num_local_experts

    @property
    def router(self) -> int:
        """Parameters that choose among experts, in a block."""
        return self.hidden_size * self.num_local_experts if self.num_local_experts > 1 else 0

    @property
    def parameters(self) -> int:
        """All of the model."""
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        return self.num_hidden_layers * self.block + embeddings + self.hidden_size

    def block_flops(self, length: int) -> int:
        """Floating-point operations of one block on one token, forward, in a text of that length."""
        used = self.attention + 3 * self.matrix * self.num_experts_per_tok + self.router
        return 2 * used + 2 * length * self.hidden_size  # a token looks at half of its text on average, twice

    def forward_flops(self, tokens: int, length: int) -> int:
        """Count operations of the whole model on so many tokens, unembedding included."""
        return tokens * (self.num_hidden_layers * self.block_flops(length) + 2 * self.vocab_size * self.hidden_size)

    def step_flops(self, layer: int, tokens: int, length: int) -> int:
        """Count the operations of one step of the window trainer.

        On `tokens` tokens, forget and retain together, that were not seen before: frozen blocks 0 .. l once; then the window
        forward, the gradients through two blocks, and those of three matrices.
        """
        gradients = 3 * 2 * self.matrix * self.num_experts_per_tok
        return tokens * ((layer + 1 + 3 + 2) * self.block_flops(length) + gradients)

    def published_step_flops(self, layer: int, tokens: int, length: int) -> int:
        """Count the operations of one step of the published loop.

        Forget goes through one whole model, retain through two, and gradients through all blocks up to l.
        """
        backward = tokens * (layer + 1) * 2 * self.block_flops(length)
        return self.forward_flops(tokens + tokens // 2, length) + backward

    @property
    def block(self) -> int:
        """Parameters of one block."""
        return self.attention + 3 * self.matrix * self.num_local_experts + self.router + 2 * self.hidden_size

    def training_bytes(self, per_number: int = 2) -> dict[str, int]:
        """Memory of the window trainer but for activations, by what it is for; `per_number` is of the model's type."""
        return {
            "model": per_number * self.parameters,
            "float32 copies of the trained matrices": 4 * self.trained,
            "their gradients": 4 * self.trained,
            "AdamW's two moments": 8 * self.trained,
            "the copies in the model's type": per_number * self.trained if per_number != 4 else 0,
        }

    def published_bytes(self, layer: int, per_number: int = 2) -> dict[str, int]:
        """Return the same of the published loop: a second model, and gradients of every parameter up to block `layer`."""
        below = self.vocab_size * self.hidden_size + (layer + 1) * self.block
        return {
            "model": per_number * self.parameters,
            "second model": per_number * self.parameters,
            "gradients": per_number * below,
            "AdamW's two moments": 2 * per_number * self.trained,
        }

    def activation_bytes(self, tokens: int, blocks: int = 3, per_number: int = 2) -> int:
        """Estimate what a forward pass of so many blocks keeps for the backward pass.

        Roughly: some 8 vectors of the hidden and 4 of the intermediate size for each token and block."""
        vectors = 8 * self.hidden_size + 4 * self.intermediate_size * self.num_experts_per_tok
        return blocks * tokens * vectors * per_number
