"""Suffixes put into prompts, their loss, its gradient, and the swaps that the gradient proposes. Taught in notebook 06."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..activations import captured
from ..errors import NotFiniteError, RmuLabError
from ..generation import write_greedily
from ..models import input_device, last_logits
from ..scoring import shares_prompts
from ..tokens import open_batch, open_tokens

PLACE = "{suffix}"
"""Where the suffix goes in a prompt; at its end if it does not say."""

# ---------------------------------------------------------------------------------------------------------------------
# Putting prompts together


@dataclass(frozen=True)
class Layout:
    """Tokens of the attack: what stands before the suffix, the suffix to start from, what stands after it, the target."""

    before: tuple[int, ...]
    suffix: tuple[int, ...]
    after: tuple[int, ...]
    target: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, prompt: str, suffix: str, target: str, *, chat_template: bool) -> Layout:
        """Tokenise prompt, suffix and target, part by part.

        Parameters
        ----------
        prompt
            with ``{suffix}`` where the suffix goes; without, it goes to the end.
        suffix
            the text to start from.
        target
            what the model is to write first.
        chat_template
            put the prompt through the tokenizer's chat template, where it has one.

        Raises
        ------
        RmuLabError
            if prompt or target is empty or no text, the prompt has several places for the suffix, or nothing stands
            before it.
        """
        _check_text("prompt", prompt)
        _check_text("target", target)
        if not prompt.strip() or not target:
            raise RmuLabError(f"The {'target' if prompt.strip() else 'prompt'} is empty; give a text.")
        text, special = prompt_text(tokenizer, prompt, PLACE, chat_template=chat_template)
        first, *last = text.split(PLACE)
        if len(last) > 1:
            raise RmuLabError(f"The prompt has {len(last)} places {PLACE}; leave one.")

        def tokens(part: str, special: bool = False) -> tuple[int, ...]:
            return tuple(open_tokens(tokenizer, [part], special=special)[0]) if part else ()

        layout = cls(before=tokens(first, special), suffix=tokens(suffix), after=tokens(last[0]), target=tokens(target))
        if not layout.before:
            raise RmuLabError("Nothing stands before the suffix; give a prompt that begins with something else.")
        return layout

    @property
    def length(self) -> int:
        """Tokens of all four parts."""
        return len(self.before) + len(self.suffix) + len(self.after) + len(self.target)

    def as_text(self, tokenizer: PreTrainedTokenizerBase, candidates: Tensor) -> Tensor:
        """Test which candidates come back when the whole prompt is written as text and tokenised.

        Parameters
        ----------
        candidates
            (candidates, suffix tokens).

        Returns
        -------
        Tensor
            (candidates,) bool.
        """
        wholes = [[*self.before, *row, *self.after] for row in candidates.tolist()]
        texts = tokenizer.batch_decode(wholes, clean_up_tokenization_spaces=False)
        again = tokenizer(texts, add_special_tokens=False)["input_ids"]
        return torch.tensor([whole == back for whole, back in zip(wholes, again, strict=True)], dtype=torch.bool)


def prompt_text(tokenizer: PreTrainedTokenizerBase, prompt: str, suffix: str, *, chat_template: bool) -> tuple[str, bool]:
    """Build the text that is sent to the model.

    Returns
    -------
    tuple of str and bool
        the text, and whether the tokenizer is still to add its special tokens (a template has them).

    Raises
    ------
    RmuLabError
        if the prompt is no text.
    """
    _check_text("prompt", prompt)
    text = prompt.replace(PLACE, suffix) if PLACE in prompt else prompt + suffix
    if not (chat_template and tokenizer.chat_template):
        return text, True
    message = [{"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)), False


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise RmuLabError(
            f"The {name} is a {type(value).__name__}; give one text, without roles: the tokenizer's chat template is put "
            "round the prompt."
        )


def reply(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    suffix: str,
    *,
    chat_template: bool = True,
    max_new_tokens: int = 32,
) -> str:
    """Generate the model's greedy answer to the prompt with this suffix, sent as text: an attack is judged by this.

    Taught in notebook 06.

    Parameters
    ----------
    prompt
        with ``{suffix}`` where the suffix goes; without, it goes to the end.
    chat_template
        put the prompt through the tokenizer's chat template, where it has one.
    max_new_tokens
        tokens after which the answer is cut.

    Returns
    -------
    str
        the answer, without special tokens.
    """
    text, special = prompt_text(tokenizer, prompt, suffix, chat_template=chat_template)
    encoded = open_batch(model, tokenizer, [text], new_tokens=max_new_tokens, special=special)
    output = write_greedily(model, tokenizer, encoded, max_new_tokens).sequences
    return decoded(tokenizer, output[0, encoded["input_ids"].shape[1] :].tolist(), skip_special_tokens=True).strip()


def decoded(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], *, skip_special_tokens: bool = False) -> str:
    """Return the text of these token ids."""
    return tokenizer.batch_decode([list(tokens)], skip_special_tokens=skip_special_tokens)[0]


def allowed_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """List the tokens that a suffix may hold: printable ASCII, and no special ones. Taught in notebook 06.

    Returns
    -------
    Tensor
        (allowed tokens,) ids, in ascending order.
    """
    size = min(len(tokenizer), len(model.get_input_embeddings().get_parameter("weight")))
    texts = tokenizer.batch_decode([[index] for index in range(size)])
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return torch.tensor(
        [i for i, text in enumerate(texts) if text and text.isascii() and text.isprintable() and i not in special]
    )


def random_texts(
    tokenizer: PreTrainedTokenizerBase, allowed: Tensor, n_tokens: int, n: int, generator: torch.Generator
) -> list[str]:
    """Draw texts of random tokens, which any model finds unlikely: targets of a large loss, to compare models at one loss.

    Taught in notebook 06.

    Parameters
    ----------
    allowed
        (allowed tokens,) ids to draw from, such as `allowed_tokens` gives.
    n_tokens, n
        tokens of each text, and how many texts. A text that is tokenised otherwise than it was put together is drawn again.
    generator
        of the draws.
    """
    texts: list[str] = []
    while len(texts) < n:
        drawn = allowed[torch.randint(len(allowed), (n_tokens,), generator=generator)].tolist()
        text = decoded(tokenizer, drawn)
        if open_tokens(tokenizer, [text], special=False)[0] == drawn:
            texts.append(text)
    return texts


# ---------------------------------------------------------------------------------------------------------------------
# Loss and gradient


@dataclass(frozen=True, eq=False)
class StateMatch:
    """Hidden states that a suffix is to bring back as well: an unlearned model's are held against the base model's.

    Łucki et al. 2024, arXiv 2409.18025, enhance GCG by such a term. Made by `states_to_match`. Taught in notebook 06.
    """

    layer: int
    states: Tensor
    """(target tokens, d) float32: h after the layer, where the target's tokens are predicted."""
    weight: float = 1.0
    """Of ``||h - h0||^2 / ||h0||^2``, averaged over those places, in the loss: nats for each unit."""

    def distance(self, hidden: Tensor) -> Tensor:
        """Compute the mean squared distance, relative to the states' own length.

        Parameters
        ----------
        hidden
            (suffixes, tokens, d), of which the last are compared.

        Returns
        -------
        Tensor
            (suffixes,) float32.
        """
        wanted = self.states.to(hidden.device)
        off = hidden[:, -len(wanted) :].float() - wanted
        return (off.square().sum(dim=-1) / wanted.square().sum(dim=-1)).mean(dim=1)


class SuffixLoss:
    """The loss of suffixes, on one model and one prompt; holds the cache of what stands before them."""

    def __init__(
        self,
        model: PreTrainedModel,
        layout: Layout,
        *,
        prefix_cache: bool,
        batch_size: int,
        match: StateMatch | None = None,
    ) -> None:
        self.model = model
        self.layout = layout
        self.batch_size = batch_size
        self.match = match
        device = input_device(model)
        self._before, self._after, self._target = (
            torch.tensor(ids, dtype=torch.long, device=device) for ids in (layout.before, layout.after, layout.target)
        )
        self._cache = None
        if prefix_cache and shares_prompts(model):
            with torch.no_grad():
                output = model(input_ids=self._before[None], use_cache=True, **last_logits(model, 1))
            self._cache = output.past_key_values

    def __call__(self, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Compute each candidate's loss.

        Parameters
        ----------
        candidates
            (candidates, suffix tokens).

        Returns
        -------
        tuple of Tensor and Tensor
            mean negative log-probability of the target's tokens, in nats, with what `match` adds to it, and whether the
            likeliest tokens are the target's: both (candidates,) on the CPU.

        Raises
        ------
        RmuLabError
            if not even one candidate fits into memory.
        """
        found, done = [], 0
        while done < len(candidates):
            chunk = candidates[done : done + self.batch_size]
            try:
                found.append(self._losses(chunk))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                if len(chunk) == 1:
                    raise RmuLabError(
                        "Not even one candidate fits into memory; shorten the prompt or free memory."
                    ) from None
                self.batch_size = max(1, len(chunk) // 2)
                if input_device(self.model).type == "cuda":
                    torch.cuda.empty_cache()
                continue
            done += len(chunk)
        losses, matches = (torch.cat(parts) for parts in zip(*found, strict=True))
        if not losses.isfinite().all():
            raise NotFiniteError("The loss of a suffix is not finite: the model is broken; use float32 or bfloat16.")
        return losses, matches

    @torch.no_grad()
    def _losses(self, candidates: Tensor) -> tuple[Tensor, Tensor]:
        candidates = candidates.to(input_device(self.model))
        logits, distance = self._run(self._inputs(candidates))
        target = self._target.expand(len(candidates), -1)
        picked = logits.gather(-1, target[..., None])[..., 0] - logits.logsumexp(dim=-1)
        return (distance - picked.mean(dim=1)).cpu(), (logits.argmax(dim=-1) == target).all(dim=1).cpu()

    @torch.no_grad()
    def states(self, layer: int, suffix: Tensor) -> Tensor:
        """Return h after a layer where the target's tokens are predicted, (target tokens, d) float32 on the CPU."""
        with captured(self.model, [layer]) as seen:
            self._logits(self._inputs(suffix[None].to(input_device(self.model))))
        return seen[layer][0, -len(self._target) :].float().cpu()

    def gradient(self, suffix: Tensor) -> tuple[float, Tensor, float]:
        """Compute the loss of a suffix and its gradients.

        The embedding is linear in the one-hot tokens, so the gradient with respect to these is the one with respect to
        the embeddings times the embedding matrix.

        Parameters
        ----------
        suffix
            (tokens,).

        Returns
        -------
        tuple of float, Tensor and float
            the loss, in nats per target token; its gradient with respect to the one-hot tokens, (tokens, vocabulary) on
            the CPU; and the norm of the gradient with respect to their embeddings.
        """
        loss, gradient = self._embedding_gradient(suffix)
        embed = self.model.get_input_embeddings()
        with torch.no_grad():
            # Through the module, because some families scale their embeddings there.
            vocabulary = torch.arange(len(embed.get_parameter("weight")), device=input_device(self.model))
            one_hot = gradient @ embed(vocabulary).float().T
        return loss, one_hot.cpu(), gradient.norm().item()

    def gradient_norm(self, suffix: Tensor) -> tuple[float, float]:
        """Compute the loss of a suffix, (tokens,), and the norm of its gradient with respect to their embeddings."""
        loss, gradient = self._embedding_gradient(suffix)
        return loss, gradient.norm().item()

    def of_vectors(self, vectors: Tensor) -> Tensor:
        """Compute the loss with free embeddings in the suffix's place, such as a soft prompt's; gradients flow to them.

        Parameters
        ----------
        vectors
            (tokens, d), on the model's input device.

        Returns
        -------
        Tensor
            a scalar, in nats per target token.
        """
        embed = self.model.get_input_embeddings()
        with torch.no_grad():
            behind = embed(torch.cat([self._after, self._target[:-1]]))
            before = [] if self._cache is not None else [embed(self._before)]
        logits, distance = self._run(torch.cat([*before, vectors.to(behind.dtype), behind])[None])
        return torch.nn.functional.cross_entropy(logits[0], self._target) + distance[0]

    def _embedding_gradient(self, suffix: Tensor) -> tuple[float, Tensor]:
        """Loss, and its gradient with respect to the suffix's embeddings, (tokens, d) float32."""
        with torch.enable_grad():
            leaf = self.model.get_input_embeddings()(suffix.to(input_device(self.model))).detach().requires_grad_()
            loss = self.of_vectors(leaf)
            (gradient,) = torch.autograd.grad(loss, leaf)
        return loss.item(), gradient.float()

    def _inputs(self, suffixes: Tensor) -> Tensor:
        """Tokens from the suffix on, or from the beginning without a cache; the target's last token is never read."""
        parts = [self._after.expand(len(suffixes), -1), self._target[:-1].expand(len(suffixes), -1)]
        before = [] if self._cache is not None else [self._before.expand(len(suffixes), -1)]
        return torch.cat([*before, suffixes, *parts], dim=1)

    def _run(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Logits as of `_logits`, and what `match` adds to the loss of each suffix, (suffixes,)."""
        if self.match is None:
            logits = self._logits(given)
            return logits, logits.new_zeros(len(given))
        with captured(self.model, [self.match.layer]) as seen:
            logits = self._logits(given)
        return logits, self.match.weight * self.match.distance(seen[self.match.layer]).to(logits.device)

    def _logits(self, given: Tensor) -> Tensor:
        """Float32 logits that predict the target, (suffixes, target tokens, vocabulary), from tokens or their embeddings."""
        n, length = given.shape[:2]
        embedded = given.ndim == 3
        cache, seen = None, 0
        if self._cache is not None:
            cache, seen = copy.deepcopy(self._cache), len(self._before)
            cache.batch_repeat_interleave(n)
        output = self.model(
            input_ids=None if embedded else given,
            inputs_embeds=given if embedded else None,
            attention_mask=torch.ones(n, seen + length, dtype=torch.long, device=given.device),
            past_key_values=cache,
            use_cache=cache is not None,
            **last_logits(self.model, len(self._target)),
        )
        return output.logits[:, -len(self._target) :].float()


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


# ---------------------------------------------------------------------------------------------------------------------
# Swaps


def sample_candidates(
    suffix: Tensor,
    gradient: Tensor,
    allowed: Tensor,
    *,
    width: int,
    topk: int,
    n_replace: int,
    generator: torch.Generator,
) -> Tensor:
    """Draw suffixes with `n_replace` tokens swapped, each for one of the `topk` of largest predicted gain.

    Zou et al. 2023, arXiv 2307.15043, Algorithm 1. Taught in notebook 06.

    Parameters
    ----------
    suffix
        (tokens,).
    gradient
        (tokens, vocabulary), of the loss with respect to the one-hot tokens.
    allowed
        (allowed tokens,) ids that may be put in.
    width
        how many suffixes are drawn.
    topk
        swaps of each position that are drawn from.
    n_replace
        positions swapped in each.
    generator
        of the draws.

    Returns
    -------
    Tensor
        (width, tokens).
    """
    best = top_swaps(gradient, allowed, topk)
    n = min(n_replace, len(suffix))
    positions = torch.rand(width, len(suffix), generator=generator).topk(n, dim=1).indices
    ranks = torch.randint(best.shape[1], (width, n), generator=generator)
    return suffix.repeat(width, 1).scatter_(1, positions, best[positions, ranks])


def top_swaps(gradient: Tensor, allowed: Tensor, k: int) -> Tensor:
    """Find for every position the k allowed tokens with the most negative gradient.

    Parameters
    ----------
    gradient
        (tokens, vocabulary), of the loss with respect to the one-hot tokens.
    allowed
        (allowed tokens,) ids.

    Returns
    -------
    Tensor
        (tokens, k) ids; fewer than k if fewer are allowed.
    """
    order = gradient[:, allowed].topk(min(k, len(allowed)), dim=1, largest=False).indices
    return allowed[order]


def predicted_gains(suffix: Tensor, gradient: Tensor, candidates: Tensor) -> Tensor:
    """Compute the first-order fall of the loss of each candidate, in nats per target token. Taught in notebook 06.

    Parameters
    ----------
    suffix
        (tokens,).
    gradient
        (tokens, vocabulary), of the loss with respect to the one-hot tokens.
    candidates
        (candidates, tokens).

    Returns
    -------
    Tensor
        (candidates,).
    """
    positions = torch.arange(len(suffix))
    return (gradient[positions, suffix] - gradient[positions, candidates]).sum(dim=1)
