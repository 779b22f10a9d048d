import ast
import inspect
import json
import logging
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from audit.cli.app import app
from audit.cli.plan import expected_lines, fit_line, most_lines
from audit.core.types import PassCount
from audit.planning.cost import CostEstimate
from audit.planning.expectation import Expectation, TaskCost
from audit.planning.experience import Experience
from audit.planning.throughput import Throughput
from audit.planning.time_budget import BudgetFit

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "run",
    "plan",
    "train",
    "harden",
    "calibrate",
    "compress",
    "predict",
    "report",
    "check",
    "compare",
    "methods",
    "doctor",
    "schema",
    "init",
    "list",
    "show",
    "index",
)


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(command: str) -> None:
    shown = call(command, "--help")
    assert shown.exit_code == 0
    assert "Examples" in shown.stdout and f"audit {command}" in shown.stdout
    for flag in ("--json", "--quiet", "--verbose", "--no-color"):
        assert flag in shown.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_a_command_is_read_in_it(command: str) -> None:
    tree = ast.parse((ROOT / "audit" / "cli" / f"{command}.py").read_text())
    functions = {one.name.rstrip("_"): one for one in tree.body if isinstance(one, ast.FunctionDef)}
    found = functions.get(command) or next(one for name, one in functions.items() if not name.startswith("_"))
    read = {one.id for part in found.body for one in ast.walk(part) if isinstance(one, ast.Name)}
    assert {one.arg for one in found.args.args} <= read


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "altair", "jinja2", "sklearn", "scipy", "captum", "shap")
    code = f"import sys, audit.cli.app; print([name for name in {heavy!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_help_of_stop_and_precision_names_what_they_take() -> None:
    lines = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).stdout.splitlines()
    (stop,) = (line for line in lines if "--stop " in line)
    (precision,) = (line for line in lines if "--precision " in line)
    assert "decides|all|NUMBER" in stop
    assert " NUMBER " in precision and "decides" not in precision and "above 0, below 0.5." in precision


def test_rendering_a_report_needs_no_torch() -> None:
    code = (
        "import sys, audit.report.html, audit.report.document, audit.results.run_checks; print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_the_module_is_the_command() -> None:
    shown = subprocess.run([sys.executable, "-m", "audit", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.strip()[0].isdigit()


def test_methods_lists_every_kind_with_settings_and_sources() -> None:
    rows = json.loads(call("methods", "--json").stdout)["methods"]
    by_name = {(row["kind"], row["name"]): row for row in rows}
    assert by_name["attack", "pgd"]["settings"]["steps"]
    assert "1706.06083" in by_name["attack", "pgd"]["reference"]
    assert {row["kind"] for row in rows} >= {"attack", "attribution", "corruption", "recipe", "study", "check"}
    only = json.loads(call("methods", "attack", "--json").stdout)["methods"]
    assert {row["kind"] for row in only} == {"attack"}


def test_plan_lists_cells_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    shown = call("plan", "--out", out, "--json", "--no-probe")
    cells = json.loads(shown.stdout)["cells"]
    assert {"training", "accuracy", "robustness", "corruption", "explanation", "faithfulness"} <= {
        c["study"] for c in cells
    }
    assert [c["wave"] for c in cells if c["study"] == "training"] == [0, 1]
    assert not any(c["stored"] for c in cells)
    cost = json.loads(shown.stdout)["at_most"]
    assert cost["forwards"] == sum(c["passes"]["forwards"] for c in cells if c["passes"]) > 10_000
    assert cost["untold_cells"] == sum(c["passes"] is None for c in cells) and cost["seconds"] > 0
    assert not out.exists()


def test_a_plan_tells_what_is_expected_apart_from_the_most(tmp_path: Path) -> None:
    document = json.loads(call("plan", "--out", tmp_path / "run", "--json", "--no-probe").stdout)
    expected, most = document["expected"], document["at_most"]
    told = [cell["expected"] for cell in document["cells"] if cell["expected"]]
    assert expected["forwards"] == sum(cost["passes"]["forwards"] for cost in told) < most["forwards"]
    assert expected["backwards"] == sum(cost["passes"]["backwards"] for cost in told) < most["backwards"]
    assert 0 < expected["seconds"] < most["seconds"] and expected["seconds_by_study"]["training"] > 0
    assert set(expected["cells_by_basis"]) == {"usual", "declared", "unlikely"} and expected["images_probed"] == 0
    assert expected["untold_cells"] == most["untold_cells"] == 0


def test_a_plan_says_what_it_rests_on_and_which_keys_follow() -> None:
    costs = CostEstimate(PassCount(4000, 1000), {"robustness": PassCount(4000, 1000)}, 2)
    experience = Experience(Throughput(forward=0.1, gradient=0.3), probed=6)
    by_task = {"a": TaskCost(PassCount(400, 100), 60.0, "probe"), "b": TaskCost(PassCount(40, 0), 600.0, "usual")}
    told = Expectation(by_task, PassCount(440, 100), 660.0, {"robustness": 60.0, "explanation": 600.0}, 0)
    whole, *dearest = expected_lines(told, experience)
    assert whole == (
        "What is missing should take 11 min here: 440 forwards and 100 gradients, by 6 images probed, what is usual of "
        "models that do not exist yet."
    )
    assert [line.split(",")[0] for line in dearest] == [
        "  explanation: 10 min; cheaper by explanations.examples",
        "  robustness: 60 s; cheaper by robustness.examples",
    ]
    (most,) = most_lines(costs, 600.0, experience)
    assert most.startswith("At most: 10 min,") and "4,000 forwards and 1,000 gradients at 100 ms and 300 ms" in most
    assert "2 cells" in most
    nothing = Expectation({}, PassCount(), 0.0, {}, 0)
    assert expected_lines(nothing, experience) == most_lines(CostEstimate(PassCount(), {}, 0), 0.0, experience) == []


def test_a_plan_says_how_to_stay_within_a_time(tmp_path: Path) -> None:
    shown = call("plan", "--out", tmp_path / "run", "--within", "1s", "--json", "--no-probe")
    found = json.loads(shown.stdout)["within"]
    assert found["counts"]["explanations.examples"] == 4 and not found["enough"] and found["seconds"] > 1
    few = BudgetFit({"robustness.examples": 64, "explanations.examples": 6}, 570.0, within_limit=True)
    flags = "--set robustness.examples=64 --set explanations.examples=6"
    assert fit_line(few, "10m") == f"Within 10m: {flags} (about 10 min)."
    assert fit_line(BudgetFit({}, 570.0, within_limit=True), "10m") == "It should stay within 10m as it is."
    refused = fit_line(BudgetFit(few.counts, 570.0, within_limit=False), "9m")
    assert refused == f"No number of examples makes it 9m: with {flags} it should take 10 min. Choose fewer methods."


def test_a_plan_says_what_a_run_says_of_data_and_model(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(6):
            side = 30 if number else 40
            Image.new("L", (side, 28), number * 9).save(tmp_path / "data" / name / f"{number}.png")
    shown = call(
        "plan", "--data", f"folder:{tmp_path / 'data'}", "--no-probe", "--no-harden", "--out", tmp_path / "run"
    )
    assert shown.exit_code == 0, shown.output
    assert "2 classes of" in shown.stderr and "note:" in shown.stderr


def test_trust_in_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    shown = call("plan", "--trust", tmp_path / "absent.py", "--no-probe", "--out", tmp_path / "run")
    assert shown.exit_code == 2 and "absent.py: there is no such file, and nothing needed it" in shown.stderr


@pytest.mark.usefixtures("roomy_disk")
def test_doctor_reports_the_machine(tmp_path: Path) -> None:
    shown = call("doctor", "--out", tmp_path / "run", "--json")
    examined = {one["what"]: one for one in json.loads(shown.stdout)["examined"]}
    assert shown.exit_code == 0
    assert examined["torch"]["fine"] and examined["device"]["fine"]
    assert not (tmp_path / "run").exists()


def test_doctor_exits_5_when_the_disk_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3 * 10**8))
    shown = call("doctor", "--out", tmp_path)
    assert shown.exit_code == 5
    assert "0.3 GB, where an audit asks for 0.5 GB" in shown.stdout


def test_doctor_exits_5_when_the_device_is_absent(tmp_path: Path) -> None:
    shown = call("doctor", "--device", "cuda:7", "--out", tmp_path)
    assert shown.exit_code == 5 and "missing" in shown.stdout


RULES = "decides, all, or a number above 0 and below 0.5 was expected"
WRONG: dict[str, tuple[list[str], int, list[str]]] = {
    "seed below zero": (["run", "--seed", "-1"], 2, ["--seed '-1' should be greater than or equal to 0"]),
    "size out of bounds": (["run", "--image-size", "4"], 2, ["--image-size (data.image_size) '4'", "8"]),
    "share that is none": (["harden", "--crop", "wide"], 2, ["--crop (data.crop) 'wide'", "number"]),
    "unknown norm": (["compress", "--norm", "linff"], 2, ["--norm (robustness.norm)", "Did you mean 'linf'?", "l2"]),
    "unknown section": (["run", "--only", "accuracy", "--only", "rob"], 2, ["--only 'rob'", "robustness"]),
    "unknown detail": (["run", "--detail", "hihg"], 2, ["Unknown detail 'hihg'", "high, normal"]),
    "two batteries": (["run", "--battery", "quick", "--attacks", "pgd"], 2, ["--battery and --attacks", "one of"]),
    "no epochs": (["train", "--epochs", "0"], 2, ["--epochs (training.epochs) '0'"]),
    "unknown optimiser": (["train", "--optimizer", "adamm"], 2, ["--optimizer", "Did you mean 'adam'?"]),
    "precision out of bounds": (["run", "--precision", "3"], 2, ["--precision '3'", "less than 0.5"]),
    "precision that is no number": (["run", "--precision", "decides"], 2, ["--precision 'decides'", "valid number"]),
    "precision of training": (["run", "--precision", "bfloat16"], 2, ["--precision 'bfloat16'", "valid number"]),
    "no rule for stopping": (["run", "--stop", "maybe"], 2, [f"--stop 'maybe': {RULES}."]),
    "rule out of bounds": (["run", "--stop", "0.5"], 2, [f"--stop '0.5': {RULES}."]),
    "no rule as a key": (["plan", "--set", "stop=sometimes"], 2, [f"key stop: {RULES}, but 'sometimes'"]),
    "unknown augmentation": (["train", "--augmentation", "keas"], 2, ["--augmentation", "Did you mean 'keras'?"]),
    "unknown compression": (["compress", "--method", "int7"], 2, ["--method", "int8"]),
    "angle out of bounds": (["predict", "a.png", "--model", "a.pt", "--rotate", "400"], 2, ["--rotate", "180"]),
    "no duration": (["plan", "--within", "soon"], 2, ["--within 'soon'", "1.5h"]),
    "unknown battery": (["plan", "--set", "robustness.battery=strong"], 2, ["battery", "'strong'", "quick"]),
    "unknown architecture": (["plan", "--architecture", "cnn-29"], 2, ["architecture", "cnn-28"]),
    "unknown data source": (["plan", "--data", "fashionmnist:here"], 2, ["data source", "fashion-mnist:DIR"]),
    "unknown attribution": (["plan", "--set", 'explanations.methods=["gradcam"]'], 2, ["attribution", "grad-cam"]),
    "unknown corruption": (["plan", "--set", 'corruptions.names=["fogg"]'], 2, ["corruption", "'fogg'"]),
    "unknown recipe": (["plan", "--set", 'hardening.recipe="trade"'], 2, ["recipe", "'trade'", "pgd"]),
    "unknown setting": (
        ["plan", "--set", "hardening.recipe_settings.stps=3"],
        2,
        ["setting of recipe pgd", "start"],
    ),
    "unknown preset": (["plan", "--preset", "fast"], 2, ["preset", "standard"]),
    "unknown key": (["plan", "--set", "robustness.exampels=3"], 2, ["robustness.exampels", "'examples'"]),
    "malformed --set": (["plan", "--set", "robustness"], 2, ["KEY=VALUE"]),
    "malformed duration": (["harden", "--time-budget", "soon"], 2, ["--time-budget", "12m"]),
    "malformed mean": (["plan", "--mean", "a,b"], 2, ["--mean", "0.5,0.5,0.5"]),
    "eps in bytes": (["run", "--eps", "8"], 2, ["8/255"]),
    "no such device": (["run", "--device", "cuda:9"], 5, ["cuda:9", "auto or cpu"]),
    "missing checkpoint": (["run", "--model", "absent.safetensors"], 2, ["absent.safetensors"]),
    "code without trust": (["run", "--architecture", "{net}:make"], 4, ["net.py", "--trust"]),
    "missing configuration": (["run", "absent.toml"], 2, ["absent.toml"]),
    "no run to report": (["report", "absent"], 2, ["audit.json"]),
    "unknown language": (["report", "{document}", "--lang", "xx"], 2, ["xx", "en"]),
    "unknown format": (["report", "{document}", "--format", "docx"], 2, ["format", "'docx'", "junit"]),
    "not a document": (["report", "{document}"], 2, ["audit.json", "not an audit document"]),
    "no run to check": (["check", "absent"], 2, ["audit.json"]),
    "no policy": (["check", "--policy", "absent.toml"], 2, ["absent.toml"]),
    "no run to compare": (["compare", "absent", "other"], 2, ["audit.json"]),
    "unknown kind": (["methods", "atack"], 2, ["'attack'"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_invocation_gets_one_sentence_and_its_exit_code(case: str, tmp_path: Path) -> None:
    words, code, fragments = WRONG[case]
    net, document = tmp_path / "net.py", tmp_path / "audit.json"
    net.write_text("def make(): raise SystemExit('ran')\n")
    document.write_text("{}")
    filled = [word.format(net=net, document=document) for word in words]
    out = [] if words[0] in ("methods", "report", "check", "compare") else ["--out", str(tmp_path / "out")]
    shown = call(*filled, *out)
    assert shown.exit_code == code, shown.output
    assert "Traceback" not in shown.output
    for fragment in fragments:
        assert fragment in shown.stderr, shown.stderr
    assert not (tmp_path / "out").exists()
    if words[0] != "report":
        as_json = json.loads(call(*filled, *out, "--json").stdout)
        assert as_json["exit_code"] == code


def test_typers_own_usage_errors_exit_2() -> None:
    assert call("run", "--no-such-flag").exit_code == 2
    assert call("launch").exit_code == 2


def test_plan_takes_every_flag_that_run_takes_of_what_is_measured() -> None:
    def flags(name: str) -> set[str]:
        [command] = [one for one in app.registered_commands if one.callback.__name__ == name]  # type: ignore[union-attr]
        return set(inspect.signature(command.callback).parameters)  # type: ignore[arg-type]

    assert flags("run") - flags("plan") == {"gate", "watch", "shares", "nproc"}


@pytest.mark.parametrize(
    ("called", "words"), [("/lib/audit/__main__.py", ["python", "-m", "audit"]), ("/bin/audit", ["audit"])]
)
def test_the_command_that_resumes_can_be_pasted(called: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from audit.cli.run_command import current_command

    monkeypatch.setattr(sys, "argv", [called, "run", "--out", "my run"])
    assert shlex.split(current_command()) == [*words, "run", "--out", "my run"]


def test_a_command_leaves_the_log_of_the_process_as_it_was() -> None:
    log = logging.getLogger("audit")
    before = log.handlers[:], log.level, log.propagate
    assert call("schema", "--quiet").exit_code == 0
    assert (log.handlers[:], log.level, log.propagate) == before
