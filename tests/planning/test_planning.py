from dataclasses import replace
from typing import Any

import pytest

from audit.config import HardeningConfig, load_config
from audit.core import method_table
from audit.core.errors import UsageError
from audit.core.registry import find
from audit.planning.build import build_plan
from audit.planning.cost import max_task_passes
from audit.planning.explanations import BACKGROUND
from audit.planning.plan import AuditPlan, Task
from audit.planning.run_identity import RunIdentity, curve_eps, headline_eps
from audit.training.defaults import suited_hardening

SUBJECT = RunIdentity(
    classes=("a", "b"),
    shape=(1, 28, 28),
    test="test-pixels",
    test_examples=1200,
    architecture="cnn-28",
    train="train-pixels",
    train_examples=300,
)


EVERY_TOPIC: dict[str, object] = {"attribution_quality": {"enabled": True}, "drift": {"enabled": True}}


def plan(subject: RunIdentity = SUBJECT, **overrides: object) -> AuditPlan:
    return build_plan(load_config(overrides=overrides), subject)


def studies(of: AuditPlan, role: str) -> set[str]:
    return {task.cell.study for task in of.tasks if task.role == role}


def test_every_input_comes_in_an_earlier_wave_and_no_cell_twice() -> None:
    tasks = plan(**EVERY_TOPIC, shortcuts={"examples": 500}).tasks
    wave = {task.cell.key: task.wave for task in tasks}
    assert len(wave) == len(tasks)
    for task in tasks:
        needed = [*task.cell.inputs.values()]
        if task.cell.model.startswith("cell:"):
            needed.append(task.cell.model.removeprefix("cell:"))
        assert all(wave[key] < task.wave for key in needed), task.label


def test_both_models_are_audited_alike() -> None:
    whole = plan()
    assert studies(whole, "standard") - {"self-test", "data-health", "label-errors"} == studies(whole, "hardened")
    assert {"accuracy", "model-sanity", "robustness", "corruption", "explanation", "faithfulness"} < studies(
        whole, "hardened"
    )


def test_methods_that_average_get_a_background_unless_a_baseline_is_asked_for() -> None:
    asked = {"methods": ["deep-lift", "deep-shap", "expected-gradients"]}
    for baseline, given in ((None, BACKGROUND), ("mean", None)):
        tasks = plan(**EVERY_TOPIC, explanations=asked | {"baseline": baseline}).tasks
        for study in ("explanation", "attribution-quality"):
            found = {t.cell.method: t.cell.settings.get("references") for t in tasks if t.cell.study == study}
            assert found == {"deep-lift": None, "deep-shap": given, "expected-gradients": given}


def explained(of: AuditPlan, method: str, study: str = "explanation") -> list[Task]:
    return [t for t in of.tasks if (t.cell.study, t.cell.method, t.role) == (study, method, "standard")]


@pytest.mark.parametrize("order", [["shap", "saliency", "lime"], ["lime", "saliency", "shap"], ["all"]])
def test_lime_builds_on_shap_whatever_the_order_and_the_report_keeps_the_order(order: list[str]) -> None:
    whole = plan(**EVERY_TOPIC, explanations={"methods": order})
    for lime, shap in zip(explained(whole, "lime"), explained(whole, "shap"), strict=True):
        assert lime.cell.settings["on"] == shap.cell.settings["on"]
        assert lime.cell.inputs["masks"] == shap.cell.key and lime.wave > shap.wave
    assert {tuple(sorted(t.cell.inputs)) for t in explained(whole, "lime")} == {("masks",), ("masks", "robustness")}
    for study in ("attribution-quality", "drift"):
        inputs = explained(whole, "lime")[0].cell.inputs
        assert all(t.cell.inputs["masks"] == inputs["masks"] for t in explained(whole, "lime", study))
    for study in ("explanation", "faithfulness", "attribution-quality", "drift"):
        told = list(dict.fromkeys(t.cell.method for t in whole.tasks if t.cell.study == study))
        assert told == (sorted(told) if order == ["all"] else order), study
    assert {t.cell.method for t in whole.tasks if "masks" in t.cell.inputs} == {"lime"}


@pytest.mark.parametrize(
    ("settings", "shared"),
    [
        ({"methods": ["lime"]}, set()),
        ({"methods": ["shap", "lime"], "settings": {"lime": {"replay": 1}}}, set()),
        ({"methods": ["shap", "lime", "rise"], "settings": {"rise": {"over": "segments"}}}, {"lime"}),
        (
            {"methods": ["shap", "rise", "occlusion"], "settings": {"rise": {"over": "segments"}}, "baseline": "blur"},
            {"rise"},
        ),
    ],
)
def test_only_the_same_question_is_shared(settings: dict[str, object], shared: set[str]) -> None:
    assert {t.cell.method for t in plan(explanations=settings).tasks if "masks" in t.cell.inputs} == shared


def test_a_section_alone_brings_the_answers_it_builds_on() -> None:
    part = plan(only=["explanations"])
    keys = {task.cell.key for task in part.tasks}
    assert all(task.cell.inputs["masks"] in keys for task in explained(part, "lime"))


@pytest.mark.parametrize(
    ("shape", "algorithm", "precision", "asks"),
    [
        ((1, 28, 28), "auto", 0, False),
        ((1, 28, 28), "auto", 0.3, True),
        ((1, 28, 28), "exact", 0.3, False),
        ((1, 28, 28), "kernel", 0, True),
        ((3, 36, 36), "auto", 0, True),
    ],
)
def test_lime_is_foretold_to_ask_nothing_where_shap_asks_every_mask(
    shape: tuple[int, int, int], algorithm: str, precision: float, asks: bool
) -> None:
    """Images of 36x36 may come in 13 segments, one too many to ask every mask; to a precision none asks them all."""
    subject = replace(SUBJECT, shape=shape)
    asked = {"settings": {"shap": {"algorithm": algorithm}}, "precision": precision}
    for task in explained(plan(subject, explanations=asked), "lime"):
        most = max_task_passes(task, subject)
        assert most is not None and most.forwards == (len(task.examples) * 1001 if asks else 0)


def test_adversarial_maps_are_planned_of_the_images_that_the_report_shows() -> None:
    tasks = [task for task in plan().tasks if task.cell.study == "explanation"]
    by_kind = {str(task.cell.settings["on"]): (task.examples.start, task.examples.stop) for task in tasks}
    assert by_kind == {"clean": (0, 24), "adversarial": (0, 6)}


def test_chunks_cover_the_examples_once_and_keep_the_images_that_are_explained() -> None:
    parts = [task for task in plan(stop="all", robustness={"examples": 1100}).tasks if task.cell.study == "robustness"]
    ours = [task for task in parts if task.role == "standard"]
    assert [(t.examples.start, t.examples.stop) for t in ours] == [(0, 500), (500, 1000), (1000, 1100)]
    assert [t.cell.settings["kept"] for t in ours] == [24, 0, 0]


@pytest.mark.parametrize(
    ("examples", "ends"),
    [
        (60, [60]),
        (64, [64]),
        (80, [80]),
        (500, [64, 96, 144, 216, 324, 500]),
        (2100, [64, 96, 144, 216, 324, 486, 729, 1200]),
    ],
)
def test_a_study_that_may_stop_early_takes_images_in_growing_steps(examples: int, ends: list[int]) -> None:
    ours = [t for t in plan(robustness={"examples": examples}).tasks if (t.cell.study, t.role) == ATTACKED]
    assert [t.examples.stop for t in ours] == ends
    assert [t.examples.start for t in ours] == [0, *ends[:-1]]
    assert ["sanity_checks" not in t.cell.settings for t in ours] == [True] + [False] * (len(ours) - 1)


ATTACKED = ("robustness", "standard")


@pytest.mark.parametrize(
    "table",
    [{"explanations": {"examples": 150}}, {"attack_controls": {"examples": 150}}, {"certification": {"examples": 150}}],
)
def test_the_first_step_holds_the_images_that_other_topics_read_of_it(table: dict[str, Any]) -> None:
    planned = plan(robustness={"examples": 500}, **table).tasks
    (first, second, *_) = [t for t in planned if (t.cell.study, t.role) == ATTACKED]
    assert (first.examples.stop, second.examples.stop) == (150, 225)
    readers = [t for t in planned if first.cell.key in t.cell.inputs.values()]
    assert readers and all(t.examples.stop <= 150 for t in readers)
    assert not [t for t in planned if second.cell.key in t.cell.inputs.values()]


def test_what_only_checks_the_other_attacks_runs_in_the_first_step_alone() -> None:
    tasks = [t for t in plan(robustness={"battery": ROWS}).tasks if (t.cell.study, t.role) == ATTACKED]
    attacks = [[row[1] for row in t.cell.settings["protocol"][0]] for t in tasks]
    assert attacks == [["apgd-ce", "square"]] + [["apgd-ce"]] * 5


def test_a_number_of_images_within_the_first_step_or_all_of_them_is_planned_as_ever() -> None:
    """So that stores of earlier versions stay valid: the keys are those of one cell of up to 500."""
    few = {"examples": 60}
    one, whole = (
        [t.cell.key for t in plan(stop=stop, robustness=few, corruptions=few).tasks] for stop in ("decides", "all")
    )
    assert one == whole


def test_a_loaded_model_is_not_trained_but_starts_the_hardening() -> None:
    given = plan(replace(SUBJECT, loaded="file:abc"))
    trained = [task for task in given.tasks if task.cell.study == "training"]
    assert [(task.role, task.cell.model) for task in trained] == [("hardened", "file:abc")]


def test_hardening_from_scratch_owes_nothing_to_the_audited_model() -> None:
    fresh = plan(hardening={"from_scratch": True})
    (hardening,) = [t for t in fresh.tasks if t.cell.study == "training" and t.role == "hardened"]
    assert hardening.cell.inputs == {} and hardening.cell.model == ""


def test_the_train_scope_trains_and_measures_and_no_more() -> None:
    small = build_plan(load_config(), SUBJECT, "train")
    assert [task.cell.study for task in small.tasks] == ["training", "accuracy"]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"robustness": {"battery": "standard"}},
        {"robustness": {"eps": 0.2}},
        {"training": {"epochs": 5}},
    ],
)
def test_what_changes_an_answer_changes_its_key(change: dict[str, object]) -> None:
    def robust(of: AuditPlan) -> set[str]:
        return {task.cell.key for task in of.tasks if task.cell.study == "robustness" and task.role == "standard"}

    assert robust(plan(**change)).isdisjoint(robust(plan()))


def test_device_and_report_choices_change_no_key() -> None:
    keys = [task.cell.key for task in plan().tasks]
    assert [task.cell.key for task in plan(device="cpu", report={"gallery": 2}).tasks] == keys


def test_the_curve_rises_through_the_headline() -> None:
    colour = replace(SUBJECT, shape=(3, 32, 32))
    config = load_config()
    assert headline_eps(config, SUBJECT) == 0.1
    assert headline_eps(config, colour) == 8 / 255
    for subject in (SUBJECT, colour):
        curve = curve_eps(config, subject)
        assert list(curve) == sorted(set(curve)) and headline_eps(config, subject) in curve


def test_everything_there_is_by_the_word_all() -> None:
    every = plan(corruptions={"names": ["all"], "severities": [3]})
    assert len({task.cell.method for task in every.tasks if task.cell.study == "corruption"}) == 19


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"robustness": {"curve": [0.1, 2.0]}}, "8/255"),
        ({"explanations": {"settings": {"lime": {"sample": 3}}}}, "samples"),
        ({"hardening": {"recipe": "none"}}, "pgd"),
    ],
)
def test_what_cannot_be_planned_is_said(change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan(**change)


ROWS = [{"attack": "apgd-ce", "settings": {"steps": 30}}, {"attack": "square", "sample": 16, "title": "check"}]


@pytest.mark.parametrize("battery", ["apgd-ce,square", ROWS])
def test_any_attacks_can_be_planned_as_a_battery(battery: object) -> None:
    config = {"battery": battery, "control_examples": 16}
    tasks = [t for t in plan(stop="all", robustness=config).tasks if t.cell.study in ("robustness", "attack-controls")]
    assert {task.cell.method for task in tasks} == {"custom"} and len(tasks) == 4
    for task in tasks:
        attacks, refined = task.cell.settings["protocol"]
        assert [row[1] for row in attacks] == ["apgd-ce", "square"] and refined == 6
    keys = {task.cell.key for task in tasks}
    assert not keys & {t.cell.key for t in plan(stop="all", robustness={**config, "battery": "apgd-ce"}).tasks}


@pytest.mark.parametrize(
    ("robustness", "sentence"),
    [
        ({"battery": "apgd-ce,quick"}, "cannot be mixed"),
        ({"battery": "carlini-wagner"}, "No attack of this battery exists for linf"),
        ({"battery": [{"attack": "apgd-cf"}]}, "Did you mean 'apgd-ce'"),
        ({"battery": [{"attack": "pgd", "settings": {"step": 3}}]}, "Did you mean 'steps'"),
    ],
)
def test_a_battery_that_cannot_run_is_refused_before_anything_runs(robustness: object, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        plan(robustness=robustness)


def test_the_cost_of_an_attack_that_declares_none_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told, undeclared = plan(stop="all", robustness={"battery": "pgd"}), find("attack", "pgd")
    (task, *_) = [task for task in told.tasks if task.cell.study == "robustness"]
    most = max_task_passes(task, SUBJECT)
    assert most is not None and most.backwards >= 500 * 40 * 5
    facts = {**undeclared.facts, "passes": None, "effort": None}
    monkeypatch.setitem(method_table._METHODS, ("attack", "pgd"), replace(undeclared, facts=facts))
    assert max_task_passes(task, SUBJECT) is None


def test_an_attack_that_seeks_the_smallest_change_is_foretold_once_for_all_eps() -> None:
    def backwards(**robustness: object) -> int:
        (task, *_) = [t for t in plan(robustness={"norm": "l2", **robustness}).tasks if t.cell.study == "robustness"]
        most = max_task_passes(task, SUBJECT)
        assert most is not None
        return most.backwards

    assert backwards(battery="ddn", curve=[0.1, 0.2]) == backwards(battery="ddn", curve=[0.1, 0.2, 0.3, 0.4])
    assert backwards(battery="pgd", curve=[0.1, 0.2]) < backwards(battery="pgd", curve=[0.1, 0.2, 0.3, 0.4])


def test_each_norm_has_its_usual_eps() -> None:
    colour, large = replace(SUBJECT, shape=(3, 32, 32)), replace(SUBJECT, shape=(3, 224, 224))
    l2, l1 = (load_config(overrides={"robustness": {"norm": norm}}) for norm in ("l2", "l1"))
    assert [headline_eps(l2, subject) for subject in (SUBJECT, colour, large)] == [1.0, 0.5, 3.5]
    assert [headline_eps(l1, subject) for subject in (SUBJECT, colour, large)] == [10.0, 12.0, 84.0]
    assert curve_eps(l1, colour) == (1.5, 3.0, 6.0, 12.0, 24.0)


def test_hardening_within_another_norm_takes_that_norms_eps() -> None:
    hardened = [t for t in plan(hardening={"norm": "l2"}).tasks if t.cell.study == "training"][-1]
    assert hardened.cell.threat == {"norm": "l2", "eps": 1.0}


def test_the_curve_of_l0_counts_values() -> None:
    l0 = load_config(overrides={"robustness": {"norm": "l0", "eps": 5}})
    assert curve_eps(l0, SUBJECT) == (1.0, 2.0, 5.0, 10.0)


def test_a_model_is_not_hardened_against_l0() -> None:
    with pytest.raises(UsageError, match="--no-harden"):
        plan(robustness={"norm": "l0", "battery": "sigma-zero"})


def test_attacks_on_a_model_that_answers_at_random_cost_a_forward_for_each_draw() -> None:
    for task in plan(**EVERY_TOPIC, attack_controls={"examples": 8}, other_threats={"examples": 20}).tasks:
        once, often = (max_task_passes(task, SUBJECT, draws) for draws in (1, 20))
        assert once is not None and often is not None
        attacked = task.cell.study in ("robustness", "attack-controls", "other-threats")
        assert often.forwards == (20 if attacked else 1) * once.forwards, task.label


@pytest.mark.parametrize(
    ("architecture", "asked", "expected"),
    [
        ("cnn-28", {}, ("pgd", "muon", 3, 1.2e-2, {"steps": 2, "start": "auto", "relative_eps": 1.1})),
        ("cnn-28", {"epochs": 7}, ("pgd", "muon", 7, 1.2e-2, {"steps": 2, "start": "auto", "relative_eps": 1.1})),
        ("cnn-28", {"recipe_settings": {"steps": 3}}, ("pgd", "muon", 3, 1.2e-2, {"steps": 3})),
        ("cnn-28", {"recipe": "fgsm-rs"}, ("fgsm-rs", "muon", 5, 8e-3, {})),
        ("cnn-28", {"recipe": "trades"}, ("trades", "adam", 6, 4e-3, {})),
        ("cnn-28", {"augmentation": "jitter"}, ("pgd", "adam", 6, 4e-3, {})),
        ("resnet-18-small", {}, ("pgd", "adam", 6, 4e-3, {})),
        (None, {}, ("pgd", "adam", 6, 4e-3, {})),
        ("torchvision:resnet18", {}, ("pgd", "adam", 6, 1e-3, {})),
    ],
)
def test_hardening_has_the_defaults_that_were_measured_for_a_net(
    architecture: str | None, asked: dict[str, object], expected: tuple[object, ...]
) -> None:
    suited = suited_hardening(HardeningConfig.model_validate(asked), architecture, images=6000)
    chosen = (suited.recipe, suited.optimizer, suited.epochs, suited.learning_rate, suited.recipe_settings)
    assert chosen == expected
    assert suited.batch_size == (48 if (suited.recipe, suited.optimizer) == ("pgd", "muon") else 64)


def test_few_images_are_hardened_on_for_as_many_steps() -> None:
    epochs = [
        suited_hardening(HardeningConfig(), "cnn-28", images=images).epochs for images in (300, 2000, 6000, 60000)
    ]
    assert epochs == [16, 7, 3, 3]


def proofs(**certification: object) -> list[Task]:
    whole = plan(certification={"examples": 20, **certification}, hardening={"enabled": False})
    return [task for task in whole.tasks if task.cell.method == "linear-bounds"]


def test_a_larger_effort_begins_with_the_cells_of_a_smaller_one() -> None:
    """What is stored of it is not proven again, and the answer is the same whether it was asked before or not."""
    bounds, optimised = proofs(effort="bounds"), proofs(effort="optimised")
    small, large = proofs(effort="complete"), proofs(effort="complete", problems=5000)
    for less, more in ((bounds, optimised), (optimised, small), (small, large)):
        assert [task.cell.key for task in more[: len(less)]] == [task.cell.key for task in less]
        assert len(more) == len(less) + 1
        assert more[-1].cell.inputs == {"certification": less[-1].cell.key} and more[-1].wave == less[-1].wave + 1
    assert [task.cell.settings.get("problems") for task in large] == [None, None, 500, 5000]
    assert [task.cell.settings["problems"] for task in proofs(effort="complete", problems=2000)[2:]] == [500, 2000]
    assert [task.cell.settings["problems"] for task in proofs(effort="complete", problems=20)[2:]] == [20]
    assert [task.cell.key for task in proofs(problems=20)] == [task.cell.key for task in bounds]
