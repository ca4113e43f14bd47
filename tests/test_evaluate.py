import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rmu_lab import RmuLabError, accuracy, accuracy_change, alignment, answers, max_logits, scoring, token_states
from rmu_lab.activations import edited_output
from rmu_lab.estimates import wilson_interval
from rmu_lab.evaluate import Accuracy, option_scores
from rmu_lab.models import position_limit
from rmu_lab.questions import cloze_prompt, letter_prompt
from rmu_lab.scoring import shares_prompts
from tests.conftest import FAMILIES, OTHERS, made_up_texts, of_kind, tiny_model

QUESTIONS = [
    {"question": f"{text}?", "choices": made_up_texts(2 + index % 3, seed=index, least=1, most=6), "answer": index % 2}
    for index, text in enumerate(made_up_texts(9, seed=5, least=3, most=20))
]


def plain_score(model, tokenizer, prompt, ending):
    """Log-probability of `ending` after `prompt`, from one whole forward pass without cache or padding."""
    n, ids = len(tokenizer(prompt)["input_ids"]), tokenizer(prompt + ending)["input_ids"]
    assert ids[:n] == tokenizer(prompt)["input_ids"]
    with torch.no_grad():
        log_probabilities = model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
    return sum(log_probabilities[i - 1, ids[i]].item() for i in range(n, len(ids)))


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_equal_plain_forward_passes(family, tokenizer):
    """Sharing the prompt, padding and batching change nothing, whatever the number and length of options."""
    model = tiny_model(family)
    cloze = option_scores(model, tokenizer, QUESTIONS, batch_size=4)
    letter = option_scores(model, tokenizer, QUESTIONS, style="letter", batch_size=4)
    for row, scores, letter_scores in zip(QUESTIONS, cloze, letter, strict=True):
        for choice, mark, score, letter_score in zip(row["choices"], "ABCD", scores, letter_scores, strict=False):
            assert score == pytest.approx(
                plain_score(model, tokenizer, cloze_prompt(row["question"]), f" {choice}"), abs=1e-3
            )
            prompt = letter_prompt(row["question"], row["choices"])
            assert letter_score == pytest.approx(plain_score(model, tokenizer, prompt, f" {mark}"), abs=1e-3)


RECURRENT = {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8}
STATES = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
KINDS = {
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.2},  # shifts its positions by two
    "bloom": {"n_layer": 5, "n_head": 4},  # has none
    "falcon": {"alibi": True, "head_dim": None},
    "roberta": {"is_decoder": True, "max_position_embeddings": 258},  # shifts positions unless they are given
    "openai-gpt": {"n_embd": 32, "n_layer": 5, "n_head": 4},  # has no cache
    "mamba": {"state_size": 8},
    "mamba2": RECURRENT,
    "recurrent_gemma": {"lru_width": 32, "attention_window_size": 16, "num_hidden_layers": 6},
    "jamba": {"num_experts": 2, "num_experts_per_tok": 1, "attn_layer_period": 2, "attn_layer_offset": 1}
    | {"mamba_d_state": 8, "mamba_dt_rank": 4, "use_mamba_kernels": False},
    "falcon_h1": STATES | {"mamba_d_ssm": 64, "mamba_n_groups": 1},
    "lfm2": {"layer_types": ["conv", "conv", "full_attention", "conv", "full_attention"]},
    "qwen3_next": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    | {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    "granitemoehybrid": STATES | EXPERTS | {"layer_types": ["mamba", "attention"] * 2 + ["mamba"]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_unusual_decoders_equal_plain_forward_passes(kind, tokenizer):
    """Of those that shift or ignore positions, have no cache, or one that cannot be padded, shared or gone on from."""
    model = of_kind(kind, **KINDS[kind])
    found = option_scores(model, tokenizer, QUESTIONS, batch_size=4)
    for row, scores in zip(QUESTIONS, found, strict=True):
        for choice, score in zip(row["choices"], scores, strict=True):
            expected = plain_score(model, tokenizer, cloze_prompt(row["question"]), f" {choice}")
            assert score == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_usual_families_share_their_prompts(family, dtype):
    model = tiny_model(family).to(dtype)
    passes = []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    assert shares_prompts(model) and shares_prompts(model)
    assert len(passes) == 11  # found out once
    assert scoring._ways(model).rows


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_all_ways_of_scoring_agree(family):
    model = tiny_model(family)
    prompts = [[5, 7, 11, 2], [3], [17, 5, 11, 13, 7, 19]]
    options = [[[5], [3, 7], [2, 11, 13, 5]], [[7, 7], [2]], [[19, 3, 5], [5, 3, 19], [7, 2, 2], [2]]]
    with torch.inference_mode():
        alone = scoring.score_alone(model, prompts, options)
        for way in (scoring.score_from_caches, scoring.score_in_rows):
            for ours, plain in zip(way(model, prompts, options), alone, strict=True):
                assert ours == pytest.approx(plain, abs=1e-4)


def test_rows_longer_than_a_sliding_window_are_not_made(tokenizer, monkeypatch):
    """Within a row an option stands far from its prompt, farther than its positions say."""
    model = tiny_model("mistral", sliding_window=24)
    rows = []
    real = scoring.score_in_rows
    monkeypatch.setattr(scoring, "score_in_rows", lambda *given: rows.append(1) or real(*given))
    short, long = ({"question": "it", "choices": ["the sea", "a" * n], "answer": 0} for n in (3, 60))
    for row in (short, long):
        scores = option_scores(model, tokenizer, [row])[0]
        for choice, score in zip(row["choices"], scores, strict=True):
            assert score == pytest.approx(
                plain_score(model, tokenizer, cloze_prompt(row["question"]), f" {choice}"), abs=1e-3
            )
    assert len(rows) == 2  # the probe and the short one


def test_dropout_and_noise_are_not_taken_for_looking_ahead(tokenizer):
    model = tiny_model("gpt2", resid_pdrop=0.5, embd_pdrop=0.5).train()
    assert shares_prompts(model) and model.training
    model = tiny_model("llama")
    with edited_output(model, 2, lambda hidden: hidden + torch.randn_like(hidden)):
        assert accuracy(model, tokenizer, QUESTIONS, progress=False)


@pytest.mark.parametrize(
    "settings",
    [{"kind": "xlnet", "d_model": 32, "n_layer": 4, "n_head": 4, "max_position_embeddings": None}, {"kind": "bert"}],
)
def test_models_that_look_ahead_are_refused(settings, tokenizer):
    with pytest.raises(RmuLabError, match=r"depends on later tokens.*use a causal language model"):
        accuracy(of_kind(**settings), tokenizer, QUESTIONS, progress=False)


def test_prefill_stands_before_the_options_and_is_not_scored(tokenizer):
    model = tiny_model("llama")
    for row, scores in zip(QUESTIONS, option_scores(model, tokenizer, QUESTIONS, prefill=" It is"), strict=True):
        for choice, score in zip(row["choices"], scores, strict=True):
            prompt = cloze_prompt(row["question"]) + " It is"
            assert score == pytest.approx(plain_score(model, tokenizer, prompt, f" {choice}"), abs=1e-3)


@pytest.mark.parametrize("style", ["cloze", "letter"])
def test_a_prompt_of_ones_own_stands_before_the_options(tokenizer, style):
    model = tiny_model("llama")

    def prompt(row):
        return f"the sea. {row['question']} of {len(row['choices'])}"

    found = option_scores(model, tokenizer, QUESTIONS, style=style, prompt=prompt, prefill=" It is")
    for row, scores in zip(QUESTIONS, found, strict=True):
        endings = row["choices"] if style == "cloze" else "ABCD"[: len(row["choices"])]
        for ending, score in zip(endings, scores, strict=True):
            expected = plain_score(model, tokenizer, prompt(row) + " It is", f" {ending}")
            assert score == pytest.approx(expected, abs=1e-3)


def test_the_default_prompt_is_that_of_the_style(tokenizer):
    model, how = tiny_model("llama"), {"progress": False}
    assert accuracy(model, tokenizer, QUESTIONS, **how) == accuracy(
        model, tokenizer, QUESTIONS, prompt=lambda row: cloze_prompt(row["question"]), **how
    )
    letters = accuracy(model, tokenizer, QUESTIONS, style="letter", **how)
    assert letters == accuracy(
        model,
        tokenizer,
        QUESTIONS,
        style="letter",
        prompt=lambda row: letter_prompt(row["question"], row["choices"]),
        **how,
    )


def test_bad_prompts(tokenizer):
    model = tiny_model("llama")
    second = QUESTIONS[1]["question"]
    with pytest.raises(RmuLabError, match=r"prompt gives None for questions\[1\]; let it return a string"):
        accuracy(model, tokenizer, QUESTIONS, prompt=lambda row: None if row["question"] == second else "Answer:")
    with pytest.raises(RmuLabError, match=r"prompt of questions\[0\], '', has no token"):
        accuracy(model, tokenizer, QUESTIONS, prompt=lambda _row: "")


def test_cloze_prefers_the_higher_log_probability_per_character(tokenizer):
    model = tiny_model("llama")
    scores = option_scores(model, tokenizer, QUESTIONS)
    result = accuracy(model, tokenizer, QUESTIONS, progress=False)
    for row, of_one, prediction in zip(QUESTIONS, scores, result.predictions, strict=True):
        per_character = [score / len(choice) for score, choice in zip(of_one, row["choices"], strict=True)]
        assert per_character[prediction] == max(per_character)
    right = [prediction == row["answer"] for row, prediction in zip(QUESTIONS, result.predictions, strict=True)]
    assert result.correct == tuple(right) and result.accuracy == sum(right) / len(right)


def test_same_form_as_lm_eval(tokenizer):
    """lm-eval's own scorer gives the same log-probabilities for the same requests."""
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = tiny_model("llama")
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=1, add_bos_token=False)
    requests = [
        Instance("loglikelihood", {}, (cloze_prompt(row["question"]), f" {choice}"), 0)
        for row in QUESTIONS
        for choice in row["choices"]
    ]
    expected = [score for score, _ in theirs.loglikelihood(requests, disable_tqdm=True)]
    ours = [score for scores in option_scores(model, tokenizer, QUESTIONS) for score in scores]
    assert ours == pytest.approx(expected, abs=1e-3)


def test_bad_questions(tokenizer):
    model = tiny_model("llama")
    with pytest.raises(RmuLabError, match="no questions"):
        accuracy(model, tokenizer, [])
    with pytest.raises(RmuLabError, match=r"questions\[1\]: `answer` is 7"):
        accuracy(model, tokenizer, [QUESTIONS[0], QUESTIONS[1] | {"answer": 7}])
    with pytest.raises(RmuLabError, match="style is 'number'"):
        accuracy(model, tokenizer, QUESTIONS, style="number")


def scored(correct: list[bool]) -> Accuracy:
    n = len(correct)
    return Accuracy(sum(correct) / n, wilson_interval(sum(correct), n), (0,) * n, tuple(correct), "cloze")


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_accuracy_change(pairs):
    before, after = scored([b for b, _ in pairs]), scored([a for _, a in pairs])
    there, back = accuracy_change(before, after), accuracy_change(after, before)
    assert there.change == pytest.approx(after.accuracy - before.accuracy)
    assert there.interval[0] < there.interval[1]
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))


def test_accuracy_change_interval_covers_the_truth():
    """Of many simulated exams, some 95% have the true change inside their interval."""
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(400):
        u = torch.rand(80, generator=generator)
        before, after = (u < 0.9).tolist(), (u < 0.6).tolist()
        low, high = accuracy_change(scored(before), scored(after)).interval
        hits += low <= -0.3 <= high
    assert 0.92 <= hits / 400 <= 0.98


def test_accuracy_change_needs_the_same_questions():
    with pytest.raises(RmuLabError, match="before has 2 questions, after 1"):
        accuracy_change(scored([True, False]), scored([True]))


@pytest.mark.parametrize("template", [None, "{% for m in messages %}{{ m['content'] }} answer {% endfor %}"])
def test_answers_in_a_batch_equal_answers_alone(template, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", template)
    model = tiny_model("llama")
    questions = ["the sea?", "a cold river in the old water?"]
    together = answers(model, tokenizer, questions, max_new_tokens=5)
    assert together == [answers(model, tokenizer, [question], max_new_tokens=5)[0] for question in questions]


def test_a_decoder_that_numbers_positions_behind_the_padding_takes_fewer_tokens(tokenizer):
    """Its last positions ended in a raw IndexError."""
    model = of_kind("roberta", is_decoder=True, max_position_embeddings=40, pad_token_id=1)
    assert position_limit(model) == 38 and position_limit(tiny_model("gpt2")) == tiny_model("gpt2").config.n_positions
    ids = torch.full((1, 38), 5)
    assert model(input_ids=ids).logits.isfinite().all()
    with pytest.raises(RmuLabError, match="38"):
        token_states(model, tokenizer, made_up_texts(1, 0), [0], max_length=39)
    token_states(model, tokenizer, made_up_texts(1, 0), [0], max_length=38)


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta-xl"])
def test_a_model_that_transformers_generates_from_at_wrong_positions_is_refused(kind, tokenizer):
    """RoBERTa counts positions from behind that of its padding; `generate` gives them from 0."""
    model = of_kind(kind, is_decoder=True)
    for ask in (answers, max_logits):
        with pytest.raises(RmuLabError, match=r"writes from other positions than it reads texts at.*use a model whose"):
            ask(model, tokenizer, ["the sea?", "a cold river"])
    for row, scores in zip(QUESTIONS, option_scores(model, tokenizer, QUESTIONS), strict=True):  # but it can be scored
        for choice, score in zip(row["choices"], scores, strict=True):
            expected = plain_score(model, tokenizer, cloze_prompt(row["question"]), f" {choice}")
            assert score == pytest.approx(expected, abs=1e-3)


def test_what_a_recurrent_model_writes_is_what_it_predicts(tokenizer):
    model, prompt = of_kind("mamba"), "the sea a fish"
    ids, found = tokenizer(prompt, return_tensors="pt")["input_ids"], max_logits(model, tokenizer, [prompt], new_tokens=4)
    for step in range(4):
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, -1]
        assert found.logit[0, step].item() == pytest.approx(logits.max().item(), abs=1e-3)
        if logits.argmax() == model.config.eos_token_id:
            break
        ids = torch.cat([ids, logits.argmax()[None, None]], dim=1)


def test_answers_go_on_from_what_is_prefilled(tokenizer, monkeypatch):
    model, question = tiny_model("llama"), "the sea?"
    for template, prompt in ((None, cloze_prompt(question)), ("{{ messages[0]['content'] }} answer", "the sea? answer")):
        monkeypatch.setattr(tokenizer, "chat_template", template)
        begun = " It is" if template is None else "It is"
        ids = tokenizer(prompt + begun, return_tensors="pt")
        expected = model.generate(**ids, max_new_tokens=5, do_sample=False, pad_token_id=0)[0, ids["input_ids"].shape[1] :]
        (said,) = answers(model, tokenizer, [question], prefill=" It is", max_new_tokens=5)
        assert said == tokenizer.decode(expected, skip_special_tokens=True).strip()


@pytest.mark.parametrize("kind", ["rwkv", "mamba", "jamba", "lfm2", "openai-gpt"])
def test_unusual_decoders_answer_in_a_batch_as_alone(kind, tokenizer):
    settings = {"rwkv": {"attention_hidden_size": 32}} | KINDS
    model, questions = of_kind(kind, **settings[kind]), ["the sea?", "a cold river in the old water?"]
    alone = [answers(model, tokenizer, [question], max_new_tokens=4)[0] for question in questions]
    assert answers(model, tokenizer, questions, max_new_tokens=4) == alone
    together = max_logits(model, tokenizer, questions, new_tokens=3).logit
    each = [max_logits(model, tokenizer, [question], new_tokens=3).logit for question in questions]
    torch.testing.assert_close(together, torch.cat(each), equal_nan=True, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_smollm2_knows_more_than_chance(smollm2):
    from rmu_lab import load_questions

    for name in ("bio", "general"):
        result = accuracy(*smollm2, load_questions(name, "dev").select(range(60)), progress=False)
        assert result.interval[0] > 0.25, f"{name}: {result}"


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma3"])
def test_max_logits_equal_plain_forward_passes(family, tokenizer):
    """Each written token's logit and probability, from a whole pass over prompt and text, without cache or padding."""
    model, prompts = tiny_model(family), made_up_texts(5, seed=8, least=2, most=12)
    found = max_logits(model, tokenizer, prompts, new_tokens=6, batch_size=2)
    assert found.logit.shape == found.probability.shape == (5, 6)
    for prompt, logits, probabilities in zip(prompts, found.logit, found.probability, strict=True):
        ids, ended = tokenizer(prompt)["input_ids"], False
        for logit, probability in zip(logits.tolist(), probabilities.tolist(), strict=True):
            if ended:
                assert math.isnan(logit) and math.isnan(probability)
                continue
            with torch.no_grad():
                expected = model(torch.tensor([ids])).logits[0, -1]
            assert logit == pytest.approx(expected.max().item(), abs=1e-3)
            assert probability == pytest.approx(expected.softmax(-1).max().item(), abs=1e-3)
            ids = [*ids, expected.argmax().item()]
            ended = ids[-1] == model.generation_config.eos_token_id


def test_max_logits_stop_at_the_end_of_the_text(tokenizer):
    model, prompts = tiny_model("llama"), made_up_texts(3, seed=8)
    free = max_logits(model, tokenizer, prompts, new_tokens=6)
    first = model.generate(**tokenizer(prompts[0], return_tensors="pt"), max_new_tokens=3, do_sample=False, pad_token_id=0)
    model.generation_config.eos_token_id = [int(first[0, -1])]  # make the third written token of the first prompt the end
    ended = max_logits(model, tokenizer, prompts, new_tokens=6)
    place = (first[0, -3:] == first[0, -1]).nonzero()[0, 0].item()
    assert not ended.logit[0, : place + 1].isnan().any() and ended.logit[0, place + 1 :].isnan().all()
    torch.testing.assert_close(ended.logit[0, : place + 1], free.logit[0, : place + 1])
    with pytest.raises(RmuLabError, match="no prompts"):
        max_logits(model, tokenizer, [])


def test_alignment_is_the_cosine_of_every_token_but_the_first(tokenizer):
    model, texts = tiny_model("llama"), made_up_texts(5, seed=8)
    u = torch.rand(32, generator=torch.Generator().manual_seed(0))
    expected = []
    for text in texts:
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[3][0, 1:]
        expected.append((hidden @ u) / hidden.norm(dim=-1) / u.norm())
    torch.testing.assert_close(alignment(model, tokenizer, texts, 3 * u, 2, batch_size=2), torch.cat(expected))
