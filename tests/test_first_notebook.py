"""What notebook 00 alone uses: its topics to forget and its figures."""

from types import SimpleNamespace

import pytest

from rmu_lab.course import check, core
from rmu_lab.course.first_checks import clean_tests, lost_and_gained_tests, share_tests, verdict_tests
from rmu_lab.course.first_figures import before_and_after_bars, cost_figure, hide_or_erase_diagram, strength_curves
from rmu_lab.course.plots import fit_titles, style
from rmu_lab.course.predictions import Prediction
from rmu_lab.course.ready_topics import Topic, most_alike, quiz, ready_topic, stored_directions, topic_tests
from rmu_lab.errors import RmuLabError
from rmu_lab.estimates import wilson_interval
from rmu_lab.evaluate import Accuracy, accuracy_change
from rmu_lab.questions import checked_questions
from tests.conftest import tiny_model


@pytest.fixture(autouse=True)
def _styled():
    style()


def score(right: int, n: int = 20) -> Accuracy:
    correct = (True,) * right + (False,) * (n - right)
    return Accuracy(right / n, wilson_interval(right, n), (0,) * n, correct, "cloze")


@pytest.mark.parametrize("name", ["volcanoes", "football"])
def test_ready_topics_pass_what_the_notebook_asks_of_a_topic(name):
    topic = ready_topic(name)
    assert len(topic.sentences) == len(topic.near_copies) == 12
    assert most_alike(topic.sentences) < 0.6 < most_alike(topic.near_copies)
    for questions in (topic.questions, topic.neighbours):
        assert len(checked_questions(questions)) == 24
        asked = [row["question"] for row in questions]
        assert len(set(asked)) == len(asked)
        assert not [text for text in asked if text in topic.sentences]
        assert {row["answer"] for row in questions} == {0, 1, 2, 3}


def test_an_unknown_topic_is_named_with_those_there_are():
    with pytest.raises(RmuLabError, match="volcanoes, football"):
        ready_topic("bees")


def test_a_topic_of_ones_own_takes_lists_and_repeats_its_first_sentence():
    asked = quiz("What do bees make? | honey | salt")
    topic = Topic("bees", ["Bees make honey.", "A queen lays eggs."], asked, asked)
    assert topic.near_copies == ("Bees make honey.", "Bees make honey.")
    assert topic.sentences == ("Bees make honey.", "A queen lays eggs.")
    assert topic.ask == ("What can you tell me about bees?", "What do bees make?")


def test_the_first_option_of_a_line_is_right_wherever_it_ends_up():
    lines = [f"Which is number {n}? | right | w1 | w2 | w3" for n in range(5)]
    rows = quiz("\n\n".join(lines))
    assert [row["choices"][row["answer"]] for row in rows] == ["right"] * 5
    assert [row["answer"] for row in rows] == [0, 1, 2, 3, 0]
    assert all(sorted(row["choices"]) == ["right", "w1", "w2", "w3"] for row in rows)


@pytest.mark.parametrize("line", ["What do bees make?", "What? | honey", "What? | honey | honey", "| honey | salt"])
def test_a_line_that_is_no_question_is_quoted(line):
    with pytest.raises(RmuLabError, match="is no question"):
        quiz(line)


@pytest.mark.parametrize(
    ("sentences", "share"),
    [(["Bees fly.", "bees, fly"], 1.0), (["Bees fly.", "Fish swim."], 0.0), (["a b c", "b c d", "x y"], 0.5), (["one"], 0)],
)
def test_most_alike(sentences, share):
    assert most_alike(sentences) == share


def own_topic(**changes) -> Topic:
    ready = ready_topic()
    parts = {"name": "mine", "sentences": ready.sentences, "questions": ready.questions, "neighbours": ready.neighbours}
    return Topic(**(parts | changes))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (None, "not attempted"),
        ("volcanoes", "return Topic"),
        (own_topic(sentences=ready_topic().sentences[:11]), "at least twelve"),
        (own_topic(sentences=ready_topic().near_copies), "share most of their words"),
        (own_topic(neighbours=ready_topic().neighbours[:7]), "at least eight"),
        (own_topic(neighbours=ready_topic().questions), "both lists"),
        (own_topic(), "ask easier ones"),  # of a model that was never trained
    ],
)
def test_what_is_asked_of_a_topic(made, said, tokenizer, capsys):
    used = core(lambda: made, ready_topic, *topic_tests(tiny_model("llama"), tokenizer), name="topic")
    assert said in capsys.readouterr().out and used is ready_topic


def texts_of(figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def test_hidden_and_erased_store_different_things_and_answer_the_same():
    words = texts_of(hide_or_erase_diagram("Who?", "somebody"))
    assert words.count("somebody") == 3 and "(empty)" in words
    assert words.count("no right answer") == 2


def test_bars_show_the_options_alone_and_what_was_guessed():
    scores, alone = {"bio": (score(18), score(8)), "general": (score(17), score(16))}, {"bio": score(6), "general": score(5)}
    guess = Prediction("g", "?", rows=("bio", "general"), guesses={"bio": 40.0})
    for made, marks in ((None, []), (guess, [0.4])):
        axes = before_and_after_bars(scores, alone, made, title="t").axes[0]
        drawn = [line.get_segments()[0] for line in axes.collections]
        levels = [segment[0][1] for segment in drawn if len(segment) == 2 and segment[0][1] == segment[1][1]]
        assert {0.3, 0.25} <= {round(level, 9) for level in levels}
        assert [line.get_ydata()[0] for line in axes.lines if line.get_markersize() == 9] == marks


def test_strength_curves_draw_each_set_with_its_interval():
    figure = strength_curves({"bio": {0: score(18), 1: score(6)}, "general": {0: score(17), 1: score(16)}}, title="t")
    found = [container.lines[0] for container in figure.axes[0].containers]
    assert [[*line.get_ydata()] for line in found] == [[0.9, 0.3], [0.85, 0.8]]
    assert [[*line.get_xdata()] for line in found] == [[0, 1], [0, 1]]


def test_cost_figure_has_a_row_for_each_edit_and_a_mark_for_each_set():
    change = accuracy_change(score(18), score(6))
    figure = cost_figure({"a": {"x": change, "y": change}, "b": {"x": change, "y": change}}, title="long " * 40)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    marks = [line for line in axes.lines if line.get_marker() not in ("", "None", None)]
    assert len(marks) == 4 and all(abs(line.get_xdata()[0] + 60) < 1e-9 for line in marks)
    fit_titles(figure)
    assert "\n" in axes.get_title(loc="left")


def test_cost_figure_marks_the_guess_of_each_edit_that_has_one():
    change = accuracy_change(score(18), score(6))
    guess = Prediction("g", "?", rows=("a", "b"), low=-100, guesses={"b": -30.0})
    axes = cost_figure({"a": {"x": change}, "b": {"x": change}}, guess, title="t").axes[0]
    assert [[*line.get_xydata()[0]] for line in axes.lines if line.get_markersize() == 9] == [[-30.0, 0.78]]


def test_variants_are_equally_many_texts():
    own = own_topic(sentences=[f"Sentence number {n}." for n in range(14)])
    assert {name: len(texts) for name, texts in ready_topic().variants.items()} == {
        "all sentences": 12, "three sentences": 12, "near copies": 12,
    }  # fmt: skip
    assert own.variants["near copies"] == ("Sentence number 0.",) * 14
    assert set(own.variants["three sentences"]) == set(own.sentences[:3])


def test_three_directions_are_stored_for_each_training():
    stored = stored_directions()
    assert [*stored] == [*ready_topic().variants]
    for changes in stored.values():
        assert [*changes] == ["direction 0", "direction 1", "direction 2"]
        assert all(low <= each.change <= high for each in changes.values() for low, high in [each.interval])


def said(capsys, answer, tests) -> str:
    check(answer, *tests, name="exercise")
    return capsys.readouterr().out


def test_the_share_of_the_weights(capsys):
    model = tiny_model("llama")
    name, matrix = next((name, each.detach()) for name, each in model.named_parameters() if "down_proj" in name)
    weights = sum(each.numel() for each in model.parameters())
    tests = share_tests(SimpleNamespace(edit={name: matrix}), model)
    assert said(capsys, matrix.numel() / weights, tests) == "correct\n"
    assert "divide by all" in said(capsys, 0.5 * matrix.numel() / weights, tests)
    assert "between 0 and 1" in said(capsys, 2.0, tests)


def test_lost_and_gained(capsys):
    def right(old, new):
        pairs = [*zip(old.correct, new.correct, strict=True)]
        return pairs.count((True, False)), pairs.count((False, True))

    tests = lost_and_gained_tests(score(18), score(6))
    assert said(capsys, right, tests) == "correct\n"
    assert "two are lost" in said(capsys, lambda old, new: right(new, old), tests)
    assert "must be the fall" in said(capsys, lambda old, new: (2, 1), tests)


def test_texts_without_a_word(capsys):
    corpus = [{"text": "Volcanoes smoke."}, {"text": "A volcano."}, {"text": "Rivers run."}, {"text": "Bees fly."}]
    tests = clean_tests("volcan", corpus)
    assert said(capsys, ["Rivers run.", "Bees fly."], tests) == "correct\n"
    assert "every text" in said(capsys, ["Bees fly."], tests)
    assert "capital letters" in said(capsys, ["Volcanoes smoke.", "Bees fly."], tests)
    assert "not of rows" in said(capsys, corpus[2:], tests)


@pytest.mark.parametrize(
    ("found", "right"),
    [(score(2), "held it back"), (score(20), "helped it"), (score(9), "cannot tell")],
)
def test_the_verdict_is_what_the_interval_allows(found, right, capsys):
    tests = verdict_tests(score(10), found)
    for verdict in ("held it back", "helped it", "cannot tell"):
        assert (said(capsys, verdict, tests) == "correct\n") == (verdict == right)
    assert "say one of" in said(capsys, "perhaps", tests)
    assert "first" in said(capsys, right, verdict_tests(score(10), None))
