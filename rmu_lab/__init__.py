"""rmu_lab: make a language model forget a topic by steering its hidden representations.

RMU (Li et al. 2024, arXiv 2403.03218) and Adaptive RMU (Dang et al. 2024, arXiv 2408.06223)
on any Hugging Face causal language model, from a laptop CPU to a GPU::

    from rmu_lab import UnlearnConfig, accuracy, load_corpus, load_model, load_questions, unlearn

    model, tokenizer = load_model("smollm2-135m")
    result = unlearn(model, tokenizer, load_corpus("forget_bio"), load_corpus("retain_general"))
    with result.applied(model):
        print(accuracy(model, tokenizer, load_questions("bio", split="test")))

Importing this package loads neither torch nor transformers: each name is looked up in its module when it is first
used. `__init__.pyi` says where; type checkers read the same lines.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
