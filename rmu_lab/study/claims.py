"""The claims of Dang et al. 2024 (arXiv 2408.06223): what is said, what decides, where it is shown.

Statements are in our own words. Thresholds were written down before the study's runs and are not to be moved when a number
changes; lengths are in units of each model's own representations and layers in thirds of its depth, so that one rule serves
all models. It is one table, kept in one file although it is long, so that a rule can be read beside the claim it decides.
Taught in notebook 10.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import RmuLabError
from ..estimates import Number, Numbers
from . import readings
from .model_study import NotMeasuredError, Study
from .parts import STEPS
from .readings import CHEAP, DEAR, FIRST, LAST, MIDDLE, RIVALS, measured
from .rules import Rule, above, below
from .studied_models import MAIN, STUDIED
from .verdicts import NOT_MEASURED, overall


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, with what decides about it. Taught in notebook 10."""

    id: str
    part: str
    """Where in the paper."""
    plain: str
    """The claim in everyday words, for the scorecard's page."""
    statement: str
    reported: str
    """What the paper reports for it."""
    protocol: str
    """What was done here."""
    parts: tuple[str, ...]
    """Parts of the study that it rests on; empty where a benchmark of its own stored what it rests on."""
    read: tuple[Callable[[Study], Numbers], ...]
    """What gives its numbers, from a model's part of the study."""
    rule: Rule
    shown: str
    """Notebook and the section that shows it, with JupyterLab's anchor of its heading; empty while there is none."""
    shows: str
    """That section in two or three words."""
    line: str = ""
    """What makes that benchmark's results."""
    changed: str = ""
    """Why its rule is marked: it was changed after its numbers were seen, and no fresh data have confirmed it since."""

    def numbers(self, study: Study | str = MAIN) -> Numbers:
        """Look the rule's numbers up in what is stored of a model's part of the study, or of the one of this name.

        Raises
        ------
        NotMeasuredError
            if one is missing.
        """
        study = Study(study) if isinstance(study, str) else study
        numbers = {name: number for read in self.read for name, number in study.numbers(read).items()}
        asked = dict.fromkeys(condition.number for condition in self.rule.conditions)
        if missing := [name for name in asked if name not in numbers]:
            raise RmuLabError(f"Claim {self.id}: no number {missing[0]!r} was measured; there are {', '.join(numbers)}.")
        return {name: numbers[name] for name in asked}

    def verdict(self, numbers: Mapping[str, Number] | Study | str = MAIN) -> str:
        """Apply the rule to `numbers`, or to those stored of a model's part; without any, this is `NOT_MEASURED`."""
        try:
            return self.rule.verdict(numbers if isinstance(numbers, Mapping) else self.numbers(numbers))
        except NotMeasuredError:
            return NOT_MEASURED

    def overall(self) -> str:
        """Decide from the stored verdicts on all models."""
        return overall(self.verdict(model) for model in STUDIED)


THEORY = "02_confidence_reduction.ipynb"
COEFFICIENTS = "03_coefficient_effects.ipynb"
TRAINING = "04_rmu_training.ipynb"
ADAPTIVE = "05_adaptive_rmu.ipynb"
ATTACKS = "06_adversarial_attacks.ipynb"
COMPARISON = "08_comparing_methods.ipynb"

_speed, _price = (
    tuple(below(f"{kind} accuracy after {steps} steps, c = {DEAR} less c = {CHEAP} (points)", 0) for steps in STEPS)
    for kind in ("forget", "general")
)
FOLLOWED = "RMU: blocks from the steered one to the minimum, noise followed upwards"
FIXED = "RMU: ..., block by block, noise of fixed length"

_TABLE = [
    Claim(
        id="prop1",
        part="Prop 1",
        plain="Put c·u plus noise after a layer, and the logits follow the formula of Proposition 1",
        statement="If h = c u + Gaussian noise, the next token's logits follow N(W g(cu), η W J Jᵀ Wᵀ).",
        reported="derivation to first order, no test",
        protocol="c = 5 ‖h‖ after the chosen layer, noise of 0.21 ‖h‖: 128 draws run through the blocks, four "
        "directions and texts.",
        parts=("first_order",),
        read=(measured("first_order"),),
        rule=Rule(
            (
                above("variance, simulated / predicted", 0.9),
                below("variance, simulated / predicted", 1.1),
                below("share of logits told from normal (p < 0.01)", 0.1),
            )
        ),
        shown=f"{THEORY}#2.-Proposition-1",
        shows="Proposition 1",
    ),
    Claim(
        id="prop1-assumptions",
        part="Prop 1",
        plain="What RMU leaves beside c·u is small, has no preferred direction and ignores the text",
        statement="After unlearning, what is left of h beside c u is small, alike in all directions, and "
        "independent of the text.",
        reported="assumed",
        protocol="RMU with c = 5 ‖h‖ and several directions; h after the steered layer on 60 forget passages, "
        "first tokens left out.",
        parts=("confidence",),
        read=(measured("confidence"),),
        rule=Rule(
            (
                below("length of what is left over, in units of c", 0.25),
                above("effective dimensions of what is left over, of all", 0.5),
                below("share of it predictable from the text", 0.1),
            )
        ),
        shown=f"{THEORY}#4.-What-training-really-leaves-over",
        shows="what training leaves over",
    ),
    Claim(
        id="prop1-variance",
        part="Prop 1",
        plain="The steered representation is itself random, the more so the larger c",
        statement="The steered representation c u is itself random: its variance grows like c².",
        reported="step of the argument",
        protocol="c u put after the chosen layer in six texts, no noise: how the spread of the logits over texts "
        "goes with c from 0.9 to 26 ‖h‖. Slope 1 if variance grows like c².",
        parts=("spread",),
        read=(measured("spread"),),
        rule=Rule((above("slope of log spread over texts", 0.5),)),
        shown=f"{THEORY}#3.-Does-a-larger-c-make-the-logits-more-random?",
        shows="larger c, more random?",
    ),
    Claim(
        id="prop1-randomness",
        part="Prop 1",
        plain="A larger c makes the logits more random",
        statement="By Prop 1 a larger c makes the logits more random, ...",
        reported="consequence drawn from Prop 1",
        protocol="c u put after the chosen layer in six texts: how the spread of the logits over noise of 0.21 ‖h‖ "
        "goes with c from 0.9 to 26 ‖h‖, several directions. A shift common to all logits is taken away.",
        parts=("spread",),
        read=(measured("spread"),),
        rule=Rule((above("slope of log spread over noise", 0),)),
        shown=f"{THEORY}#3.-Does-a-larger-c-make-the-logits-more-random?",
        shows="larger c, more random?",
    ),
    Claim(
        id="prop1-confidence",
        part="Prop 1",
        plain="So the unlearned model is less confident",
        statement="... and so the unlearned model less confident.",
        reported="consequence drawn from Prop 1",
        protocol="Next-token distribution on the same forget passages before and after RMU with c = 5 ‖h‖, several "
        "directions: MaxLogit and entropy. Argument: the spread of the logits, as above.",
        parts=("confidence", "spread"),
        read=(
            measured("confidence"),
            measured("spread"),
        ),
        rule=Rule(
            (
                below("MaxLogit on given texts, unlearned less base", 0),
                above("entropy on given texts, unlearned less base (nats)", 0),
            ),
            against=(below("slope of log spread over noise", 0),),
        ),
        shown=f"{THEORY}#5.-Verdicts",
        shows="verdict",
    ),
    Claim(
        id="f2-lower",
        part="F2 a–d",
        plain="On forget questions the unlearned model's largest logit is lower",
        statement="The unlearned model's MaxLogit on forget questions is lower, ...",
        reported="plots, 3,260 WMDP prompts",
        protocol="32 forget test questions, greedy, 30 new tokens, before and after RMU with c = 5 ‖h‖, several directions.",
        parts=("confidence",),
        read=(measured("confidence"),),
        rule=Rule((below("MaxLogit, unlearned less base", 0),)),
        shown=f"{THEORY}#1.-What-happens-to-confidence?",
        shows="what happens to confidence?",
    ),
    Claim(
        id="f2-narrower",
        part="F2 a–d",
        plain="... its values lie closer together",
        statement="... its distribution narrower, ...",
        reported="plots",
        protocol="Standard deviation of the same MaxLogit values.",
        parts=("confidence",),
        read=(measured("confidence"),),
        rule=Rule((below("s.d. of MaxLogit, unlearned / base", 1),)),
        shown=f"{THEORY}#1.-What-happens-to-confidence?",
        shows="what happens to confidence?",
    ),
    Claim(
        id="f2-normal",
        part="F2 a–d",
        plain="... and are close to a normal distribution",
        statement="... and close to a normal one.",
        reported="plots",
        protocol="Excess kurtosis of the same MaxLogit values; 0 for a normal distribution.",
        parts=("confidence",),
        read=(measured("confidence"),),
        rule=Rule((below("excess kurtosis of MaxLogit", 1), above("excess kurtosis of MaxLogit", -1))),
        shown=f"{THEORY}#1.-What-happens-to-confidence?",
        shows="what happens to confidence?",
    ),
    Claim(
        id="f2-aligned",
        part="F2 e–h",
        plain="With a large c, hidden states on forget text all point along u",
        statement="cos(u, h) on forget text rises with c, to near 1.",
        reported="plots, peak near 1",
        protocol="RMU after the chosen layer, 40 steps, c = 1, 5 and 10 times ‖h‖, three directions; median over "
        "the tokens of 40 forget passages.",
        parts=("alignment",),
        read=(measured("alignment"),),
        rule=Rule(
            (
                below("median cos(u, h), c = 1 ‖h‖", 0.2),
                above("median cos(u, h), c = 5 ‖h‖", 0.9),
                above("median cos(u, h), c = 10 ‖h‖", 0.9),
            )
        ),
        shown=f"{COEFFICIENTS}#4.-Six-coefficients-in-the-real-model",
        shows="six coefficients",
    ),
    Claim(
        id="eq19",
        part="Eq 8–19",
        plain="The c that minimises noise sensitivity has a closed form",
        statement="The c that minimises noise sensitivity is c* = ‖J(ĥ−ε)‖ / ‖Ju‖ · cos(Ju, J(ĥ−ε)), and rises "
        "with that cosine.",
        reported="derivation, no test",
        protocol="From the chosen layer up to the next block and to eight above, eight directions: the closed form "
        "against least squares by finite differences; correlation over directions.",
        parts=("optimum",),
        read=(measured("optimum"),),
        rule=Rule(
            (
                below("c* off least squares by finite differences, in units of ‖h‖", 0.05),
                above("correlation of c* with the cosine, one block up", 0),
                above("correlation of c* with the cosine, further up", 0),
            )
        ),
        shown=f"{COEFFICIENTS}#7.-The-optimal-coefficient",
        shows="the optimal coefficient",
    ),
    Claim(
        id="eq19-optimal",
        part="Eq 8–19",
        plain="That c is the one to unlearn with",
        statement="So c* is the coefficient to unlearn with.",
        reported="reading of Eq 19",
        protocol="The size of c* as above; and what RMU with c = ‖h‖ / 4 does to 100 forget questions in 40 steps, "
        "three directions.",
        parts=("optimum", "coefficients"),
        read=(
            measured("optimum"),
            readings.read_shortest,
        ),
        rule=Rule((above("size of c*, in units of ‖h‖", 1), above("c = ‖h‖ / 4: points lost on bio", 20))),
        shown=f"{COEFFICIENTS}#7.-The-optimal-coefficient",
        shows="the optimal coefficient",
    ),
    Claim(
        id="f1-depth",
        part="F1",
        plain="Deeper layers' outputs change less under the same noise",
        statement="The sensitivity of a block's output to a fixed noise falls with depth.",
        reported="plots, three 7B to 8B models",
        protocol="Noise of 0.09 ‖h‖ of the chosen layer on each block's input, eight forget passages: the second "
        "to the last block of the first sixth over the last tenth.",
        parts=("sensitivity",),
        read=(measured("sensitivity"),),
        rule=Rule((above("fall with depth, noise of fixed length", 10),)),
        shown=f"{COEFFICIENTS}#First-half:-does-Phi-fall-with-depth?",
        shows="noise sensitivity",
    ),
    Claim(
        id="f1-robust",
        part="F1",
        plain="... because they are more robust",
        statement="... because later layers are more robust to noise.",
        reported="reading of F1",
        protocol="The same with noise of a tenth of each block's own ‖h‖, which grows with depth.",
        parts=("sensitivity",),
        read=(measured("sensitivity"),),
        rule=Rule(
            (above("fall with depth, noise of fixed length", 10),),
            against=(below("fall with depth, noise in units of ‖h‖", 2),),
        ),
        shown=f"{COEFFICIENTS}#First-half:-does-Phi-fall-with-depth?",
        shows="noise sensitivity",
    ),
    Claim(
        id="f1-steered",
        part="F1",
        plain="RMU makes the layer right after the steered one the least sensitive",
        statement="In an RMU model sensitivity is smallest right after the steered block, for noise put in below "
        "it and followed upwards.",
        reported="minimum at k = 8 for l = 7",
        protocol="RMU with c = 5 ‖h‖, three directions: where the minimum lies when noise is put in three blocks "
        "below the steered one.",
        parts=("sensitivity",),
        read=(measured("sensitivity"),),
        rule=Rule((below(FOLLOWED, 1.5),)),
        shown=f"{COEFFICIENTS}#Second-half:-is-Phi-smallest-right-after-the-steered-layer?",
        shows="right after the steered layer?",
    ),
    Claim(
        id="f1-steered-block",
        part="F1",
        plain="... also when each layer is disturbed by itself",
        statement="... and for noise of fixed length put into each block by itself.",
        reported="minimum at k = 8 for l = 7",
        protocol="The same models, each block by itself with noise of fixed length on its input.",
        parts=("sensitivity",),
        read=(measured("sensitivity"),),
        rule=Rule((below(FIXED, 1.5),)),
        shown=f"{COEFFICIENTS}#Second-half:-is-Phi-smallest-right-after-the-steered-layer?",
        shows="right after the steered layer?",
    ),
    Claim(
        id="f3-speed",
        part="F3",
        plain="A larger c forgets faster",
        statement="With a larger c forget accuracy falls faster.",
        reported="plots",
        protocol="RMU after the chosen layer, c = 2 and 10 ‖h‖, three directions; the same 100 forget questions "
        "after 10, 40 and 80 steps.",
        parts=("coefficients",),
        read=(readings.read_speed,),
        rule=Rule(_speed),
        shown=f"{TRAINING}#6.-The-verdict-on-Figure-3",
        shows="verdict on F3",
    ),
    Claim(
        id="f3-price",
        part="F3",
        plain="A larger c costs more general knowledge",
        statement="With a larger c more general accuracy is lost.",
        reported="plots, MMLU",
        protocol="The same runs on 100 general questions: equal α and steps.",
        parts=("coefficients",),
        read=(readings.read_speed,),
        rule=Rule(_price),
        shown=f"{TRAINING}#6.-The-verdict-on-Figure-3",
        shows="verdict on F3",
    ),
    Claim(
        id="f4",
        part="F4",
        plain="One c for all layers stretches hidden states at early layers and not at late ones",
        statement="With one c for all layers, ‖h‖ on forget text grows towards c at early layers and stays where "
        "it is at late ones, because it lies above c there.",
        reported="plots, c = 6.5",
        protocol="RMU with one c at nine layers, three directions: ‖h‖ in the last step over the first. Argument: "
        "the middle third, where c is longer than ‖h‖.",
        parts=("layers",),
        read=(readings.read_norms,),
        rule=Rule(
            (
                above(f"growth of ‖h‖, {FIRST}", 1.5),
                above(f"growth of ‖h‖, {LAST}", 0.8),
                below(f"growth of ‖h‖, {LAST}", 1.2),
            ),
            against=(above(f"c / ‖h‖, {MIDDLE}", 1.5), below(f"growth of ‖h‖, {MIDDLE}", 1.2)),
        ),
        shown=f"{ADAPTIVE}#4.-Figure-4,-the-norm-during-training",
        shows="Figure 4",
    ),
    Claim(
        id="f5",
        part="F5",
        plain="RMU works at early layers and fails at late ones; Adaptive RMU works at most",
        statement="RMU works at early layers and fails at late ones; Adaptive RMU works at most layers.",
        reported="l 3–10 / 11–31 / all: Adaptive drops 13.1 / 15.6 / 14.3 points more on bio",
        protocol="Both methods with one setting at nine layers, three directions. Argument: with c, α and the "
        "learning rate chosen for the layer on dev, does RMU fail in the last third?",
        parts=("layers", "own"),
        read=(
            readings.read_depth,
            readings.read_search,
        ),
        rule=Rule(
            (
                above(f"RMU, {FIRST}: points lost on bio", 20),
                below(f"RMU, {LAST}: points lost on bio", 10),
                above(f"Adaptive RMU, {LAST}: points lost on bio", 30),
            ),
            against=(above("a setting for each layer, RMU in the last third: points lost on bio", 30),),
        ),
        shown=f"{ADAPTIVE}#8.-An-equal-search-for-both-methods",
        shows="an equal search",
    ),
    Claim(
        id="f5-norm",
        part="F5",
        plain="RMU fails where hidden states are longer than c, and because of it",
        statement="RMU fails where, and because, ‖h‖ exceeds c.",
        reported="reading of F4 and F5",
        protocol="RMU with one c at the middle third of the layers; and at the last layer with c = 0.9 ‖h‖, held "
        "to retain texts by a tenth of α.",
        parts=("layers", "below"),
        read=(
            readings.read_norms,
            readings.read_depth,
            readings.read_below_the_norm,
        ),
        rule=Rule(
            (
                above(f"c / ‖h‖, {MIDDLE}", 1),
                above(f"RMU, {MIDDLE}: points lost on bio", 20),
                below("last layer, a tenth of alpha: c / ‖h‖", 1),
                below("last layer, a tenth of alpha: points lost on bio", 10),
            )
        ),
        shown=f"{ADAPTIVE}#7.-Four-ways-to-push-harder",
        shows="four ways to push harder",
    ),
    Claim(
        id="t1",
        part="T1",
        plain="RMU and Adaptive RMU forget more than LLMU, SCRUB and SSD, at no larger cost",
        statement="RMU and Adaptive RMU forget more than LLMU, SCRUB and SSD, and keep as much.",
        reported="bio / cyber / MMLU: base 63.7 / 43.5 / 58.1, LLMU 59.5 / 39.5 / 44.7, SCRUB 43.8 / 39.3 / 51.2, "
        "SSD 50.2 / 35.0 / 40.7, RMU 28.8 / 28.8 / 56.8, Adaptive RMU 23.7 / 26.5 / 55.0",
        protocol="Six settings of each method tried on dev, at most five points of general accuracy lost there; "
        "100 test questions of each kind, three directions.",
        parts=("rivals_dev", "rivals"),
        read=(readings.read_methods,),
        rule=Rule(
            tuple(
                condition
                for title in ("RMU", "Adaptive RMU")
                for rival in RIVALS.values()
                for condition in (
                    below(f"{title} less {rival}: forget accuracy (points)", 0),
                    above(f"{title} less {rival}: general accuracy (points)", -10),
                )
            )
        ),
        shown=f"{COMPARISON}#6.-On-new-questions",
        shows="both searches on new questions",
    ),
    Claim(
        id="t1-adaptive",
        part="T1",
        plain="Adaptive RMU forgets more than RMU, for little more cost",
        statement="Adaptive RMU forgets more than RMU at l = 7, for little more general accuracy.",
        reported="bio -5.1, cyber -2.3, MMLU -1.8 points",
        protocol="As for t1: each at the setting chosen for it on dev.",
        parts=("rivals_dev", "rivals"),
        read=(readings.read_methods,),
        rule=Rule(
            (
                below("Adaptive RMU less RMU: forget accuracy (points)", 0),
                above("Adaptive RMU less RMU: general accuracy (points)", -10),
            )
        ),
        shown=f"{COMPARISON}#6.-On-new-questions",
        shows="both searches on new questions",
    ),
    Claim(
        id="eq22-gradients",
        part="Eq 20–22",
        plain="An attacker gets almost no gradient from an RMU model",
        statement="An RMU model gives a white-box GCG attacker token gradients near zero, ...",
        reported="argument",
        protocol="GCG's gradient at the suffix it starts from, twelve forget questions, three directions: RMU with "
        "c = 5 ‖h‖ over the base model where that is asked for a text it finds as unlikely.",
        parts=("gradients",),
        read=(measured("gradients"),),
        rule=Rule((below("token gradient, RMU / base, at the same loss", 0.1),)),
        shown=f"{ATTACKS}#4.-Is-the-gradient-near-zero?",
        shows="the gradient",
    ),
    Claim(
        id="eq22-signal",
        part="Eq 20–22",
        plain="... and the gradient does not tell which swap helps",
        statement="... which do not tell which swap helps, as those of the base model do.",
        reported="argument",
        protocol="Twelve questions that the base model answers in words, three directions: Spearman's correlation of the "
        "gains that the gradient predicts for 64 random swaps of a token with their true gains.",
        parts=(),
        read=(readings.read_signal,),
        rule=Rule(
            (
                below("RMU: rank correlation of predicted and true gains", 0.1),
                above("base: rank correlation of predicted and true gains", 0.1),
            )
        ),
        shown=f"{ATTACKS}#4.-Is-the-gradient-near-zero?",
        shows="the gradient",
        line=readings.SUFFIXES_LINE,
    ),
    Claim(
        id="eq22-attack",
        part="Eq 20–22",
        plain="So a searched suffix does not bring the answer back",
        statement="So GCG finds no suffix that brings the answer back.",
        reported="in Li et al.: two Yi-34B questions, base broken in some 50 steps, RMU not in 2,500",
        protocol="GCG, up to 100 steps of 64 candidates, suffixes of twelve tokens, on the same questions: is the fact said "
        "after the best suffix? The base model says all of them. Argument: its first link, gradients near zero.",
        parts=(),
        read=(
            readings.read_suffixes,
            measured("gradients"),
        ),
        rule=Rule(
            (below("unlearned: attacks after which the fact is said", 0.5),),
            against=(above("token gradient, RMU / base, at the same loss", 0.1),),
        ),
        shown=f"{ATTACKS}#8.-What-a-larger-budget-changes",
        shows="a larger budget",
        line=readings.SUFFIXES_LINE,
    ),
    Claim(
        id="alg1-cost",
        part="Alg 1",
        plain="Training Adaptive RMU takes no longer than training RMU",
        statement="A training of Adaptive RMU costs no more than one of RMU.",
        reported="argued",
        protocol="Trainings of eight steps in turn, ten pairs after one of warming up; median of the ratios.",
        parts=("time",),
        read=(measured("time"),),
        rule=Rule((below("training time, Adaptive RMU / RMU", 1.1),)),
        shown=f"{ADAPTIVE}#8.-An-equal-search-for-both-methods",
        shows="Algorithm 1",
    ),
    Claim(
        id="alg1-search",
        part="Alg 1",
        plain="One β serves every layer",
        statement="One β serves every layer, so that L times less is to be searched than with a c for each.",
        reported="β of 2, 3, 5, 10 tried, 5 reported",
        protocol="The chosen setting at nine layers, and what dev chose for one layer of each third; three directions.",
        parts=("layers", "own"),
        read=(readings.read_search,),
        rule=Rule(
            (
                above("one beta: points lost on bio at its worst layer", 30),
                above("one beta less one c: points lost on bio at the worst layer", 20),
                below("a setting for each layer less one for all, Adaptive RMU: points lost on bio", 10),
            )
        ),
        shown=f"{ADAPTIVE}#8.-An-equal-search-for-both-methods",
        shows="an equal search",
    ),
]
CLAIMS: dict[str, Claim] = {claim.id: claim for claim in _TABLE}
"""Every claim by its id, in the order of the scorecard."""


def claim_of(name: str) -> Claim:
    """Look up the claim with this id.

    Raises
    ------
    RmuLabError
        if there is none; the message lists them.
    """
    if name not in CLAIMS:
        raise RmuLabError(f"There is no claim {name!r}; use one of {', '.join(CLAIMS)}.")
    return CLAIMS[name]
