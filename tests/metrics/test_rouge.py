"""ROUGE-L against brute force, by hand, and against the package that papers use, where it is installed."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmu_lab.metrics import RougeL, rouge_l
from rmu_lab.metrics.rouge import common_length, words_of
from tests.conftest import made_up_texts


def test_rouge_by_hand():
    found = rouge_l("the cat sat on the mat", "the mat the cat", stems=False)  # "the cat" or "the mat": two words
    assert (found.recall, found.precision) == (2 / 6, 2 / 4)
    assert found.f1 == pytest.approx(2 * (2 / 6) * (2 / 4) / (2 / 6 + 2 / 4))
    assert rouge_l("Mars", "mars!") == RougeL(1.0, 1.0, 1.0)
    for nothing in (("", "a word"), ("a word", ""), ("?!", "a"), ("one two", "three")):
        assert rouge_l(*nothing) == RougeL(0.0, 0.0, 0.0)


def test_words_are_small_letters_and_digits():
    assert words_of("It's 3.5 km, CAFÉ-side", stems=False) == ["it", "s", "3", "5", "km", "caf", "side"]


def test_stems_matter_and_short_words_keep_their_endings():
    assert rouge_l("she walked", "she walks").recall == 1.0
    assert rouge_l("she walked", "she walks", stems=False).recall == 0.5
    assert words_of("does ants flies") == ["doe", "ant", "fli"] and words_of("its was") == ["its", "was"]


words = st.lists(st.sampled_from("abc"), max_size=7)


@given(words, words)
def test_the_common_subsequence_is_that_of_brute_force(one, other):
    """The longest of all subsequences of one that can be read off the other."""

    def inside(part):
        rest = iter(other)
        return all(word in rest for word in part)

    parts = (part for n in range(len(one) + 1) for part in itertools.combinations(one, n))
    assert common_length(one, other) == max(len(part) for part in parts if inside(part))


@given(words, words)
def test_recall_and_precision_change_places_with_the_texts(one, other):
    there, back = (rouge_l(" ".join(pair[0]), " ".join(pair[1])) for pair in ((one, other), (other, one)))
    assert (there.recall, there.precision, there.f1) == (back.precision, back.recall, pytest.approx(back.f1))
    assert 0 <= there.f1 <= 1 and rouge_l(" ".join(one), " ".join([*one, *other])).recall == (1.0 if one else 0.0)


@pytest.mark.parametrize("stems", [True, False])
def test_scores_are_those_of_rouge_score(stems):
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"], use_stemmer=stems)
    texts = ["", "Naïve café, 1984!", "The studies relate to relational happiness.", "He studied; she relates, happily."]
    texts += made_up_texts(6, seed=5, least=1, most=12)
    for right, written in itertools.product(texts, texts):
        wanted = scorer.score(right, written)["rougeL"]
        found = rouge_l(right, written, stems=stems)
        assert (found.recall, found.precision, found.f1) == pytest.approx((wanted.recall, wanted.precision, wanted.fmeasure))
