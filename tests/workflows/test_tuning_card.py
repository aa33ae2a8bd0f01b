from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from hinlap.metrics.scores import defined_mean_scores
from hinlap.tuning.recipe import Recipe
from hinlap.tuning.tuned import Evaluation, Taught, Tuned
from hinlap.workflows.measuring import Measured
from hinlap.workflows.tuning_card import TuningCard, card_text, write_tuning_card
from hinlap.workflows.tuning_report import TUNED, ZERO_SHOT, TuningReport

DOLLY = Taught(
    "data/dolly.jsonl", "ab" * 32, 500, "CC BY-SA 3.0", "hf:databricks/databricks-dolly-15k", "bdd2"
)


def made(tmp_path: Path, **changes: Any) -> Tuned:
    first = Tuned(
        home=tmp_path,
        recipe=Recipe(name="dolly-v2", format="dolly", source="Conover et al. (2023)"),
        base="smollm2-135m-instruct",
        base_digest="b1" * 32,
        rows=480,
        left_out={"over 512 tokens": 20},
        tokens=120_000,
        learnt_tokens=60_000,
        seconds=300.0,
        losses=(3.0, 2.0, 1.5),
        evaluations=(Evaluation(0, 3.0, 0.4, 900), Evaluation(3, 1.5, 0.6, 900)),
        taught=(DOLLY,),
        machine="2 cores",
    )
    return replace(first, **changes)


def measured(level: float) -> Measured:
    values = [level + 0.001 * (k % 7) for k in range(50)]
    scores = defined_mean_scores("rougeL", values, "rougeL|v1")
    return Measured(scores, tuple(map(str, range(50))))


def card(tmp_path: Path, report: dict[str, Any] | None = None, **changes: Any) -> TuningCard:
    systems = {ZERO_SHOT: {"rougeL": measured(0.2)}, TUNED: {"rougeL": measured(0.4)}}
    return TuningCard(
        "Small dolly",
        TuningReport(
            "t", made(tmp_path, **changes), systems, items="50 held-out rows", **(report or {})
        ),
        languages=["en"],
        prompt="### Instruction:\nSay ``` please\n\n### Response:\n",
    )


def front(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


def test_the_hub_reads_the_front_matter(tmp_path: Path) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    write_tuning_card(tmp_path / "README.md", card(tmp_path))
    data = huggingface_hub.ModelCard.load(tmp_path / "README.md").data
    assert isinstance(data, huggingface_hub.ModelCardData)
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert data.license == "cc-by-sa-3.0"
    assert data.datasets == ["databricks/databricks-dolly-15k"]
    assert (data.language, data.library_name) == (["en"], "peft")
    assert data.tags == ["hinlap", "lora"]
    assert data.model_name == "Small dolly"
    values = {(r.dataset_name, r.metric_type): r.metric_value for r in data.eval_results}
    assert values["50 held-out rows", "rougeL"] == pytest.approx(0.4, abs=0.01)
    assert values["held-out rows", "perplexity"] == pytest.approx(4.4817, abs=1e-4)
    # nothing in it that the hub's own class would write otherwise
    assert yaml.safe_load(data.to_yaml())["license"] == "cc-by-sa-3.0"


@pytest.mark.parametrize(
    ("base", "data", "licence", "name"),
    [
        ("Apache-2.0", "Apache 2.0", "apache-2.0", None),
        ("Apache-2.0", "CC-BY-SA-3.0", "cc-by-sa-3.0", None),
        ("Apache-2.0", "", "unknown", None),
        ("", "MIT", "unknown", None),
        ("Apache-2.0", "house rules", "unknown", None),
        ("house rules", "house rules", "other", "house rules"),
        ("Apache-2.0", "MIT", "other", "Apache-2.0 and MIT"),
        ("Apache-2.0", "CC-BY-NC-4.0", "other", "Apache-2.0 and CC-BY-NC-4.0"),
    ],
)
def test_the_licence_follows_from_base_and_data(
    tmp_path: Path, base: str, data: str, licence: str, name: str | None
) -> None:
    own = card(tmp_path, base="someone/else", taught=(replace(DOLLY, licence=data),))
    found = front(card_text(replace(own, base_licence=base)))
    assert (found["license"], found.get("license_name")) == (licence, name)


def test_an_unknown_licence_is_said(tmp_path: Path) -> None:
    text = card_text(card(tmp_path, taught=(replace(DOLLY, licence=""),)))
    assert "- data/dolly.jsonl: unknown" in text
    assert "- commercial use: unknown" in text


def test_a_set_for_no_commerce_binds_the_model(tmp_path: Path) -> None:
    text = card_text(card(tmp_path, taught=(replace(DOLLY, licence="CC BY-NC 4.0"),)))
    assert "- commercial use: no" in text
    assert "CC-BY-NC-4.0) forbids commercial use" in text


def test_the_card_says_all_that_is_known(tmp_path: Path) -> None:
    text = card_text(card(tmp_path))
    for said in (
        "| data/dolly.jsonl | 500 | CC BY-SA 3.0 | `" + "ab" * 32,
        "hf:databricks/databricks-dolly-15k at bdd2",
        "Better than base zero-shot, by rougeL.",
        "| before (step 0) | 3 | 20.1 | 0.4 | 900 |",
        "| after (step 3) | 1.5 | 4.48 | 0.6 | 900 |",
        "| learning_rate | 0.0002 |",
        "| lora.rank | 8 |",
        "Left out: over 512 tokens: 20.",
        "- machine: 2 cores",
        "400 tokens a second",
        "135 million parameters",
        "nothing here measures whether it is",
        "What it forgot was not measured",
    ):
        assert said in text, said


def test_a_card_in_thai_is_not_made_halfway(tmp_path: Path) -> None:
    text = card_text(card(tmp_path, report={"language": "th"}))
    assert not re.search("[\u0e00-\u0e7f]", text)


def test_a_prompt_with_backticks_stays_in_its_block(tmp_path: Path) -> None:
    text = card_text(card(tmp_path))
    assert "````text\n### Instruction:\nSay ``` please\n\n### Response:\n\n````" in text


def test_nothing_of_this_machine_is_on_it(tmp_path: Path) -> None:
    folder = tmp_path / "secret-folder"
    folder.mkdir()
    text = card_text(
        card(tmp_path / "home", base=str(folder / "my|model"),
             taught=(replace(DOLLY, path=str(folder / "rows.jsonl")),),
             recipe=Recipe(name="own", model=str(folder / "my|model")))
    )  # fmt: skip
    assert "secret-folder" not in text
    assert str(tmp_path) not in text
    assert "rows.jsonl" in text
    assert "base_model" not in front(text)
    assert "| model | my\\|model |" in text


def test_from_scratch_has_no_base(tmp_path: Path) -> None:
    recipe = Recipe(name="fresh", method="scratch", format="text")
    text = card_text(card(tmp_path, base="", base_digest="", recipe=recipe))
    found = front(text)
    assert "base_model" not in found
    assert found["library_name"] == "transformers"
    assert found["license"] == "cc-by-sa-3.0"
    assert "trained from scratch on 480 sequences" in text
    assert "whether tuning helped" not in text
    assert "better than its base" not in text
    assert "| fresh.layers | 4 |" in text
    assert "lora.rank" not in text


def test_llama_cpp_is_named_where_its_file_is(tmp_path: Path) -> None:
    assert "llama-cli" not in card_text(card(tmp_path))
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert "llama-cli -m model.gguf -cnv --jinja" in card_text(card(tmp_path))


def test_a_model_not_shown_better_says_so(tmp_path: Path) -> None:
    own = card(tmp_path)
    same = {ZERO_SHOT: {"rougeL": measured(0.2)}, TUNED: {"rougeL": measured(0.2)}}
    text = card_text(replace(own, report=replace(own.report, systems=same)))
    assert "Against base zero-shot the test is not decisive" in text
    assert "not shown to be better than its base" in text
    alone = card_text(replace(own, report=replace(own.report, systems={})))
    assert "whether tuning helped is not known" in alone


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's
def test_the_code_on_the_card_runs(
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As a reader would: in the folder of the model, only the base put in."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")
    peft.get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "adapter")
    text = card_text(card(tmp_path, base=str(tiny_model)))
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    code = code.replace("FOLDER/OF/llama", str(tiny_model)).replace("=200", "=5")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert capsys.readouterr().out.strip()
