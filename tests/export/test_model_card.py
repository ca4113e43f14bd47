"""Cards: what they must say, metadata that the hub can read, and nothing of whoever wrote them."""

import dataclasses
import re

import pytest
from huggingface_hub import ModelCard

from rmu_lab import Accuracy, RmuLabError, UnlearnConfig, unlearn
from rmu_lab.export.adapter import Adapter
from rmu_lab.export.base_model import base_model_of
from rmu_lab.export.model_card import model_card
from tests.conftest import made_up_texts, tiny_model

CONFIG = UnlearnConfig(layer=2, steps=2, batch_size=2, max_length=16)


def score(marks: str) -> Accuracy:
    return Accuracy.from_dict({"correct": marks, "predictions": "0" * len(marks), "style": "cloze"})


@pytest.fixture(scope="module")
def result(tokenizer):
    found = unlearn(tiny_model("llama"), tokenizer, made_up_texts(4, seed=1), made_up_texts(4, seed=2), CONFIG)
    return dataclasses.replace(found, model_name="smollm2-135m")


class Attacks:
    def __init__(self):
        self.left_out = {"gcg": "no time | was left"}

    def summary(self):
        return ["Guarantee: suppression, not erasure, of <b>all</b>."]

    def table(self):
        return [("relearning", "the weights", "20% -> 40%", "+20.0 [+10.0, +30.0] points (base model)", "2k tokens read")]


def test_a_models_card_says_what_it_is_and_what_it_is_not(result):
    text = model_card(result, scores={"bio, test": (score("1111"), score("1000"))}, robustness=Attacks())
    data = ModelCard(text).data
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct" and data.base_model_relation == "finetune"
    assert data.license == "apache-2.0" and data.library_name == "transformers" and "adaptive_rmu" in data.tags
    assert "Suppression, not erasure" in text and "Intended use" in text
    for name, value in CONFIG.to_dict().items():
        assert f"| {name.replace('_', chr(92) + '_')} |" in text or f"| {name} |" in text
        assert f"`{value}`" in text
    for digest in result.digests.values():
        assert digest in text
    assert "bio, test" in text and "-75.0 [" in text
    assert "- Guarantee: suppression, not erasure, of &lt;b&gt;all&lt;/b&gt;." in text
    assert r"+20.0 \[+10.0, +30.0\] points" in text and r"gcg (no time \| was left)" in text


def test_an_adapters_card_says_how_near_it_comes(result, tmp_path):
    for kind, library in (("peft", "peft"), ("gguf", "gguf")):
        text = model_card(result, adapter=Adapter(tmp_path, kind, 7, 0.98765))
        data = ModelCard(text).data
        assert data.base_model_relation == "adapter" and data.library_name == library
        assert "rank is 7" in text and "98.7650%" in text
        assert "None were measured" in text and "No attack was tried" in text


def test_nothing_says_whose_computer_it_was(result, tmp_path):
    local = dataclasses.replace(result, model_name=str(tmp_path / "alice" / "my-model"))
    text = model_card(local)
    assert "alice" not in text and str(tmp_path) not in text and "my-model" in text
    assert result.provenance["command"] not in text
    assert ModelCard(text).data.base_model is None and "licence of the base model" in text.lower()


@pytest.mark.parametrize(
    ("given", "name", "on_hub"),
    [
        ("org/model", "org/model", True),
        ("/home/x/model", "model", False),
        (r"C:\me\model", "model", False),
        ("", "not named", False),
    ],
)
def test_a_base_model_is_named_by_its_id_or_its_folder(given, name, on_hub):
    base = base_model_of(given)
    assert (base.name, base.on_hub) == (name, on_hub)


def test_foreign_text_is_neither_markdown_nor_html(result):
    evil = "<script>x</script> | `a` [b](c)\n# d"
    text = model_card(dataclasses.replace(result, model_name="x/" + evil, digests={evil: evil}))
    assert "<script>" not in re.sub(r"`[^`\n]*`", "", text)
    assert "\n# d" not in text
    rows = [line for line in text.splitlines() if "script" in line and line.startswith("|")]
    assert rows and all(len(re.findall(r"(?<!\\)\|", row)) == 3 for row in rows)


def test_scores_of_different_questions_are_refused(result):
    with pytest.raises(RmuLabError, match="scores of 'bio' are of different questions"):
        model_card(result, scores={"bio": (score("111"), score("1000"))})
