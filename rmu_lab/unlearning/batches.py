"""From texts to batches: topics, token batches, which batches a step takes, and digests of what was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..corpora import TokenBatch, texts_of, token_batches
from ..errors import RmuLabError
from ..files import digest
from ..tables import refuse_splits
from .config import UnlearnConfig
from .distributed import BatchShare, Processes

if TYPE_CHECKING:
    from datasets import Dataset

    Texts: TypeAlias = Dataset | Sequence[str]

TopicTexts = dict[tuple[str, str], list[str]]
"""Texts by role (``"forget"``, ``"retain"``) and topic; all forget topics first, in the order in which they are trained."""
TopicBatches = dict[tuple[str, str], list[TokenBatch]]
BatchKey = tuple[str, str, int]
"""Role, topic and number of a batch."""


def topic_texts(forget: Texts | Mapping[str, Texts], retain: Texts | Mapping[str, Texts], at_least: int) -> TopicTexts:
    """Return the texts of both corpora by role and topic; one retain corpus serves every topic.

    Raises
    ------
    RmuLabError
        if a corpus has fewer than `at_least` texts (one batch), or the two name different topics.
    """
    forget_texts = _by_topic(forget, "forget", at_least)
    retain_texts = _by_topic(retain, "retain", at_least)
    if not isinstance(retain, Mapping):
        retain_texts = dict.fromkeys(forget_texts, retain_texts["retain"])
    if set(retain_texts) != set(forget_texts):
        raise RmuLabError(f"forget has the topics {list(forget_texts)}, retain {list(retain_texts)}; give the same names.")
    return {
        (role, topic): texts
        for role, texts_by_topic in (("forget", forget_texts), ("retain", retain_texts))
        for topic, texts in texts_by_topic.items()
    }


def _by_topic(corpus: Texts | Mapping[str, Texts], role: str, at_least: int) -> dict[str, list[str]]:
    refuse_splits(corpus, role)
    if isinstance(corpus, Mapping):
        if not corpus:
            raise RmuLabError(f"{role} has no topics; give at least one.")
        return {topic: texts_of(texts, f"{role}[{topic!r}]", at_least) for topic, texts in corpus.items()}
    return {role: texts_of(corpus, role, at_least)}


def topics_of(texts: TopicTexts | TopicBatches) -> list[str]:
    """Return the topics to forget, in the order in which they are trained."""
    return [topic for role, topic in texts if role == "forget"]


def corpus_digests(texts: TopicTexts) -> dict[str, str]:
    """Return the SHA-256 of each corpus, by role and topic."""
    return {f"{role} {topic}": digest(corpus) for (role, topic), corpus in texts.items()}


def text_lengths(texts: TopicTexts, config: UnlearnConfig) -> dict[tuple[str, str], int]:
    """Return the tokens after which texts are cut, by role and topic.

    Raises
    ------
    RmuLabError
        if `forget_lengths` fits another number of topics.
    """
    lengths = dict.fromkeys(texts, config.max_length)
    if config.forget_lengths is not None:
        topics = topics_of(texts)
        if len(topics) != len(config.forget_lengths):
            raise RmuLabError(
                f"forget_lengths has {len(config.forget_lengths)} numbers for {len(topics)} topics; give one for each."
            )
        lengths |= {("forget", topic): length for topic, length in zip(topics, config.forget_lengths, strict=True)}
    return lengths


def topic_batches(tokenizer: PreTrainedTokenizerBase, texts: TopicTexts, config: UnlearnConfig) -> TopicBatches:
    """Return the token batches of every role and topic, cut and padded as `config` says.

    Raises
    ------
    RmuLabError
        if a text is shorter than two tokens, or `forget_lengths` fits another number of topics.
    """
    lengths = text_lengths(texts, config)
    return {
        key: token_batches(tokenizer, corpus, config.batch_size, lengths[key], config.padding_side)
        for key, corpus in texts.items()
    }


def used_texts(texts: TopicTexts, steps: int, batch_size: int) -> TopicTexts:
    """Return the texts that a training of `steps` comes to: real corpora hold many more, and long ones."""
    steps_per_topic = -(-2 * steps // len(texts))
    return {key: corpus[: steps_per_topic * batch_size] for key, corpus in texts.items()}


def step_keys(batches: TopicBatches, step: int) -> tuple[BatchKey, BatchKey]:
    """Return the forget and the retain batch of a step (from 0): topics take turns, batches come round again."""
    topics = topics_of(batches)
    topic, index = topics[step % len(topics)], step // len(topics)
    forget, retain = ((role, topic, index % len(batches[role, topic])) for role in ("forget", "retain"))
    return forget, retain


def recurring(batches: TopicBatches, steps: int) -> set[tuple[str, str]]:
    """Return role and topic of the batches that come round again within `steps`."""
    steps_per_topic = 2 * steps / len(batches)
    return {key for key, corpus in batches.items() if steps_per_topic > len(corpus)}


def counted_tokens(batch: TokenBatch, config: UnlearnConfig) -> Tensor:
    """Return which tokens of a batch enter losses and norms under these settings: (batch, tokens) bool."""
    return batch.counted(padding=config.count_padding, first_token=config.count_first_token)


def batch_share(batches: TopicBatches, key: BatchKey, config: UnlearnConfig, processes: Processes) -> BatchShare:
    """Return this process's share of a batch."""
    role, topic, index = key
    batch = batches[role, topic][index]
    return processes.share(batch, counted_tokens(batch, config))
