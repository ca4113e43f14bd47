"""What notebook 00 alone uses: its topics to forget and its figures."""

import matplotlib.pyplot as plt
import pytest

from rmu_lab.course import core
from rmu_lab.course.first_figures import cost_figure, hide_or_erase_diagram, strength_curves
from rmu_lab.course.plots import fit_titles, style
from rmu_lab.course.ready_topics import Topic, most_alike, quiz, ready_topic, topic_tests
from rmu_lab.errors import RmuLabError
from rmu_lab.estimates import wilson_interval
from rmu_lab.evaluate import Accuracy, accuracy_change
from rmu_lab.questions import checked_questions
from tests.conftest import tiny_model


@pytest.fixture(autouse=True)
def _close_figures():
    style()
    yield
    plt.close("all")


def score(right: int, n: int = 20) -> Accuracy:
    correct = (True,) * right + (False,) * (n - right)
    return Accuracy(right / n, wilson_interval(right, n), (0,) * n, correct, "cloze")


@pytest.mark.parametrize("name", ["volcanoes", "football"])
def test_ready_topics_pass_what_the_notebook_asks_of_a_topic(name):
    topic = ready_topic(name)
    assert len(topic.sentences) == len(topic.alike) == 12
    assert most_alike(topic.sentences) < 0.6 < most_alike(topic.alike)
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
    assert topic.alike == ("Bees make honey.", "Bees make honey.")
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
        (own_topic(sentences=ready_topic().alike), "share most of their words"),
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


def test_hidden_and_erased_are_drawn_apart():
    words = texts_of(hide_or_erase_diagram("Who?", "somebody"))
    assert words.count("somebody") == 3 and "(empty)" in words and "astray" in words


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
