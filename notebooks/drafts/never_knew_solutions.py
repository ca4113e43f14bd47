import nbformat, json
from pathlib import Path
ROOT=Path("/work/main")
old=json.load(open(ROOT/"notebooks/solutions/06_adversarial_attacks.ipynb"))
cells=[]
def md(t,slide="subslide"): cells.append(nbformat.v4.new_markdown_cell(t.strip("\n"),metadata={"slideshow":{"slide_type":slide}}))
def code(t): cells.append(nbformat.v4.new_code_cell(t.strip("\n"),metadata={"slideshow":{"slide_type":"subslide"}}))
md("""# Solutions to 11 The model that never knew

The questions are in [11_the_model_that_never_knew.ipynb](../11_the_model_that_never_knew.ipynb); other solutions are as good if the checks accept them.""","slide")
code("""
import torch

from rmu_lab.course import claim
from rmu_lab.metrics import ScoredText
from rmu_lab.metrics import extraction_strength as package_strength
from rmu_lab.metrics import min_k as package_min_k
""")
md("**Exercise 1.** Only the last token that has to be given counts. All before it may be right or wrong: a reader who is given them loses nothing.")
code("""
def extraction_strength(greedy):
    given = max((place + 1 for place, likeliest in enumerate(greedy) if not likeliest), default=0)
    return 1 - given / len(greedy)
""")
code("""
draw = torch.Generator().manual_seed(0)
marks = torch.rand(20, 6, generator=draw) < 0.7
log_probs = -torch.rand(20, 6, generator=draw)
rows = [ScoredText("", values, greedy, values, values) for values, greedy in zip(log_probs, marks, strict=True)]
same = all(abs(extraction_strength(row.greedy.tolist()) - package_strength(row)) < 1e-9 for row in rows)
claim("the package's strength is the same", same)
""")
md("**Exercise 2.** A text that was trained on has few tokens that surprise the model, so the mean of its least likely tokens is high. The common tokens, which every model expects, are left out.")
code("""
def min_k(log_probs, k):
    lowest = sorted(log_probs)[: max(1, int(k * len(log_probs)))]
    return sum(lowest) / len(lowest)
""")
code("""
same = all(abs(min_k(row.log_probs.tolist(), 0.4) - package_min_k(row, 0.4)) < 1e-6 for row in rows)
claim("the package's Min-K% is the same", same)
""")
for at,c in enumerate(cells): c["id"]=f"cell-{at:02}"
nb=nbformat.v4.new_notebook(cells=cells); nb["metadata"]=old["metadata"]; nb["nbformat_minor"]=old["nbformat_minor"]
nbformat.write(nb, ROOT/"notebooks/solutions/11_the_model_that_never_knew.ipynb")
