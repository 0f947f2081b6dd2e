"""`sidestep sample`: options to settings, bad input to sentences."""

import json
from pathlib import Path
from typing import Any

import pytest

from sidestep import registry
from sidestep.adapters import opening
from sidestep.cli import _rule, sample
from sidestep.cli._model import Chosen
from sidestep.cli.main import main
from sidestep.mitigations.perturbation import EmbeddingNoise, RandomWords
from sidestep.runs import run as run_folder
from sidestep.runs.records import Record


class Words:
    """A model that reads at most five words."""

    max_tokens = 5

    def count_tokens(self, prompt: str) -> int:
        return len(prompt.split())


@pytest.fixture
def loads() -> list[dict[str, Any]]:
    """The arguments that loading was called with."""
    return []


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, loads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Replace loading and generating; the arguments that generating was called with."""
    seen: list[dict[str, Any]] = []

    def run(
        model: Any, name: str, prompts: list[str], rules: list[Any], out: Path, **more: Any
    ) -> list[Record]:
        seen.append(dict(more, name=name, prompts=prompts, rules=rules, out=out))
        return [
            Record(
                rule=how.label, method=how.name, settings=how.settings, before=0.0, kind="other",
                prompt=prompt, seed=1, draw=draw, image=f"images/x/{draw:04d}.png", transition=8,
                transition_time=0.81, opened_by="signal", nfe=100, seconds=0.3, nearest=None,
                nearest_image=None, similarity={}, recipe=None, threshold=None, copy=None,
                agreement=None, spread=None,
            )
            for how in rules for prompt in prompts for draw in range(more["draws"])
        ]  # fmt: skip

    def load(path: Path, device: str = "cpu", **more: Any) -> Words:
        loads.append(dict(more, path=path))
        return Words()

    monkeypatch.setattr(opening, "open_model", load)
    monkeypatch.setattr(run_folder, "run", run)
    return seen


def test_options_become_settings(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["sample", "model", "a fox", "a hen", "--before", "-2", "--scale", "5",
                 "--drop", "0.1", "--earliest", "0.8", "--latest", "0.2", "--fallback", "none",
                 "--steps", "20", "--finer", "40", "--draws", "3", "--seed", "9", "--batch", "2",
                 "--out", str(out)]  # fmt: skip
    assert main(arguments) == 0
    (call,) = calls
    (how,) = call.pop("rules")
    assert how.name == "dynamic"
    assert how.settings == {
        "before": -2, "after": 5, "drop": 0.1, "earliest": 0.8, "latest": 0.2, "fallback": None,
    }  # fmt: skip
    call.pop("report")
    assert call == {
        "name": "model", "prompts": ["a fox", "a hen"], "out": out, "steps": 20, "finer": 40,
        "draws": 3, "seed": 9, "batch": 2,
    }  # fmt: skip


def test_a_model_says_with_what_options_it_is_loaded_again() -> None:
    half = Chosen("m", device="cuda", precision="float16", resolution=512)
    assert half.loading == ("--precision", "float16", "--resolution", "512")
    assert Chosen("m", device="cuda").loading == ()  # where it runs is up to who makes it again


@pytest.mark.parametrize(
    ("options", "lora", "scale", "name"),
    [
        ([], None, 1.0, "m"),
        (["--lora", "fine.safetensors"], "fine.safetensors", 1.0, "m + fine.safetensors"),
        (["--lora", "out/lora", "--lora-scale", "0.5"], "out/lora", 0.5, "m + out/lora x 0.5"),
        (["--lora", "l", "--lora-scale", "-0.12345678"], "l", -0.12345678, "m + l x -0.12345678"),
        (["--lora", "out/lora", "--lora-scale", "1"], "out/lora", 1.0, "m + out/lora"),
    ],
)
def test_a_lora_reaches_the_model_and_its_name_in_the_run(
    options: list[str], lora: str | None, scale: float, name: str,
    calls: list[dict[str, Any]], loads: list[dict[str, Any]], tmp_path: Path,
) -> None:  # fmt: skip
    assert main(["sample", "m", "a", *options, "--out", str(tmp_path)]) == 0
    (load,) = loads
    assert (load["path"], load["lora"]) == (Path("m"), lora and Path(lora))
    assert load["lora_scale"] == scale
    assert calls[0]["name"] == name


def test_a_picture_can_be_asked_for_without_a_prompt(
    calls: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", "m", "", "--out", str(tmp_path)]) == 0
    assert calls[0]["prompts"] == [""]
    # An empty variable of a shell looks the same, so it is said.
    assert "prompt 1 is empty: a picture without a prompt" in capsys.readouterr().err


def test_settings_not_given_are_the_rules_own(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    from sidestep.guidance.dynamic import Dynamic

    assert main(["sample", "m", "a", "--out", str(tmp_path)]) == 0
    assert calls[0]["rules"][0].rule == Dynamic(after=7.5)


@pytest.mark.parametrize("option", ["--after", "--scale"])
def test_plain_guidance_takes_its_scale(
    option: str, calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert (
        main(["sample", "m", "a", "--rule", "constant", option, "3", "--out", str(tmp_path)]) == 0
    )
    assert calls[0]["rules"][0].settings == {"scale": 3}


@pytest.mark.parametrize("rule", _rule.rule_names())
def test_every_rule_can_be_chosen(rule: str, calls: list[dict[str, Any]], tmp_path: Path) -> None:
    assert main(["sample", "m", "a", "--rule", rule, "--out", str(tmp_path)]) == 0
    assert calls[0]["rules"][0].name == rule


def test_rules_are_what_the_registry_knows() -> None:
    guided = {e.name for e in registry.entries("rule") + registry.entries("sampler")}
    assert set(_rule.rule_names()) == guided


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a fox", " \t"], "prompt 2 is nothing but spaces; write what the picture should show"),
        (["a fox", "a fox"], "the same as prompt 1"),
        (["one two three four five six"], "prompt 1 has 6 tokens and is cut at 5"),
        (["a " * 100_000], "prompt 1 has 100000 tokens and is cut at 5"),
        (["a", "--rule", "dynamc"], "there is no rule named 'dynamc'; did you mean dynamic?"),
        (["a", "--rule", "prbe"], "did you mean probe?"),
        (["a", "--rule", "xyzzy"], "known are constant, static, dynamic, interval"),
        (["a", "--scale", "nan"], "is nan; a guidance scale must be a finite number"),
        (["a", "--before", "inf"], "is inf; a guidance scale must be a finite number"),
        (["a", "--scale", "much"], "'much' is not a valid float"),
        (["a", "--lora-scale", "0.5"], "--lora-scale weighs a LoRA; name its file with --lora"),
        (["a", "--draws", "0"], "'--draws': 0 is not in the range"),
        (["a", "--batch", "0"], "'--batch': 0 is not in the range"),
        (["a", "--steps", "0"], "'--steps': 0 is not in the range"),
        (["a", "--rule", "static", "--time", "500"], "as a timestep of 1000 it would be 0.5"),
        (["a", "--fallback", "never"], "'never' is neither a time in [0, 1] nor the word none"),
        (["a", "--rule", "constant", "--before", "0"], "the rule constant has no --before; it has"),
        (["a", "--rule", "static", "--drop", "0"], "the rule static has no --drop"),
        (["a", "--time", "0.5"], "the rule dynamic has no --time"),
        (["a", "--rule", "probe", "--time", "0.5", "--drop", "0"], "no --time and no --drop"),
        ([], "Missing argument 'PROMPT...'"),
    ],
)
def test_bad_input_is_a_sentence_and_samples_nothing(
    arguments: list[str], words: str, calls: list[dict[str, Any]], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "run"
    assert main(["sample", "model", "--out", str(out), *arguments]) == 2
    output = capsys.readouterr()
    assert words in output.err
    assert "Traceback" not in output.err
    assert output.out == ""
    assert calls == []
    assert not out.exists()


def test_a_long_prompt_is_cut_on_request_and_said(
    calls: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = "one two three four five six"
    assert main(["sample", "m", prompt, "--cut", "--json", "--out", str(tmp_path)]) == 0
    output = capsys.readouterr()
    note = "prompt 1 has 6 tokens and is cut at 5"
    assert output.err.startswith(f"Note: {note}\n")
    assert json.loads(output.out)["notes"] == [note]
    assert calls[0]["prompts"] == [prompt]


def test_missing_model_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "nothing"
    assert main(["sample", str(missing), "a", "--out", str(tmp_path / "run")]) == 2
    assert f"Error: {missing} is not a folder" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_output_folder_that_is_a_file(
    calls: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("")
    assert main(["sample", "m", "a", "--out", str(tmp_path / "out")]) == 2
    assert "is a file, and the output needs a folder" in capsys.readouterr().err
    assert calls == []


def test_finished_records_are_left_alone(
    calls: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "records.jsonl").write_text("{}\n")
    assert main(["sample", "m", "a", "--out", str(tmp_path)]) == 2
    assert "already holds the records of a run" in capsys.readouterr().err
    assert (tmp_path / "records.jsonl").read_text() == "{}\n"
    assert calls == []


def test_default_folders_do_not_collide(
    calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["sample", "m", "a"]) == 0
    assert [call["out"] for call in calls] == [Path("out/sample-1"), Path("out/sample-2")]


def test_table_says_when_guidance_came_on(
    calls: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", "m", "a [red] fox", "--draws", "50", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("0.81 (signal)") == sample.ROWS_SHOWN
    assert "and 10 more in records.jsonl" in shown
    assert "a [red] fox" in shown


def test_mitigations_are_read_with_their_settings(
    calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    asked = ["--mitigation", "random-words:count=2", "--mitigation", "embedding-noise"]
    assert main(["sample", "embedded", "a fox", *asked, "--out", str(tmp_path / "run")]) == 0
    (how,) = calls[0]["rules"]
    assert how.mitigations == (RandomWords(2), EmbeddingNoise(0.1))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("random-word:count=2", "did you mean random-words"),
        ("random-words:count", "has a setting without a value"),
        ("random-words:cuont=2", "random-words has no setting cuont; it has count"),
    ],
)
def test_a_mitigation_that_cannot_be_read_is_a_sentence(
    given: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", "embedded", "a fox", "--mitigation", given]) == 2
    assert sentence in capsys.readouterr().err
