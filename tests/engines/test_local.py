"""Open weights on this machine, against transformers itself as the peer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TEXTS, make_tiny_model

from hinlap.core.errors import EngineError, ModelError
from hinlap.core.messages import Completion, Continuation, Finish, Message, Prompt, Sampling
from hinlap.engines.local import LocalEngine

SHARED = Message("system", "Answer in one short line, and never use the word elephant at all.")
GREEDY = Sampling(max_tokens=16)
SAMPLED = Sampling(max_tokens=16, temperature=0.8, top_p=0.9, seed=3)


def ask(text: str) -> Prompt:
    return Prompt((Message("user", text),))


PLAIN = [ask(text) for text in TEXTS]
WITH_SHARED_PREFIX = [Prompt((SHARED, Message("user", text))) for text in TEXTS]


def answers(engine: LocalEngine, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
    found = dict(engine.generate(prompts, sampling))
    return [found[index] for index in range(len(prompts))]


def texts(engine: LocalEngine, prompts: Sequence[Prompt], sampling: Sampling) -> list[str]:
    return [completion.text for completion in answers(engine, prompts, sampling)]


def one_by_one(engine: LocalEngine, prompts: Sequence[Prompt], sampling: Sampling) -> list[str]:
    return [texts(engine, [prompt], sampling)[0] for prompt in prompts]


@pytest.fixture(
    scope="module",
    params=[("llama", True), ("llama", False), ("gpt_neox", True), ("gpt_neox", False)],
    ids=lambda p: f"{p[0]}-{'chat' if p[1] else 'plain'}",
)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LocalEngine:
    """A tiny random model of each architecture, with and without a chat template."""
    architecture, chat = request.param
    folder = make_tiny_model(tmp_path_factory.mktemp("tiny") / "model", architecture, chat=chat)
    return LocalEngine("tiny", folder)


@pytest.fixture(scope="module")
def llama(tiny_model: Path) -> LocalEngine:
    return LocalEngine("tiny", tiny_model)


class Peer:
    """transformers alone: its own loading, templates, `generate` and forward pass."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def ids(self, prompt: Prompt) -> list[int]:
        if self.tokenizer.chat_template:
            messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
            encoded = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
            return list(encoded["input_ids"])
        text = "\n\n".join(m.content for m in prompt.messages) + "\n"
        return list(self.tokenizer(text)["input_ids"])

    def generate(self, prompt: Prompt, max_tokens: int, **options: Any) -> str:
        import torch

        ids = torch.tensor([self.ids(prompt)])
        out = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
            **options,
        )
        new = out[0, ids.shape[1] :]
        text = str(self.tokenizer.decode(new, skip_special_tokens=True))
        if int(new[-1]) == self.tokenizer.eos_token_id:
            return text
        return text.rstrip("\ufffd")  # bytes of a character that the length cut

    def logprobs(self, ids: list[int], start: int) -> list[float]:
        """Of ``ids[start:]``, each given all before it, by one forward pass over the whole."""
        import torch

        with torch.inference_mode():
            logits = self.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        return [float(logits[at - 1, ids[at]]) for at in range(start, len(ids))]


@pytest.fixture(scope="module")
def peer(engine: LocalEngine) -> Peer:
    return Peer(engine._folder)


def test_a_greedy_batch_answers_as_transformers_does_one_by_one(
    engine: LocalEngine, peer: Peer
) -> None:
    assert texts(engine, PLAIN, GREEDY) == [peer.generate(p, 16) for p in PLAIN]


def test_a_shared_prefix_changes_no_greedy_answer(engine: LocalEngine, peer: Peer) -> None:
    expected = [peer.generate(prompt, 16) for prompt in WITH_SHARED_PREFIX]
    assert texts(engine, WITH_SHARED_PREFIX, GREEDY) == expected


def test_a_greedy_prompt_alone_answers_as_transformers_does(
    engine: LocalEngine, peer: Peer
) -> None:
    assert texts(engine, PLAIN[:1], GREEDY) == [peer.generate(PLAIN[0], 16)]


def test_prompts_are_rendered_as_the_chat_template_or_plainly_says(
    engine: LocalEngine, peer: Peer
) -> None:
    prompt = WITH_SHARED_PREFIX[0]
    assert engine.encode(engine.render(prompt)) == peer.ids(prompt)


def test_seeded_answers_do_not_depend_on_the_batch(engine: LocalEngine) -> None:
    alone = one_by_one(engine, PLAIN, SAMPLED)
    assert texts(engine, PLAIN, SAMPLED) == alone
    assert texts(engine, PLAIN[5:2:-1], SAMPLED) == alone[5:2:-1]


def test_seeded_answers_do_not_depend_on_a_shared_prefix(engine: LocalEngine) -> None:
    alone = one_by_one(engine, WITH_SHARED_PREFIX[:4], SAMPLED)
    assert texts(engine, WITH_SHARED_PREFIX[:4], SAMPLED) == alone


def test_weighing_equals_a_plain_forward_pass(engine: LocalEngine, peer: Peer) -> None:
    pairs = [
        Continuation(ask(TEXTS[0]), "A boat."),
        Continuation(ask(TEXTS[0]), "More boats than anyone in town had ever counted before."),
        Continuation(ask(TEXTS[1]), "ขนมปัง"),
        Continuation(ask(TEXTS[0]), "x"),
    ]
    for pair, scored in zip(pairs, engine.score(pairs), strict=True):
        before = peer.ids(pair.context)
        answer = peer.tokenizer(pair.text, add_special_tokens=False)["input_ids"]
        assert list(scored.tokens) == answer
        assert scored.logprobs == pytest.approx(
            peer.logprobs(before + answer, len(before)), abs=1e-4
        )


def test_log_probabilities_do_not_depend_on_order_or_company(engine: LocalEngine) -> None:
    pairs = [Continuation(ask(t), a) for t in TEXTS[:3] for a in ("yes", "no, not at all", "ไม่")]
    forward = engine.score(pairs)
    backward = engine.score(pairs[::-1])[::-1]
    alone = [engine.score([pair])[0] for pair in pairs]
    for other in (backward, alone):
        assert [s.tokens for s in other] == [s.tokens for s in forward]
        assert [s.total for s in other] == pytest.approx([s.total for s in forward], abs=1e-4)


def test_another_seed_gives_another_answer(llama: LocalEngine) -> None:
    other = Sampling(max_tokens=16, temperature=0.8, top_p=0.9, seed=4)
    assert texts(llama, PLAIN, SAMPLED) != texts(llama, PLAIN, other)


def test_another_repeat_gives_another_answer(llama: LocalEngine) -> None:
    first, second = (Sampling(max_tokens=16, temperature=1.0, repeat=r) for r in (0, 1))
    assert texts(llama, PLAIN, first) != texts(llama, PLAIN, second)


def test_top_k_of_one_is_greedy_at_any_temperature(llama: LocalEngine) -> None:
    sampling = Sampling(max_tokens=16, temperature=5.0, top_k=1)
    assert texts(llama, PLAIN, sampling) == texts(llama, PLAIN, GREEDY)


def test_a_tiny_nucleus_is_greedy_at_any_temperature(llama: LocalEngine) -> None:
    sampling = Sampling(max_tokens=16, temperature=0.9, top_p=1e-6)
    assert texts(llama, PLAIN, sampling) == texts(llama, PLAIN, GREEDY)


def test_top_k_and_top_p_keep_what_transformers_keeps() -> None:
    import torch
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    from hinlap.engines.decoding import kept

    # more tokens than are looked at first; flat rows need most of them
    scores = torch.randn(5, 2000, generator=torch.Generator().manual_seed(1)) * 3
    scores[3:] /= 30
    for top_k, top_p in ((7, 1.0), (0, 0.6), (50, 0.6), (2000, 1.0), (9000, 0.999), (0, 0.999)):
        expected = scores
        if top_k:
            expected = TopKLogitsWarper(top_k)(None, expected)
        if top_p < 1:
            expected = TopPLogitsWarper(top_p)(None, expected)
        together = kept(scores, top_k, top_p)
        for row, wanted, (values, tokens) in zip(scores, expected, together, strict=True):
            found = torch.full_like(row, float("-inf")).scatter(0, tokens, values)
            assert torch.equal(found, wanted)
            ((alone, same),) = kept(row[None], top_k, top_p)
            assert torch.equal(alone, values)
            assert torch.equal(same, tokens)


def test_noise_is_gumbel_and_depends_on_seed_place_and_token_alone() -> None:
    import numpy as np

    from hinlap.engines.decoding import gumbel_noise

    tokens = np.arange(200_000)
    noise = gumbel_noise(7, 3, tokens)
    assert noise.mean() == pytest.approx(0.5772, abs=0.015)
    assert noise.var() == pytest.approx(np.pi**2 / 6, abs=0.04)
    assert np.array_equal(gumbel_noise(7, 3, tokens[::-5]), noise[::-5])
    for other in (gumbel_noise(8, 3, tokens), gumbel_noise(7, 4, tokens)):
        assert abs(np.corrcoef(noise, other)[0, 1]) < 0.01


def test_first_tokens_are_drawn_with_the_model_s_own_probabilities() -> None:
    import torch

    from hinlap.engines.decoding import Chooser

    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    draws = 2000
    choosers = [Chooser(Sampling(temperature=1.0), [row]) for row in range(draws)]
    logits = probabilities.log().expand(draws, -1)
    chosen, logprobs = Chooser.choose_all(choosers, logits, "coin")
    assert logprobs == pytest.approx([float(logits[0, token]) for token in chosen])
    share = torch.bincount(torch.tensor(chosen), minlength=4) / draws
    assert share.tolist() == pytest.approx(probabilities.tolist(), abs=0.04)  # > 3.5 sigma


def test_the_repetition_penalty_is_that_of_transformers(engine: LocalEngine, peer: Peer) -> None:
    sampling = Sampling(max_tokens=16, repetition_penalty=1.5)
    expected = [peer.generate(prompt, 16, repetition_penalty=1.5) for prompt in PLAIN]
    assert texts(engine, PLAIN, sampling) == expected
    assert expected != texts(engine, PLAIN, GREEDY)


def test_an_answer_ends_before_a_stop_string(llama: LocalEngine) -> None:
    whole = texts(llama, PLAIN, GREEDY)[1]
    stop = whole[6:9]
    cut = answers(llama, PLAIN, Sampling(max_tokens=16, stop=(stop,)))[1]
    assert cut.text == whole[: whole.index(stop)]
    assert cut.finish is Finish.STOP


def test_a_stop_string_may_span_tokens(llama: LocalEngine, tiny_model: Path) -> None:
    tokenizer = llama.tokenizer
    whole = texts(llama, PLAIN[6:7], GREEDY)[0]
    stop = "eme"  # the answer repeats the token "me"
    assert len(tokenizer(stop, add_special_tokens=False)["input_ids"]) > 1
    cut = answers(llama, PLAIN[6:7], Sampling(max_tokens=16, stop=(stop,)))[0]
    assert stop in whole
    assert cut.text == whole[: whole.index(stop)]


def test_a_stopped_answer_spends_as_many_tokens_in_a_batch_as_alone(llama: LocalEngine) -> None:
    sampling = Sampling(max_tokens=16, stop=(texts(llama, PLAIN, GREEDY)[1][6:9],))
    together = answers(llama, PLAIN, sampling)
    alone = [answers(llama, [prompt], sampling)[0] for prompt in PLAIN]
    assert any(c.finish is Finish.STOP for c in alone)
    assert [c.output_tokens for c in together] == [c.output_tokens for c in alone]


def test_an_answer_at_max_tokens_is_marked_as_cut(llama: LocalEngine) -> None:
    cut = answers(llama, PLAIN[:1], Sampling(max_tokens=3))[0]
    assert (cut.finish, cut.output_tokens) == (Finish.LENGTH, 3)


def test_an_answer_ends_where_the_model_ends_it(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "ends", "llama", chat=True)
    free = LocalEngine("free", folder)
    whole = answers(free, PLAIN[5:6], GREEDY)[0]
    fourth = free.tokenizer(whole.text, add_special_tokens=False)["input_ids"][3]
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": fourth}))
    ended = answers(LocalEngine("ends", folder), PLAIN[5:6], GREEDY)[0]
    assert (ended.finish, ended.output_tokens) == (Finish.STOP, 4)
    assert whole.text.startswith(ended.text)


def test_a_prompt_over_the_window_fails_with_the_reason_and_the_others_answer(
    llama: LocalEngine,
) -> None:
    long = ask("boats and more boats " * 100)
    first, failed, last = answers(llama, [PLAIN[0], long, PLAIN[1]], GREEDY)
    assert failed.finish is Finish.FAILED
    assert f"{llama.count_tokens(long):,} tokens" in failed.error
    assert "window of 512" in failed.error
    assert [first.text, last.text] == texts(llama, PLAIN[:2], GREEDY)


def test_prompts_that_are_all_over_the_window_all_fail(llama: LocalEngine) -> None:
    [failed] = answers(llama, [PLAIN[0]], Sampling(max_tokens=512))
    assert failed.finish is Finish.FAILED


def test_a_prompt_that_just_fits_the_window_is_answered(llama: LocalEngine) -> None:
    room = 512 - llama.count_tokens(PLAIN[0])
    [answer] = answers(llama, [PLAIN[0]], Sampling(max_tokens=room))
    assert answer.finish is not Finish.FAILED


def test_more_prompts_than_a_batch_holds_are_all_answered(
    llama: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = texts(llama, PLAIN, GREEDY)
    monkeypatch.setattr("hinlap.engines.generation.MOST_ROWS", {"cpu": 3, "cuda": 3})
    found = answers(llama, PLAIN, GREEDY)
    assert [c.text for c in found] == expected
    assert sorted(c.batch_size for c in found) == [2, 2, 3, 3, 3, 3, 3, 3]


def test_no_prompts_give_no_answers(llama: LocalEngine) -> None:
    assert list(llama.generate([], GREEDY)) == []


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_text_is_not_weighed(llama: LocalEngine, text: str) -> None:
    with pytest.raises(ModelError, match="empty text"):
        llama.score([Continuation(PLAIN[0], text)])


def test_a_text_over_the_window_is_not_weighed(llama: LocalEngine) -> None:
    with pytest.raises(ModelError, match="window is 512"):
        llama.score([Continuation(PLAIN[0], "boats " * 400)])


def test_thai_text_survives_the_tokens(engine: LocalEngine) -> None:
    prompt = ask(TEXTS[4])
    ids = engine.encode(engine.render(prompt))
    assert TEXTS[4] in engine.tokenizer.decode(ids)


def test_a_thai_stop_string_of_many_tokens_is_found(llama: LocalEngine) -> None:
    from hinlap.engines.decoding import End, Ending

    tokenizer = llama.tokenizer
    ids = tokenizer("น้ำใจ", add_special_tokens=False)["input_ids"]
    assert len(ids) > 5
    ending = Ending(tokenizer, [tokenizer.eos_token_id])
    grown = [ending.reached(ids[:n], 99, ["ใจ"], False) for n in range(1, len(ids) + 1)]
    assert grown == [None] * (len(ids) - 1) + [End.STOP]


def test_a_stop_string_in_the_prompt_does_not_end_the_answer(llama: LocalEngine) -> None:
    stop = "harbour"
    assert stop in TEXTS[0]
    sampling = Sampling(max_tokens=16, stop=(stop,))
    assert texts(llama, PLAIN[:1], sampling) == texts(llama, PLAIN[:1], GREEDY)


@pytest.fixture
def broken(tmp_path: Path) -> LocalEngine:
    """A model with one weight that is not a number, as a failed training leaves it."""
    from safetensors.torch import load_file, save_file

    folder = make_tiny_model(tmp_path / "nan", "llama", chat=True)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return LocalEngine("broken", folder)


def test_weights_that_are_not_numbers_weigh_nothing(broken: LocalEngine) -> None:
    with pytest.raises(EngineError, match="not numbers"):
        broken.score([Continuation(PLAIN[0], "yes")])


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_weights_that_are_not_numbers_answer_nothing(
    broken: LocalEngine, sampling: Sampling
) -> None:
    with pytest.raises(EngineError, match="not numbers"):
        answers(broken, PLAIN, sampling)


def test_a_cut_weights_file_is_refused_by_name(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "cut", "llama", chat=True)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"cut.*cannot be loaded"):
        answers(LocalEngine("cut", folder), PLAIN[:1], GREEDY)


def test_a_model_with_a_tensor_missing_is_refused_by_name(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_tiny_model(tmp_path / "part", "llama", chat=True)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"up_proj"):
        answers(LocalEngine("part", folder), PLAIN[:1], GREEDY)


def test_a_text_split_anywhere_is_the_whole_text_s_tokens(llama: LocalEngine) -> None:
    whole = "The harbour town counted its boats"
    [ids] = llama.encode_texts([whole])
    for border in range(1, len(whole)):
        [(before, after)] = llama.encode_pairs([(whole[:border], whole[border:])], [True])
        begin = [] if before[: len(ids)] == ids[: len(before)] else before[:1]
        assert [*before, *after] == [*begin, *ids]  # no token over the border is lost
        assert after
