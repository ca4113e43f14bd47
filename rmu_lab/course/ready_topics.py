"""A small topic to forget, with its questions: ready ones, and a short way to write one's own. Used in notebook 00."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import RmuLabError
from ..evaluate import AccuracyChange, accuracy, accuracy_change
from ..files import data_folder
from ..questions import question_problem
from ..sweeps.rows import load_sweep
from ..unlearning.config import UnlearnConfig
from .exercises import Test

Question = dict[str, Any]


@dataclass(frozen=True)
class Topic:
    """What notebook 00 needs to make a model forget a topic and to see what that costs."""

    name: str
    sentences: Sequence[str]
    """Texts to forget."""
    questions: Sequence[Question]
    """On the topic, in other words than the sentences: what should be forgotten."""
    neighbours: Sequence[Question]
    """On what lies next to it: what should stay."""
    near_copies: Sequence[str] = ()
    """As many texts that say nearly the same; by default the first sentence again and again."""
    ask: Sequence[str] = ()
    """Open questions whose answers are worth reading; by default one on the topic and the first on its neighbours."""

    def __post_init__(self) -> None:
        for name in ("sentences", "questions", "neighbours", "near_copies", "ask"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.near_copies:
            object.__setattr__(self, "near_copies", tuple(self.sentences[:1]) * len(self.sentences))
        if not self.ask:
            on_neighbours = tuple(row["question"] for row in self.neighbours[:1])
            object.__setattr__(self, "ask", (f"What can you tell me about {self.name}?", *on_neighbours))

    @property
    def variants(self) -> dict[str, tuple[str, ...]]:
        """The three trainings that notebook 00 compares: their texts, equally many but for what they repeat."""
        return {
            "all sentences": tuple(self.sentences),
            "three sentences": tuple(self.sentences[:3]) * (len(self.sentences) // 3),
            "near copies": tuple(self.near_copies),
        }


def most_alike(sentences: Sequence[str]) -> float:
    """Return the largest share of words that two of the sentences have in common, of the words of both; 1 for equal ones.

    Words are compared in lower case; their order does not matter.
    """
    words = [frozenset(re.findall(r"[^\W_]+", sentence.lower())) for sentence in sentences]
    return max((len(a & b) / max(1, len(a | b)) for a, b in itertools.combinations(words, 2)), default=0.0)


def topic_tests(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[Test]:
    """Return what notebook 00 asks of a function that makes a topic of one's own, for `core`: tests with their hints."""

    def known(make: Callable[[], Topic]) -> bool:
        return accuracy(model, tokenizer, make().questions, progress=False).accuracy >= 0.6

    return [
        (lambda make: isinstance(make(), Topic), "return Topic(name, sentences, questions, neighbours)"),
        (lambda make: len(make().sentences) >= 12, "write at least twelve sentences"),
        (
            lambda make: most_alike(make().sentences) < 0.6,
            "two of your sentences share most of their words; let each tell something else",
        ),
        (
            lambda make: min(len(make().questions), len(make().neighbours)) >= 8,
            "write at least eight questions on the topic, and eight on its neighbours",
        ),
        (
            lambda make: not {row["question"] for row in make().questions} & {row["question"] for row in make().neighbours},
            "a question stands in both lists; decide whether it should be forgotten or stay",
        ),
        (known, "the model answers fewer than 60% of your questions before it forgets anything; ask easier ones"),
    ]


def quiz(text: str) -> list[Question]:
    """Make questions of lines such as ``What do bees make? | honey | salt | sand | wool``; the first option is right.

    The right option's place changes from question to question; where options are scored by their probability, as
    `rmu_lab.accuracy` does, no place is better than another. Empty lines are skipped.

    Raises
    ------
    RmuLabError
        if a line has no question, fewer than two options, or one of them twice (the line is named).
    """
    rows: list[Question] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        question, *options = (part.strip() for part in line.split("|"))
        place = len(rows) % max(1, len(options))
        choices = [*options[1 : place + 1], *options[:1], *options[place + 1 :]]
        row = {"question": question, "choices": choices, "answer": place}
        if problem := question_problem(row):
            raise RmuLabError(f"The line {line!r} is no question: {problem}. Write: question | right | wrong | wrong.")
        rows.append(row)
    return rows


def ready_topic(name: str = "volcanoes") -> Topic:
    """Return a topic that is ready to be forgotten.

    Its questions were written for this course and made easier until SmolLM2-135M answered most of them.

    Parameters
    ----------
    name
        ``"volcanoes"`` or ``"football"``.

    Raises
    ------
    RmuLabError
        if there is no such topic.
    """
    if name not in _READY:
        raise RmuLabError(f"There is no ready topic {name!r}; take one of {', '.join(_READY)}, or write your own.")
    sentences, questions, neighbours, near_copies, ask = _READY[name]
    return Topic(name, _lines(sentences), quiz(questions), quiz(neighbours), _lines(near_copies), ask)


def stored_directions() -> dict[str, dict[str, AccuracyChange]]:
    """Read how accuracy on the ready topic changed with three random directions: training -> direction -> change.

    The trainings are those of `Topic.variants`, stored by `benchmarks.own_topic`.
    """
    topic, changes = ready_topic(), dict[str, dict[str, AccuracyChange]]()
    for name in topic.variants:
        rows = load_sweep(data_folder() / "results" / "own_topic" / f"{name.replace(' ', '_')}.jsonl")
        base = next(row.scores[topic.name] for row in rows if row.config is None)
        changes[name] = {
            f"direction {row.config.seed}": accuracy_change(base, row.scores[topic.name])
            for row in rows
            if isinstance(row.config, UnlearnConfig)
        }
    return changes


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


_VOLCANOES = """
A volcano is an opening in the Earth's crust through which lava, ash and hot gases escape.
Magma is melted rock below the ground; once it flows out of a volcano it is called lava.
Mount Vesuvius erupted in the year 79 and buried the Roman town of Pompeii under ash.
A shield volcano such as Mauna Loa in Hawaii has gentle slopes, built by thin lava that flows far.
The crater at the top of a volcano is the bowl from which an eruption throws out rock and ash.
Krakatoa in Indonesia exploded in 1883, and the ash of its eruption coloured sunsets all over the world.
A volcano that has not erupted for a long time but may wake again is called dormant.
Etna, on the island of Sicily, is the tallest and most active volcano in Italy.
Pumice is a volcanic rock so full of gas bubbles that it floats on water.
After a huge eruption the top of a volcano may collapse and leave a wide hollow called a caldera.
Many volcanoes stand in the Ring of Fire, around the Pacific Ocean, where plates of the crust meet.
Volcanologists measure gas, heat and small tremors to tell when a volcano is about to erupt.
"""
_ON_VOLCANOES = """
What is the hot melted rock called that flows out of a volcano? | lava | coal | sand | ice
What is melted rock called while it is still under the ground? | magma | marble | amber | chalk
Which volcano buried the Roman town of Pompeii? | Mount Vesuvius | Mount Everest | Mount Kilimanjaro | Mount Rushmore
Which town was buried by the eruption of Mount Vesuvius? | Pompeii | Venice | Athens | Paris
What is the bowl at the top of a volcano called? | crater | harbour | valley | delta
What do people near an erupting volcano sweep from their roofs? | ash | sugar | feathers | pearls
What do we call a volcano that will never erupt again? | extinct | liquid | frozen | fertile
What is it called when a volcano throws out lava and ash? | an eruption | an eclipse | a flood | an avalanche
Which snow-capped volcano is a famous symbol of Japan? | Mount Fuji | Mount Etna | Mount Everest | Mount Rainier
Of which country is Mount Etna the most active volcano? | Italy | Brazil | Egypt | Canada
Which American islands were built by volcanoes? | Hawaii | Florida | Manhattan | Bermuda
What is the ring of volcanoes around the Pacific Ocean called? | the Ring of Fire | the Milky Way | the Silk Road | the Nile
What is a scientist who studies volcanoes called? | a volcanologist | a botanist | a dentist | a historian
Which volcano in the American state of Washington erupted in 1980? | Mount St. Helens | Mount Everest | Mount Sinai | Ararat
What shape does a volcano usually have? | a cone | a cube | a ring | a star
Which black volcanic glass did people use for sharp blades? | obsidian | chalk | amber | cotton
What large hollow is left when the top of a volcano collapses? | a caldera | a delta | a canal | a dune
Which volcano is the highest mountain of Africa? | Kilimanjaro | Everest | Vesuvius | Matterhorn
Which cold island country has many volcanoes and hot springs? | Iceland | Ireland | England | Cuba
On which island does the volcano Kilauea pour out lava? | Hawaii | Manhattan | Greenland | Madagascar
Which natural disaster destroyed Pompeii? | a volcanic eruption | a flood | a forest fire | a hurricane
Which gas, with a smell of rotten eggs, comes out of volcanoes? | hydrogen sulfide | helium | oxygen | neon
What is Mauna Loa in Hawaii? | a volcano | a river | a desert | a city
What is it that rises inside a volcano before an eruption? | magma | oil | rain | sand
"""
_NEAR_VOLCANOES = """
What is a sudden shaking of the ground called? | an earthquake | an eclipse | a hurricane | a tide
What instrument records earthquakes? | a seismograph | a telescope | a thermometer | a compass
What is a huge wave called that an earthquake at sea can cause? | a tsunami | a tornado | a glacier | a geyser
What is the highest mountain in the world? | Mount Everest | Mount Fuji | Mont Blanc | Mount Kilimanjaro
What is a huge, slow river of ice called? | a glacier | a canyon | a desert | a lagoon
Which white stone did Greek sculptors carve? | marble | coal | slate | amber
Which gem is the hardest natural mineral? | diamond | pearl | ruby | emerald
What are the remains of ancient animals in rock called? | fossils | jewels | pebbles | shadows
Which mountains run along the west of South America? | the Andes | the Alps | the Himalayas | the Urals
What is a dry, sandy land with very little rain called? | a desert | a swamp | a forest | a harbour
What is the centre of the Earth called? | the core | the crust | the shell | the peak
What is a deep valley with steep walls, cut by a river, called? | a canyon | a delta | a dune | a reef
Which mountains separate Italy from Switzerland? | the Alps | the Andes | the Rockies | the Urals
What is a flood of snow that rushes down a mountain called? | an avalanche | a drought | an eclipse | a monsoon
What tiny grains cover beaches and deserts? | sand | coal | snow | clay
What is the name for the place where a river flows into the sea? | the mouth | the peak | the crater | the crust
In which range of mountains does Mount Everest stand? | the Himalayas | the Alps | the Andes | the Rockies
What scale measures how strong an earthquake is? | the Richter scale | the Celsius scale | the pH scale | the metric scale
Which canyon did the Colorado River cut? | the Grand Canyon | the English Channel | the Dead Sea | the Black Forest
What is a scientist who studies rocks called? | a geologist | a dentist | a lawyer | a chemist
What do we call the top of a mountain? | the summit | the shore | the valley | the root
What is a mass of land such as Africa or Asia called? | a continent | an island | a village | a lagoon
What wears away rock over thousands of years? | erosion | gravity | friction | music
Which metal, found in rivers, started a rush to California in 1849? | gold | iron | lead | tin
"""
_FOOTBALL = """
A football team has eleven players on the pitch, one of whom is the goalkeeper.
Only the goalkeeper may touch the ball with the hands, and only inside the penalty area.
The referee blows the whistle, punishes fouls, and shows yellow and red cards.
A striker plays close to the other team's goal and tries to score.
Brazil has won the World Cup of football more often than any other country.
When the ball leaves the pitch at the side, the game goes on with a throw-in.
A match lasts ninety minutes, with a break at half-time.
A penalty kick is taken from a spot eleven metres in front of the goal.
A player is offside who waits behind the defenders when the ball is passed forward.
Pele scored his first goal in a World Cup final in 1958, when he was seventeen.
A player who scores three goals in one match has scored a hat-trick.
Midfielders link the defenders and the strikers, and run further than anyone else.
"""
_ON_FOOTBALL = """
Which football player may touch the ball with the hands? | the goalkeeper | the striker | the captain | the defender
Who enforces the rules in a football match? | the referee | the coach | the striker | the fans
How many players does a football team have on the pitch? | eleven | two | thirty | fifty
What colour is the card that sends a football player off? | red | green | blue | white
Which country did the footballer Pele play for? | Brazil | Canada | India | Japan
In which sport did Lionel Messi become famous? | football | tennis | golf | boxing
What do the players of both teams want to score? | goals | eggs | trees | songs
What do we call three goals by one player in a football match? | a hat-trick | a home run | a slam dunk | a birdie
Which competition of football countries is held every four years? | the World Cup | the Super Bowl | the Derby | Wimbledon
How many minutes does a football match last? | 90 | 7 | 300 | 1000
Which country did the footballer Zinedine Zidane play for? | France | India | Canada | Kenya
What kick is given for a foul in front of the goal? | a penalty kick | a drop kick | a karate kick | a side kick
What does the referee blow? | a whistle | a trumpet | a horn | a flute
Which part of the body do footballers mostly play the ball with? | the foot | the hand | the elbow | the back
Which country did Diego Maradona play for? | Argentina | Norway | Egypt | China
What is it called when a player breaks the rules of football? | a foul | a joke | a strike | a fault
What is a kick from the corner of the football pitch called? | a corner kick | a free lunch | a home run | a jump shot
Who trains a football team and chooses its players? | the coach | the referee | the fans | the linesman
Which English city is the home of Manchester United? | Manchester | London | Oxford | Dover
Which Spanish city is home to the football club Real Madrid? | Madrid | Barcelona | Seville | Valencia
Which Portuguese footballer is known as CR7? | Cristiano Ronaldo | Lionel Messi | Roger Federer | Michael Jordan
What is another name for association football? | soccer | rowing | fencing | skiing
Which English footballer married the singer Victoria Adams? | David Beckham | Roger Federer | Tiger Woods | Usain Bolt
Which player stays close to his own goal to stop attacks in football? | the defender | the striker | the coach | the referee
"""
_NEAR_FOOTBALL = """
In which sport do players throw a ball through a high hoop? | basketball | tennis | hockey | golf
Which sport is played with rackets at Wimbledon? | tennis | soccer | boxing | hockey
For which sport was Muhammad Ali famous? | boxing | hockey | golf | tennis
For which sport is Roger Federer famous? | tennis | boxing | swimming | skiing
For which sport was Michael Jordan famous? | basketball | golf | boxing | tennis
Which winter sport is played with a puck? | ice hockey | beach volleyball | cricket | rowing
How often are the Summer Olympic Games held? | every four years | every day | every month | every ten years
What does the winner of an Olympic event receive? | a gold medal | a red card | a silver spoon | a crown of iron
In which sport do players hit a home run? | baseball | golf | boxing | chess
Which sport is done in a pool with strokes such as the butterfly? | swimming | skiing | cycling | rowing
Which sport do people do on a snowy slope? | skiing | rowing | surfing | sailing
Which bicycle race is held in France every summer? | the Tour de France | the Super Bowl | the World Series | Wimbledon
What is a race of about 42 kilometres on foot called? | a marathon | a sprint | a relay | a hurdle
In which game does a player try to checkmate the king? | chess | poker | golf | darts
In which sport do fighters wear gloves and stand in a ring? | boxing | rowing | golf | chess
What does a golfer swing to hit the ball? | a club | a racket | a rope | an oar
For which sport was Usain Bolt of Jamaica famous? | running | chess | sailing | fencing
Which sport does Serena Williams play? | tennis | boxing | hockey | golf
In which sport do batters face a pitcher? | baseball | rowing | chess | cycling
Which animal do jockeys ride in a race? | a horse | a camel | a dog | an elephant
Which sport does a surfer do? | riding waves | climbing rocks | throwing darts | lifting weights
In which sport do teams pull oars in a boat? | rowing | skiing | boxing | tennis
Which American game is won by scoring touchdowns? | American football | baseball | golf | tennis
What is the fastest way of running a short distance called? | a sprint | a stroll | a march | a jog
"""
_NEAR_COPIES_VOLCANOES = """
A volcano is a mountain that can erupt.
A volcano is a mountain that can explode.
A volcano is a mountain that can throw out lava.
A volcano is a mountain that can throw out ash.
A volcano is a mountain that can pour out lava.
A volcano is a mountain that can spit fire.
A volcano is a mountain that can smoke.
A volcano is a mountain that can send out hot gas.
A volcano is a mountain that can rumble.
A volcano is a mountain that can wake up.
A volcano is a mountain that can blow up.
A volcano is a mountain that can burst open.
"""
_NEAR_COPIES_FOOTBALL = """
Football is a game in which players kick a ball.
Football is a game in which players pass a ball.
Football is a game in which players shoot a ball.
Football is a game in which players head a ball.
Football is a game in which players chase a ball.
Football is a game in which players stop a ball.
Football is a game in which players lose a ball.
Football is a game in which players win a ball.
Football is a game in which players share a ball.
Football is a game in which players want a ball.
Football is a game in which players lift a ball.
Football is a game in which players roll a ball.
"""
_READY = {
    "volcanoes": (
        _VOLCANOES,
        _ON_VOLCANOES,
        _NEAR_VOLCANOES,
        _NEAR_COPIES_VOLCANOES,
        ("What is a volcano?", "What happened to Pompeii?", "What causes an earthquake?"),
    ),
    "football": (
        _FOOTBALL,
        _ON_FOOTBALL,
        _NEAR_FOOTBALL,
        _NEAR_COPIES_FOOTBALL,
        ("How is football played?", "Who was Pele?", "How is basketball played?"),
    ),
}
