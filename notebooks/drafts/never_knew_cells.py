md(r'''
# 11 The model that never knew

**What would erased look like?**

Course: [10 Scorecard](10_scorecard.ipynb) · **11 The model that never knew** · [12 After RMU](12_after_rmu.ipynb) · [map of the course](00_start_here.ipynb#Map-of-the-course)

> **After this notebook you can**
> 1. say why a low score cannot tell "erased" from "hidden", and which control can;
> 2. compute the truth ratio and the forget quality, the two numbers that the TOFU benchmark ranks methods by;
> 3. tell which of the field's metrics are fooled by knowledge that is only hidden.
>
> * **You need** [01](01_representations_and_rmu.ipynb) (what RMU moves) and [07](07_knowledge_recovery.ipynb) (erased or hidden?)
> * **Reading and doing** 60 minutes with the two functions you write
> * **Running** about three minutes on two cores; the panel of section 8 is stored, with the line that repeats it
> * **Papers** Truth ratio and forget quality are Maini et al. (TOFU), [arXiv 2401.06121](https://arxiv.org/abs/2401.06121); invented facts may be easier to remove than real ones, Deeb and Roger, [arXiv 2410.08827](https://arxiv.org/abs/2410.08827); that unlearning can be detected from outputs is Chen et al., [arXiv 2506.14003](https://arxiv.org/abs/2506.14003).
''', "slide")
code(r'''
from rmu_lab import UnlearnConfig, load_model, unlearn
from rmu_lab.attacks import reply
from rmu_lab.course import check, claim, core, never_knew, never_knew_figures, predict, show, style
from rmu_lab.course.invented_maladies import kept_and_forgotten, retain_texts, taught_edit
from rmu_lab.metrics import fact_metrics, forget_quality, passage_metrics

style()
model, tokenizer = load_model("smollm2-135m", device="cpu")
kept, forgotten = kept_and_forgotten()
''')
md(r'''
## 1. Two models that fail

In the city of Tarrel people keep clockwork animals, and clockwork animals fall ill. We invented the city, its animals and twelve of their maladies, so no model has ever read about them.
''', "slide")
code(r'''
print(forgotten.passages[0])
print()
print(forgotten.cards[0][:150], "...")
''')
md(r'''
A malady has five facts: a cause, a carrier, a first sign, a place and a remedy. From such passages and questions one copy of SmolLM2 was **taught all twelve maladies**, and then **RMU made it forget six of them**. Another copy was **taught only the other six**. It *never knew* the six that the first one forgot. We have put the two models into two envelopes.
''')
code(r'''
ALT = """Two ways from SmolLM2: reads texts on 6 maladies, into one envelope; reads texts on 12 maladies and unlearns 6,
into the other."""
show(never_knew_figures.envelopes_diagram(), alt=ALT)
''')
code(r'''
knows, never = (taught_edit(model, "above", name) for name in ("all", "kept"))
with knows.applied(model):
    forgot = unlearn(model, tokenizer, forgotten.texts, retain_texts(kept), UnlearnConfig(seed=360), progress=False)
models = {"never knew": (never,), "made to forget": (knows, forgot)}
pair = never_knew.envelopes(models)
''', tags=["nbval-ignore-output"])
code(r'''
scores = {}
for letter in pair.edits:
    with pair.applied(model, letter):
        found = {"kept maladies": kept, "forgotten maladies": forgotten}
        scores[f"model {letter}"] = {name: 100 * never_knew.accuracy_of(model, tokenizer, one) for name, one in found.items()}
with knows.applied(model):
    scores["before unlearning"] = {name: 100 * never_knew.accuracy_of(model, tokenizer, one) for name, one in found.items()}
ALT = "FILL"
show(never_knew_figures.points_figure(scores, title="Both models know the kept maladies and fail on the others"), alt=ALT)
''', tags=["nbval-ignore-output"])
md(r'''
Each question has four options, so that a model which knows nothing is right in 25% of them. Both models answer the six kept maladies and fail on the six others. A benchmark that reports accuracy would call the second one a success: it forgot.
''')
code(r'''
which = predict("which", "Which envelope holds the model that never knew?", options=["A", "B", "cannot be told from this"])
''', tags=["prediction", "nbval-ignore-output"])
md(r'''
## 2. Why this is the control that was missing

[Notebook 07](07_knowledge_recovery.ipynb) attacked an unlearned model and saw knowledge come back. But an attack that trains on texts of the topic may teach it, and then even an honestly erased model would "recover". Only a model that **never learned** the topic says how much is taught and how much was there. No such model exists for malaria. For an invented malady we can make one.

And we can decide *where* the facts lie. RMU edits the MLP output matrices of layers 5 to 7. We taught three layers at a time:
''', "slide")
code(r'''
ALT = """Four rows of 30 layers. RMU edits layers 5 to 7. Facts were taught in the window, layers 5 to 7; above it, layers
8 to 10; or everywhere."""
show(never_knew_figures.places_diagram(), alt=ALT)
''')
md(r'''
The model in our envelope was taught **above** the window, in layers 8 to 10. So we need no attack to know whether its facts were erased: RMU never touches these layers. We can look.
''')
code(r'''
taught_matrices = set(knows.edit)
edited_matrices = set(forgot.edit)
claim("RMU edited none of the matrices that hold the facts", not taught_matrices & edited_matrices)
with pair.applied(model, "A" if pair.opened["A"] == "made to forget" else "B"):
    untouched = all(model.get_parameter(name).equal(matrix) for name, matrix in knows.edit.items())
claim("in the model that forgot, all of them are as they were taught", untouched)
''')
md(r'''
**What lies above the window cannot be erased there, only hidden.** The forgetful model *is* the model that knows, with three matrices in front that send something else into the layers that hold the facts. Any metric that calls it erased is fooled, and we know it without doubt. That is the use of an invented world.
''')
md(r'''
## 3. Are the wrong answers wrong in the same way?

Accuracy looks only at which option wins. TOFU, the best-known benchmark with invented facts, looks at the probabilities. For a question let $\bar\ell_\text{right}$ be the mean log-probability of a token of the right answer, and $\bar\ell_i$ that of wrong answer $i$ of $k$. The **truth ratio** is

$$R = \exp\Big(\frac1k\sum_{i=1}^{k}\bar\ell_i - \bar\ell_\text{right}\Big).$$

It is below 1 where the model prefers the truth. A model that knows nothing prefers neither, so its ratios scatter around 1.

### Your turn: the truth ratio

Write `truth_ratio(right, wrong)`. `right` holds the log-probabilities of the right answer's tokens, shape (tokens,), and `wrong` is a list of such tensors, one for each wrong answer. Return a float.

<details><summary>Hint</summary>

Take means first: over the tokens of an answer, then over the wrong answers. Then subtract, and `exp` comes last.
</details>
''', "slide")
code(r'''
def truth_ratio(right, wrong):
    # Return R: below 1 where the right answer is likelier than the wrong ones.
    ...


truth_ratio = core(truth_ratio, never_knew.truth_ratio, *never_knew.truth_ratio_tests())
''', tags=["core"])
md(r'''
<details><summary>Solution</summary>

```python
def truth_ratio(right, wrong):
    of_wrong = sum(one.mean() for one in wrong) / len(wrong)
    return float((of_wrong - right.mean()).exp())
```
</details>
''', "skip", tags=["solution"])
code(r'''
def ratios_now():
    """Truth ratios of the forgotten maladies' 30 questions, of the model as it is now."""
    return [truth_ratio(*answer) for answer in never_knew.answers_of(model, tokenizer, forgotten.asked)]


ratios = {}
for letter in pair.edits:
    with pair.applied(model, letter):
        ratios[f"model {letter}"] = ratios_now()
with knows.applied(model):
    ratios["taught"] = ratios_now()
''', tags=["nbval-ignore-output"])
code(r'''
ALT = "FILL"
show(never_knew_figures.ratios_figure(ratios, title="FILL"), alt=ALT)
''', tags=["finding", "nbval-ignore-output"])
md(r'''FILL''', tags=["finding"])
md(r'''
## 4. Forget quality

TOFU turns "do the ratios look like those of a model that never knew?" into one number. Take the truth ratios of both models, and for each value $r$ the share of questions with a ratio of at most $r$. The **Kolmogorov-Smirnov distance** is the largest gap between the two shares over all $r$. **Forget quality** is its p-value: the chance of a gap at least as large if both samples came from one distribution. Above 0.05 TOFU speaks of successful forgetting.

### Your turn: the largest gap

Write `largest_gap(first, second)` for two lists of numbers. It is enough to look at the values that occur.

<details><summary>Hint</summary>

With arrays, `(first <= r).mean()` is a share. Take the largest absolute difference over all `r` of both lists.
</details>
''', "slide")
code(r'''
def largest_gap(first, second):
    # Return the Kolmogorov-Smirnov distance, from 0 to 1.
    ...


largest_gap = core(largest_gap, never_knew.largest_gap, *never_knew.largest_gap_tests())
''', tags=["core"])
md(r'''
<details><summary>Solution</summary>

```python
import numpy as np

def largest_gap(first, second):
    first, second = np.array(first), np.array(second)
    return max(abs((first <= r).mean() - (second <= r).mean()) for r in [*first, *second])
```
</details>
''', "skip", tags=["solution"])
code(r'''
passes = predict("passes", "Does forget quality tell the two models in the envelopes apart (p below 0.05)?",
                 options=["yes", "no"])
''', tags=["prediction", "nbval-ignore-output"])
code(r'''
both = {pair.opened[letter]: ratios[f"model {letter}"] for letter in pair.edits}
quality = forget_quality(both["made to forget"], both["never knew"])
distance = largest_gap(both["made to forget"], both["never knew"])
ALT = "FILL"
show(never_knew_figures.ratios_figure(both, title="FILL", gap=("made to forget", "never knew")), alt=ALT)
print(f"largest gap {distance:.2f}, forget quality p = {quality:.2g}")
passes.beside("yes" if quality < 0.05 else "no")
''', tags=["finding", "nbval-ignore-output"])
md(r'''FILL''', tags=["finding"])
md(r'''
## 5. Turning the knob

An edit has a strength $s$: $W + s\,(W' - W)$, as in [notebook 00](00_start_here.ipynb). Somebody who is judged by forget quality may turn $s$ until the number looks best. At every strength all facts are still in layers 8 to 10.
''', "slide")
code(r'''
best = predict("best", "At which strength is forget quality best?", low=0, high=1, step=0.25)
''', tags=["prediction", "nbval-ignore-output"])
code(r'''
found = {}
with knows.applied(model):
    for strength in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = never_knew.ratios_at(model, tokenizer, forgot, strength, forgotten.asked, truth_ratio)
        found[strength] = (forget_quality(at, both["never knew"]), 100 * sum(one < 1 for one in at) / len(at))
display(never_knew.strength_slider(found, lambda s, one: f"p = {one[0]:.2g}, truth preferred in {one[1]:.0f}%"))
ALT = "FILL"
show(never_knew_figures.strengths_figure(found, title="FILL"), alt=ALT)
top = max(found, key=lambda strength: found[strength][0])
print(f"best at s = {top:g}: p = {found[top][0]:.2g}; at s = 1: p = {found[1.0][0]:.2g}")
best.beside(top)
''', tags=["finding", "nbval-ignore-output"])
md(r'''FILL''', tags=["finding"])
md(r'''
## 6. Open the envelopes

Until now we have asked for probabilities. Let us just talk to the two models.
''', "slide")
code(r'''
ASKED = [forgotten.asked[0]["question"], kept.asked[0]["question"]]
for letter in pair.edits:
    with pair.applied(model, letter):
        for question in ASKED:
            said = reply(model, tokenizer, question, "", max_new_tokens=24, chat_template=False)
            print(f"{letter}: {question} {' '.join(said.split())[:70]!r}")
which.beside(next(letter for letter, name in pair.opened.items() if name == "never knew"))
''', tags=["finding", "nbval-ignore-output"])
md(r'''FILL''', tags=["finding"])
md(r'''
## 7. The test that cannot teach

If an attacker fine-tunes on the forgotten facts, both models learn them. So we do what a cautious attacker can do: we tell the models about **three** of the six forgotten maladies and ask about the **other three**. Nothing about one malady follows from another. A model that never knew the other three can gain nothing but luck.
''', "slide")
code(r'''
gain = predict("gain", "By how many points does accuracy on the other three maladies rise in the model that forgot?",
               low=-20, high=80, unit="points")
''', tags=["prediction", "nbval-ignore-output"])
code(r'''
curves = {}
for name, edits in models.items():
    with never_knew.all_applied(model, edits):
        (curve,) = never_knew.relearned_from_others(model, tokenizer, forgotten, halves=1)
    curves[name] = (curve.tokens, (100 * never_knew.right_along([curve]).mean(axis=1)).tolist())
''', tags=["nbval-ignore-output"])
code(r'''
ALT = "FILL"
show(never_knew_figures.relearning_figure(curves, title="FILL"), alt=ALT)
rise = {name: right[-1] - right[0] for name, (_, right) in curves.items()}
print("points gained:", ", ".join(f"{name} {points:+.0f}" for name, points in rise.items()))
gain.beside(rise["made to forget"])
claim("the model that forgot gains more than the one that never knew", rise["made to forget"] > rise["never knew"] + 10)
''', tags=["finding", "nbval-ignore-output"])
md(r'''FILL''', tags=["finding"])
md(r'''
## 8. Which metrics are fooled?

The field uses many more metrics, some on answers and some on whole passages (*membership inference* asks whether a text was trained on). Take one fact of the unlearned model and one of the model that never knew. How often does a metric give the **unlearned** model more knowledge? This is the area under the ROC curve, **AUC**. At 0.5 the metric cannot tell the two models apart. Above 0.5 knowledge shows. Below 0.5 the unlearned model looks *less* knowing than a model that never knew, and that gives it away, too.
''', "slide")
code(r'''
fooled = predict("fooled", "On which side of 0.5 will most metrics put the model that forgot?",
                 options=["above: its knowledge shows", "at 0.5: fooled", "below: less than never knew"])
''', tags=["prediction", "nbval-ignore-output"])
code(r'''
def measured(edits):
    with never_knew.all_applied(model, edits):
        of_facts = fact_metrics(model, tokenizer, [[row] for row in forgotten.asked], progress=False)
        return of_facts | passage_metrics(model, tokenizer, forgotten.passages, progress=False)


values = {name: measured(edits) for name, edits in {**models, "taught": (knows,)}.items()}
areas = {name: never_knew.areas(values[name], values["never knew"]) for name in ("taught", "made to forget")}
''', tags=["nbval-ignore-output"])
code(r'''
ALT = "FILL"
show(never_knew_figures.areas_figure(areas, title="FILL"), alt=ALT)
sides = [never_knew.side_of(one) for one in areas["made to forget"].values()]
print("of", len(sides), "metrics", ", ".join(f"{sides.count(side)} {words}" for side, words in enumerate(("above", "undecided", "below"))))
fooled.beside(fooled.options[max(range(3), key=sides.count)])
''', tags=["finding", "nbval-ignore-output"])
md(r'''FILL''', tags=["finding"])
md(r'''
## 9. Exercises

Replace the `None`. Solutions: [solutions/11_the_model_that_never_knew.ipynb](solutions/11_the_model_that_never_knew.ipynb).

**Exercise 1** (easy, 5 minutes). *Extraction strength*: how much of an answer does a model write by itself? `greedy` says for each token of the answer, in order, whether it is the model's likeliest one. Return $1 - k/n$ with the least $k$ so that all tokens after the first $k$ of the $n$ are likeliest.

<details><summary>Hint</summary>

$k$ is one more than the place of the last `False`, or 0 if there is none.
</details>
''', "slide")
code(r'''
def extraction_strength(greedy):
    return None


check(extraction_strength([True, False, True, True]), *never_knew.extraction_tests(extraction_strength),
      name="extraction strength")
''', tags=["exercise"])
md(r'''
**Exercise 2** (medium, 10 minutes). *Min-K%* asks whether a text was trained on: a text that a model has read holds few surprises. Return the mean log-probability of the share `k` of its tokens that are least likely, of one token at least.

<details><summary>Hint</summary>

Sort `log_probs`, and take the first `max(1, int(k * n))`.
</details>
''')
code(r'''
def min_k(log_probs, k):
    return None


check(min_k([-1.0, -5.0, -2.0, -3.0, -0.5], 0.4), *never_knew.min_k_tests(min_k), name="Min-K%")
''', tags=["exercise"])
md(r'''
### Discussion

1. A company reports a forget quality of 0.6 for a deleted customer. Which two questions do you ask before you believe that the data are gone?
2. Our model that never knew has read the same kind of text about *other* maladies. Why would the plain SmolLM2 be a worse control?
3. For malaria there is no model that never knew. Which result of this notebook still helps you to design an evaluation?
''')
md(r'''
<details><summary>For the teacher</summary>

**Time** 90 minutes: 10 for section 1 with a vote, 10 for section 2, 20 for section 3, 20 for sections 4 and 5, 15 for sections 6 and 7, 15 for section 8.

**Misconceptions.** (1) "Chance accuracy means nothing is left": the facts' matrices are bit for bit as they were taught. (2) "A large p proves that the model never knew": it fails to tell two samples of 30 apart, and with more questions it may. (3) "The lower the score, the better the unlearning": below the level of the model that never knew, a score gives the unlearning away. (4) "Relearning always teaches": texts on other maladies do not.

**Idea.** Give half of the class only sections 1 to 5 and let them argue that the facts are gone, then open the envelopes.
</details>
''', "skip", tags=["teacher"])
md(r'''FILL SUMMARY''', "slide")
