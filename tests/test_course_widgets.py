"""Predictions, live widgets and what prints: on tiny models, with hostile texts."""

import base64
import io
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rmu_lab import RmuLabError, UnlearnConfig, unlearn
from rmu_lab.course import (
    answers_at,
    predict,
    predictions,
    print_answers,
    print_changes,
    print_table,
    strength_panel,
    strength_slider,
    token_colours,
    token_cosines,
    token_panel,
    toy_rmu,
    train_toy,
)
from rmu_lab.course.token_colours import TokenCosines, _tokens_html
from rmu_lab.evaluate import Accuracy
from tests.conftest import made_up_texts, same_weights, tiny_model, weights_of

HOSTILE = "<script>alert('sea')</script> & <b>fish</b>"
CONFIG = UnlearnConfig(layer=2, steps=3, batch_size=2, max_length=16, lr=1e-2)


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


@pytest.fixture(scope="module")
def result(model, tokenizer):
    return unlearn(model, tokenizer, made_up_texts(8, seed=21), made_up_texts(8, seed=22), CONFIG)


# ---------------------------------------------------------------------------------------------------------------------
# Predictions


@pytest.fixture
def displayed(monkeypatch):
    """What `predict` displays, in a kernel that has recorded nothing."""
    shown = []
    monkeypatch.setattr("rmu_lab.course.predictions.display", shown.append)
    monkeypatch.setattr(predictions, "_RECORDED", {})
    return shown


def test_a_number_is_recorded_when_its_slider_moves(displayed, capsys):
    guess = predict("n", "How far does it fall?", high=50, unit="points")
    assert guess.value is None
    guess.beside(12.0)
    assert capsys.readouterr().out == "You recorded no guess.\nmeasured 12 points\n"
    slider, _, said = displayed[1].children
    slider.value = 30
    assert guess.value == 30 and "Recorded: 30 points" in said.value
    guess.beside(Accuracy(0.12, (0.05, 0.2), (), (), "cloze"))
    assert capsys.readouterr().out == "you said 30 points; measured 12 points [5, 20]\n"


def test_sliders_that_stand_right_are_recorded_by_the_button(displayed):
    guess = predict("n", "How many?", rows=["bio", "general"], unit="%")
    *_, button, _ = displayed[1].children
    button.click()
    assert guess.value == {"bio": 50, "general": 50}


def test_an_option_is_recorded_when_its_button_is_pressed(displayed, capsys):
    guess = predict("n", "Which layer?", options=["early", "late"])
    buttons, _ = displayed[1].children
    assert buttons.value is None and buttons.description and buttons.tooltip
    buttons.value = "late"
    assert guess.value == "late"
    guess.beside("early")
    assert capsys.readouterr().out == "you said late; measured: early\n"


def test_numbers_by_row_are_drawn_beside_what_was_guessed(displayed, monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr("rmu_lab.course.predictions.show", lambda figure, alt: drawn.append((figure, alt)))
    guess = predict("n", "What will it be?", rows=["bio", "general"], unit="%")
    guess.beside({"bio": 41, "general": 83})
    assert capsys.readouterr().out == "You recorded no guess.\n"
    displayed[1].children[0].value = 30
    assert guess.value == {"bio": 30}
    guess.beside({"bio": 41, "general": 83})
    assert [alt for _, alt in drawn] == [
        "bio: measured 41% general: measured 83%",
        "bio: you said 30%; measured 41% general: measured 83%",
    ]
    with pytest.raises(ValueError, match="no result for 'general'"):
        guess.beside({"bio": 41})


def test_running_a_prediction_again_keeps_the_guess_while_it_is_the_same_question(displayed):
    predict("n", "Which?", options=["a", "b"]).record("a")
    assert predict("n", "Which?", options=["a", "b"]).value == "a"
    assert displayed[-1].children[0].value == "a"
    assert predict("n", "Which?", options=["c", "d"]).value is None
    predict("m", "How many?").record(7)
    assert predict("m", "How many?", high=5).value is None


def test_a_reader_without_a_kernel_is_asked_in_words_that_are_escaped(displayed):
    predict("n", HOSTILE, options=[HOSTILE, "other"], rows=[HOSTILE])
    static = displayed[0]._repr_html_()
    assert "<script" not in static and static.count("&lt;script&gt;") == 3
    displayed[1].children[0].value = HOSTILE
    assert "<script" not in displayed[1].children[-1].value


@pytest.mark.parametrize(("row", "value"), [("", 101), ("", "a"), ("other", 5)])
def test_what_cannot_be_guessed_is_refused(displayed, row, value):
    guess = predict("n", "How many?")
    with pytest.raises(ValueError):
        guess.record(value, row)
    assert guess.value is None


def test_what_cannot_be_asked_is_refused(displayed):
    with pytest.raises(ValueError, match="at least two options"):
        predict("n", "Which?", options=["a"])
    with pytest.raises(ValueError, match="give a range"):
        predict("n", "How many?", low=1, high=1)


# ---------------------------------------------------------------------------------------------------------------------
# The strength of an edit


def test_answers_go_from_the_base_models_to_the_edited_ones(model, tokenizer, result):
    from rmu_lab import answers

    before, prompts = weights_of(model), ["the sea", "a fish"]
    said = answers_at(model, tokenizer, result, prompts, (0.0, 1.0), max_new_tokens=4)
    assert said[0.0] == answers(model, tokenizer, prompts, max_new_tokens=4)
    with result.applied(model):
        assert said[1.0] == answers(model, tokenizer, prompts, max_new_tokens=4)
    assert same_weights(model, before)


def test_an_answer_is_printed_before_and_after(model, tokenizer, result, capsys):
    asked = ["the sea", "a fish"]
    print_answers(model, tokenizer, result, *asked, max_new_tokens=4)
    said = answers_at(model, tokenizer, result, asked, (0.0, 1.0), max_new_tokens=4)
    expected = [f"{asked[i]}\n   before: {said[0.0][i]}\n   after:  {said[1.0][i]}\n" for i in (0, 1)]
    assert capsys.readouterr().out == "".join(expected)


def test_an_error_while_answering_leaves_the_model_as_it_was(model, tokenizer, result, monkeypatch):
    before = weights_of(model)

    def broken(*_args, **_named):
        assert not same_weights(model, before)
        raise KeyboardInterrupt

    monkeypatch.setattr("rmu_lab.course.strength.answers", broken)
    with pytest.raises(KeyboardInterrupt):
        answers_at(model, tokenizer, result, ["the sea"], (0.5,))
    assert same_weights(model, before)


def test_strength_slider_asks_once_for_each_strength_and_escapes(model, tokenizer, result, monkeypatch):
    asked = []

    def hostile(_model, _tokenizer, prompts, **_named):
        asked.append(prompts)
        return [HOSTILE for _ in prompts]

    monkeypatch.setattr("rmu_lab.course.strength.answers", hostile)
    slider, shown = strength_slider(model, tokenizer, result, [HOSTILE], (0, 0.5, 1)).children
    for value in (0.5, 1, 0.5, 0):
        slider.value = value
    assert len(asked) == 3 and slider.description and slider.tooltip
    assert "s = 0<" in shown.value and "<script" not in shown.value and "<b>" not in shown.value


def test_strength_slider_says_what_went_wrong(model, tokenizer, result, monkeypatch):
    def refused(*_args, **_named):
        raise RmuLabError("<b>too long</b>")

    monkeypatch.setattr("rmu_lab.course.strength.answers", refused)
    _, shown = strength_slider(model, tokenizer, result, ["the sea"]).children
    assert 'role="alert">&lt;b&gt;too long' in shown.value


def test_strength_panel_is_text_for_every_strength():
    panel = strength_panel(["Why?"], {0.0: ["because"], 1.0: ["<or>"]})._repr_html_()
    assert "s = 0</dt><dd>because" in panel and "s = 1</dt><dd>&lt;or&gt;" in panel


# ---------------------------------------------------------------------------------------------------------------------
# The colour of a token


def test_token_cosines_are_those_of_the_model_without_and_with_the_edit(model, tokenizer, result):
    from rmu_lab import alignment

    before, text = weights_of(model), "the sea is cold"
    cosines = token_cosines(model, tokenizer, result, text)
    (u,) = result.directions.values()
    torch.testing.assert_close(torch.tensor(cosines.before[1:]), alignment(model, tokenizer, [text], u, 2))
    with result.applied(model):
        torch.testing.assert_close(torch.tensor(cosines.after[1:]), alignment(model, tokenizer, [text], u, 2))
    assert "".join(cosines.tokens) == text and same_weights(model, before)


def test_token_colours_colour_what_is_typed_and_escape_it(model, tokenizer, result):
    before = weights_of(model)
    box, button, shown = token_colours(model, tokenizer, result, "the sea").children
    assert box.description and button.tooltip
    box.value = HOSTILE
    button.click()
    assert "<script" not in shown.value and "<b>" not in shown.value and 'title="cos(u, h) = ' in shown.value
    box.value = ""
    button.click()
    assert 'role="alert"' in shown.value and same_weights(model, before)


@given(st.lists(st.tuples(st.text(max_size=8), st.floats(-1, 1), st.floats(-1, 1)), min_size=2, max_size=6))
@settings(max_examples=50, deadline=None)
def test_no_token_gets_out_of_its_span(rows):
    tokens, before, after = zip(*rows, strict=True)
    spans, tags = [], set()

    class Reader(HTMLParser):
        inside = False

        def handle_starttag(self, tag, attributes):
            self.inside = tag == "span"
            tags.add(tag)
            if tag == "span":
                spans.append("")
                assert {name for name, _ in attributes} == {"style", "title"}

        def handle_data(self, data):
            if self.inside:
                spans[-1] += data

        def handle_endtag(self, tag):
            self.inside = False

    reader = Reader()
    reader.feed(_tokens_html(TokenCosines(tokens, before, after)))
    visible = [token.replace("\n", "⏎") or "∅" for token in tokens]
    assert spans[: 2 * len(rows)] == 2 * visible
    assert tags == {"p", "strong", "br", "span", "small"}


def test_token_panel_draws_every_token_twice():
    cosines = TokenCosines(tuple(f" word{index}" for index in range(30)), (0.0,) * 30, (1.0,) * 30)
    figure = token_panel(cosines, title="T", width=60)
    assert len(figure.axes[0].patches) == 60
    assert "29 of 29 tokens are over 0.5: word1, word2" in str(cosines)


# ---------------------------------------------------------------------------------------------------------------------
# RMU in two dimensions


def test_the_toy_minimises_the_loss_that_it_says():
    """Where Adam has come to rest, it is where least squares say."""
    from rmu_lab.course import toy

    forget, retain = 2 * toy._FORGET, 2 * toy._RETAIN
    target, alpha = 3 * toy.DIRECTION, 1.0
    rows = np.concatenate([forget, alpha**0.5 * retain])
    wanted = np.concatenate([np.tile(target, (3, 1)), alpha**0.5 * retain])
    best = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    run = train_toy(3.0, alpha, 0.1, 2.0)
    assert np.abs(run.forget[-1] - forget @ best).max() < 0.3
    assert np.abs(run.retain[-1] - retain @ best).max() < 0.3


@given(st.sampled_from([0.3, 1.0, 3.0, 10.0]), st.sampled_from([1.0, 2.0, 4.0]))
@settings(max_examples=12, deadline=None)
def test_more_alpha_keeps_retain_states_and_steers_less(alpha, norm):
    little, much = train_toy(8, alpha, 0.1, norm), train_toy(8, 100 * alpha, 0.1, norm)
    assert much.drift[-1] < little.drift[-1] and much.cosine[-1] < little.cosine[-1]


@given(st.floats(0.5, 8), st.floats(0.1, 100), st.floats(1.5, 4))
@settings(max_examples=20, deadline=None)
def test_adaptive_targets_do_not_care_about_the_norm(norm, alpha, beta):
    """With beta ||h|| for c, a state k times as long is moved k times as far: Adam does not see the scale of the loss."""
    one, other = (train_toy(beta, alpha, 0.05, size, adaptive=True) for size in (1.0, norm))
    np.testing.assert_allclose(other.forget, norm * one.forget, rtol=1e-3, atol=1e-3 * norm)


def test_toy_widget_draws_again_when_a_knob_is_turned():
    *controls, picture, said = toy_rmu().children
    assert all(control.description for control in controls)
    first = picture.value, said.value
    controls[1].value = 100
    assert picture.value != first[0] and said.value != first[1]
    controls[1].value = 1
    assert (picture.value, said.value) == first  # nothing of a run is left in the next
    source, alt, width = re.findall(r'base64,([^"]+)" alt="([^"]+)" width="(\d+)"', picture.value)[0]
    assert PIL.Image.open(io.BytesIO(base64.b64decode(source))).width == pytest.approx(2 * int(width), abs=2)
    assert f">{alt}<" in said.value
    assert not plt.get_fignums()


# ---------------------------------------------------------------------------------------------------------------------
# What is printed


def test_print_table_aligns_text_left_and_numbers_right(capsys):
    print_table([{"set": "bio", "n": 7, "share": 0.41234}, {"set": "general", "n": 100, "share": 1.0}])
    assert capsys.readouterr().out == "set         n   share\nbio         7   0.412\ngeneral   100       1\n"
    print_table([("a", 1), ("bb", 22)], ["x", "y"])
    assert capsys.readouterr().out == "x     y\na     1\nbb   22\n"
    for rows in ([], [(1,)] * 9):
        with pytest.raises(ValueError, match="print from 1 to 8"):
            print_table(rows)


def test_print_changes_gives_each_set_its_interval(capsys):
    right, wrong = (Accuracy(value, (0, 1), (0,) * 4, (bool(value),) * 4, "cloze") for value in (1.0, 0.0))
    print_changes({"bio": right, "general": right, "left out": right}, {"bio": wrong, "general": right})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("bio      100% ->   0%   change -100.0 [-") and second.startswith(
        "general  100% -> 100%   change +0.0"
    )
