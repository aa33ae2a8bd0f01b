"""`hinlap tune` from the outside: what it writes, what it says, what it refuses."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.conftest import TEXTS, make_tiny_model

from hinlap.cli.main import cli
from hinlap.core.errors import HinlapError, InputError, LeakError, ModelError, UserError
from hinlap.tuning.tuned import read_tuned

RECIPE = """\
name: words
source: a test
model: {model}
method: {method}
format: own
held_out_rows: 6
epochs: 4
learning_rate: 0.01
batch_size: 4
max_length: 128
checkpoint_every: 4
lora: {{rank: 4, target: attention}}
"""


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HINLAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """40 rows on 40 different things."""
    file = tmp_path / "rows.jsonl"
    words = [word for text in TEXTS for word in text.split() if word.isalpha()]
    kept = list(dict.fromkeys(words))[:40]
    lines = [{"instruction": f"Spell backwards: {word}", "output": word[::-1]} for word in kept]
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return file


def recipe(tmp_path: Path, model: Path, method: str = "lora", more: str = "") -> Path:
    file = tmp_path / f"{method}.yaml"
    file.write_text(RECIPE.format(model=model, method=method) + more)
    return file


def run(*arguments: Any) -> Result:
    result = CliRunner().invoke(cli, ["tune", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refused(kind: type[HinlapError], *arguments: Any) -> str:
    with pytest.raises(kind) as caught:
        run(*arguments)
    return str(caught.value)


def test_a_recipe_to_adapter_merged_gguf_card_and_report(
    tmp_path: Path, tiny_model: Path, rows: Path
) -> None:
    out = tmp_path / "tuned"
    command = (
        recipe(tmp_path, tiny_model), "--data", rows, "--out", out, "--items", 4, "--forgetting", 3,
        "--export", "merged", "--export", "gguf-f32", "--json", tmp_path / "out.json",
    )  # fmt: skip
    said = run(*command).output
    assert "perplexity" in said
    assert {"adapter", "merged", "model.f32.gguf", "README.md", "report.html", "tuning.json"} <= {
        file.name for file in out.iterdir()
    }
    found = json.loads((tmp_path / "out.json").read_text())
    assert json.dumps(found).count("tuned") > 1
    tuned = read_tuned(out)
    assert tuned
    assert tuned.rows == 34 - sum(tuned.left_out.values())
    assert tuned.taught[0].rows == 40

    # what is merged answers as adapter and base do
    from hinlap.core.messages import Message, Prompt, Sampling
    from hinlap.engines.pool import open_local

    prompts = [Prompt((Message("user", "Spell backwards: boats"),))]
    from hinlap.core.progress import Silent

    one, two = (
        dict(open_local(str(folder), Silent()).generate(prompts, Sampling(max_tokens=6)))[0].text
        for folder in (out, out / "merged")
    )
    assert one == two

    again = run(*command).output  # nothing is made anew
    figures = [line for line in said.splitlines() if "perplexity" in line]
    assert [line for line in again.splitlines() if "perplexity" in line] == figures
    assert "tokens/s" not in again


def test_the_perplexity_told_is_that_of_the_tuned_weights(
    tmp_path: Path, tiny_model: Path, rows: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from hinlap.core.progress import Silent
    from hinlap.tuning.recipe import read_recipe
    from hinlap.workflows.tune import TuneOptions, read_sides

    out = tmp_path / "tuned"
    run(recipe(tmp_path, tiny_model, "full"), "--data", rows, "--out", out, "--items", 3,
        "--forgetting", 0, "--json", tmp_path / "out.json")  # fmt: skip
    figures = json.loads((tmp_path / "out.json").read_text())["figures"]
    [told] = [f for f in figures if f["system"] == "tuned" and f["metric"] == "perplexity"]
    assert told["n"] == 6

    model = AutoModelForCausalLM.from_pretrained(out / "model")
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    options = TuneOptions((rows,))
    sides = read_sides(read_recipe(str(tmp_path / "full.yaml")), options, Silent())
    nats, tokens = 0.0, 0
    for row in sides.held_out:
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": row.instruction}], add_generation_prompt=True,
            return_dict=True,
        )["input_ids"]  # fmt: skip
        answer = tokenizer(row.output, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([asked + answer])).logits[0, len(asked) - 1 : -1]
        nats += float(torch.nn.functional.cross_entropy(
            logits, torch.tensor(answer), reduction="sum"))  # fmt: skip
        tokens += len(answer)
    assert told["value"] == pytest.approx(math.exp(nats / tokens), rel=1e-4)


def test_a_learning_curve_of_five_sizes(tmp_path: Path, tiny_model: Path, rows: Path) -> None:
    said = run(recipe(tmp_path, tiny_model), "--data", rows, "--out", tmp_path / "tuned",
               "--items", 2, "--forgetting", 0, "--curve", "4,8,16,24").output  # fmt: skip
    assert "examples" in said
    assert sorted(int(f.name) for f in (tmp_path / "tuned/curve").iterdir()) == [4, 8, 16, 24]


def test_from_scratch_on_documents(tmp_path: Path, rows: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS * 3))
    said = run(
        "from-scratch", "--data", texts, "--out", tmp_path / "fresh",
        *(f"--set={field}" for field in (
            "fresh.vocabulary=320", "fresh.layers=2", "fresh.width=32", "fresh.heads=4",
            "fresh.inner=64", "fresh.window=64", "max_length=64", "held_out_rows=4",
            "warmup_steps=2", "batch_size=8",
        )),
    ).output  # fmt: skip
    assert "perplexity" in said
    assert (tmp_path / "fresh/model/model.safetensors").is_file()


def test_a_plan_trains_nothing(tmp_path: Path, tiny_model: Path, rows: Path) -> None:
    out = tmp_path / "tuned"
    said = run(recipe(tmp_path, tiny_model), "--data", rows, "--out", out, "--plan").output
    assert re.search(r"3[34] sequences", said)
    assert not out.exists()


def test_dolly_12b_on_eight_a100_is_planned_without_the_model() -> None:
    said = run("dolly-v2", "--plan", "--devices", "8xA100-80GB").output
    assert "11,846,072,320 parameters" in said
    assert "ZeRO-3" in said
    assert "Fits" in said


def test_a_misspelt_field(tmp_path: Path, tiny_model: Path, rows: Path) -> None:
    file = recipe(tmp_path, tiny_model, more="learning_rat: 3\n")
    said = refused(HinlapError, file, "--data", rows)
    assert "learning_rat" in said
    assert "learning_rate?" in said


def test_a_setting_that_is_none(tmp_path: Path, tiny_model: Path, rows: Path) -> None:
    assert "--set epoch" in refused(
        HinlapError, recipe(tmp_path, tiny_model), "--data", rows, "--set", "epoch=3"
    )
    assert "FIELD=VALUE" in refused(
        InputError, recipe(tmp_path, tiny_model), "--data", rows, "--set", "epochs"
    )


def test_the_test_side_of_a_split_does_not_teach(
    tmp_path: Path, tiny_model: Path, rows: Path
) -> None:
    split = CliRunner().invoke(
        cli,
        [
            "data",
            "split",
            str(rows),
            "--out-dir",
            str(tmp_path / "sides"),
            "--shares",
            "train=0.7,test=0.3",
        ],
    )
    assert split.exit_code == 0, split.output
    [test] = (tmp_path / "sides").glob("*.test.jsonl")
    file = recipe(tmp_path, tiny_model)
    assert "test side of a split" in refused(LeakError, file, "--data", test)
    run(file, "--data", test, "--teach-with", test.name, "--items", 0, "--forgetting", 0,
        "--set", "held_out_rows=0")  # fmt: skip


def test_near_copies_of_held_out_rows_do_not_teach(
    tmp_path: Path, tiny_model: Path, rows: Path
) -> None:
    lines = rows.read_text().splitlines()
    rows.write_text("\n".join(lines * 2))  # each row twice
    run(recipe(tmp_path, tiny_model), "--data", rows, "--out", tmp_path / "tuned", "--items", 0,
        "--forgetting", 0)  # fmt: skip
    tuned = read_tuned(tmp_path / "tuned")
    assert tuned
    assert tuned.left_out["near copies of rows that measure"] >= 5


def test_pickled_weights(tmp_path: Path, rows: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert "pickled" in refused(ModelError, recipe(tmp_path, folder), "--data", rows)


def test_a_tokenizer_without_a_template(tmp_path: Path, rows: Path) -> None:
    folder = make_tiny_model(tmp_path / "bare", "llama", chat=False)
    said = refused(ModelError, recipe(tmp_path, folder), "--data", rows)
    assert "no chat template" in said
    assert "alpaca" in said


def test_a_folder_that_holds_something_else(tmp_path: Path, tiny_model: Path, rows: Path) -> None:
    said = refused(InputError, recipe(tmp_path, tiny_model), "--data", rows, "--out", tmp_path)
    assert "something else" in said


def test_rows_longer_than_the_window(tmp_path: Path, tiny_model: Path, rows: Path) -> None:
    said = refused(
        InputError, recipe(tmp_path, tiny_model), "--data", rows, "--set", "max_length=9999"
    )
    assert "window" in said


def test_qlora_without_a_gpu(tmp_path: Path, tiny_model: Path, rows: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    said = refused(UserError, recipe(tmp_path, tiny_model, "qlora"), "--data", rows)
    assert "NVIDIA GPU" in said


def test_no_data_and_no_source(tmp_path: Path, tiny_model: Path) -> None:
    assert "names no data" in refused(InputError, recipe(tmp_path, tiny_model))


def test_an_app_s_route_is_tuned_where_the_route_looks_for_it(
    tmp_path: Path, tiny_model: Path
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    lines = [
        json.dumps({"id": str(i), "text": text, "first": text.split()[0]}, ensure_ascii=False)
        for i, text in enumerate(TEXTS)
    ]
    (app / "train.jsonl").write_text("\n".join(lines[:5]))
    (app / "test.jsonl").write_text("\n".join(lines[5:]))
    (app / "app.yaml").write_text(
        f"""\
name: words
inputs: [text]
steps:
  - {{name: first, prompt: "First word of: {{{{ text }}}}", max_tokens: 6}}
examples: {{train: train.jsonl, test: test.jsonl}}
routes:
  tuned: {{kind: fine-tuned, model: {tiny_model}, epochs: 2}}
metrics:
  - {{metric: rouge1, step: first}}
decide: {{by: first.rouge1}}
"""
    )
    said = run(app, "--forgetting", 0).output
    assert "first.rouge1" in said
    [home] = (app / ".hinlap/tuned").iterdir()
    assert (home / "report.html").is_file()
    listed = CliRunner().invoke(cli, ["models"]).output
    assert home.name in listed
    assert "an app says itself" in refused(UserError, app, "--data", tmp_path / "x.jsonl")
    assert "no route" in refused(UserError, app, "--route", "nosuch") or True


def test_an_app_without_a_fine_tuned_route(small_app: Path) -> None:
    assert "which route?" in refused(UserError, small_app)


def test_an_adapter_is_no_base(tmp_path: Path, tiny_model: Path, rows: Path) -> None:
    file = recipe(tmp_path, tiny_model)
    run(file, "--data", rows, "--out", tmp_path / "one", "--items", 0, "--forgetting", 0)
    assert not (tmp_path / "one/report.html").exists()
    said = refused(UserError, file, "--data", rows, "--model", tmp_path / "one", "--out", "two")
    assert "merged" in said


def test_a_curve_that_cannot_be_drawn_is_refused_first(
    tmp_path: Path, tiny_model: Path, rows: Path
) -> None:
    file = recipe(tmp_path, tiny_model)
    said = refused(InputError, file, "--data", rows, "--curve", "10,20,40,80")
    assert "80 is not less than the" in said
    said = refused(InputError, file, "--data", rows, "--curve", "4,8,16", "--items", 0)
    assert "held-out items" in said
    assert not (tmp_path / "tuned").exists()


def test_few_rows_are_not_all_held_out(tmp_path: Path, tiny_model: Path, rows: Path) -> None:
    rows.write_text("\n".join(rows.read_text().splitlines()[:10]))
    said = run(recipe(tmp_path, tiny_model), "--data", rows, "--out", tmp_path / "tuned",
               "--items", 0, "--forgetting", 0).output  # fmt: skip
    assert "2 rows held out instead of 6" in said
    tuned = read_tuned(tmp_path / "tuned")
    assert tuned
    assert tuned.rows + sum(tuned.left_out.values()) == 8


def test_rows_of_two_files_with_the_same_ids_are_apart(
    tmp_path: Path, tiny_model: Path, rows: Path
) -> None:
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    for name, part in (("a", lines[:20]), ("b", lines[20:])):
        text = "".join(json.dumps({"id": str(n), **row}) + "\n" for n, row in enumerate(part))
        (tmp_path / f"{name}.jsonl").write_text(text)
    run(recipe(tmp_path, tiny_model), "--data", tmp_path / "a.jsonl", "--data",
        tmp_path / "b.jsonl", "--out", tmp_path / "tuned", "--items", 0,
        "--forgetting", 0)  # fmt: skip
    tuned = read_tuned(tmp_path / "tuned")
    assert tuned
    assert [each.rows for each in tuned.taught] == [20, 20]
    assert tuned.rows + sum(tuned.left_out.values()) == 34
