"""Words without their endings, so that *walked* counts as *walks*: Porter's algorithm, as ROUGE scores take it.

Porter 1980, "An algorithm for suffix stripping". Published ROUGE scores are of the Google package `rouge_score`, which takes
the algorithm of NLTK with NLTK's additions to it. Those are here too, so that the stems are the same; a library that drags
in a whole toolkit for one table of endings was not taken.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

_SPECIAL = {
    form: stem
    for stem, forms in {
        "sky": "sky skies",
        "die": "dying",
        "lie": "lying",
        "tie": "tying",
        "news": "news",
        "inning": "inning innings",
        "outing": "outing outings",
        "canning": "canning cannings",
        "howe": "howe",
        "proceed": "proceed",
        "exceed": "exceed",
        "succeed": "succeed",
    }.items()
    for form in forms.split()
}
"""Words that NLTK knows by heart."""

_Rules = tuple[tuple[str, str], ...]


def _table(text: str) -> _Rules:
    """Endings and what takes their place, written ``ending>new``."""
    pairs = (rule.split(">") for rule in text.split())
    return tuple((ending, new) for ending, new in pairs)


_STEP_2 = _table(
    "ational>ate tional>tion enci>ence anci>ance izer>ize bli>ble alli>al entli>ent eli>e ousli>ous ization>ize ation>ate "
    "ator>ate alism>al iveness>ive fulness>ful ousness>ous aliti>al iviti>ive biliti>ble fulli>ful"
)
_STEP_3 = _table("icate>ic ative> alize>al iciti>ic ical>ic ful> ness>")
_STEP_4 = _table("al> ance> ence> er> ic> able> ible> ant> ement> ment> ent> ion> ou> ism> ate> iti> ous> ive> ize>")


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """Return the stem of a word in small letters."""
    if word in _SPECIAL:
        return _SPECIAL[word]
    if len(word) <= 2:
        return word
    for step in (_plural, _past, _final_y, _step_2, _step_3, _step_4, _final_e, _double_l):
        word = step(word)
    return word


def _pattern(word: str) -> str:
    """Its letters as ``c`` and ``v``, consonants and vowels; y is a vowel after a consonant."""
    kinds = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and kinds.endswith("c"))
        kinds += "v" if vowel else "c"
    return kinds


def _measure(stem: str) -> int:
    """Porter's m: how often a vowel is followed by a consonant."""
    return _pattern(stem).count("vc")


def _short(stem: str) -> bool:
    """Porter's *o: it ends consonant, vowel, consonant, and not in w, x or y; of two letters vowel and consonant do."""
    kinds = _pattern(stem)
    return (kinds.endswith("cvc") and stem[-1] not in "wxy") or kinds == "vc"


def _replaced(word: str, rules: _Rules, allowed: Callable[[str, str], bool]) -> str:
    """The word with the first ending that it has replaced, if that is allowed for its stem and ending."""
    for ending, new in rules:
        if word.endswith(ending):
            rest = word[: len(word) - len(ending)]
            return rest + new if allowed(rest, ending) else word
    return word


def _plural(word: str) -> str:
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    rest = word[:-2] if word.endswith("ed") else word[:-3] if word.endswith("ing") else ""
    if "v" not in _pattern(rest):
        return word
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if len(rest) > 1 and rest[-1] == rest[-2] and _pattern(rest).endswith("c"):
        return rest if rest[-1] in "lsz" else rest[:-1]
    return rest + "e" if _measure(rest) == 1 and _short(rest) else rest


def _final_y(word: str) -> str:
    after_consonant = len(word) > 2 and word[-1] == "y" and _pattern(word[:-1]).endswith("c")
    return word[:-1] + "i" if after_consonant else word


def _step_2(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        return _step_2(word[:-2])
    if word.endswith("logi"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    return _replaced(word, _STEP_2, lambda rest, _: _measure(rest) > 0)


def _step_3(word: str) -> str:
    return _replaced(word, _STEP_3, lambda rest, _: _measure(rest) > 0)


def _step_4(word: str) -> str:
    return _replaced(
        word, _STEP_4, lambda rest, ending: _measure(rest) > 1 and (ending != "ion" or rest.endswith(("s", "t")))
    )


def _final_e(word: str) -> str:
    if not word.endswith("e"):
        return word
    rest = word[:-1]
    return rest if _measure(rest) > 1 or (_measure(rest) == 1 and not _short(rest)) else word


def _double_l(word: str) -> str:
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word
