import numpy as np
from made_entries import entry, results_of

from audit.config import load_config
from audit.results.run_checks import run_checks
from audit.results.run_results import RunResults

SUSPICION = {"name": "ce_zero", "value": 0.9, "limit": 0.05, "sentence": "The gradient is zero on 90% of the images."}


def run(*suspicions: dict[str, object]) -> RunResults:
    robust = np.ones(400)
    facts = {"eps": [0.1], "attacks": ["clean"], "rows": [], "inconclusive": [], "survive_rounding": 0}
    return results_of(
        entry("robustness", "standard", {"robust": robust}, threat={"norm": "linf", "eps": 0.1}, facts=facts),
        entry("model-sanity", "standard", {"ce_zero": np.zeros(64)}, facts={"suspicions": list(suspicions)}),
    )


def test_a_suspicion_turns_both_the_model_and_its_headline_inconclusive() -> None:
    found = {finding.check: finding for finding in run_checks(run(SUSPICION), load_config())}
    assert found["gradient-masking"].verdict == "inconclusive"
    assert found["robust-accuracy"].verdict == "inconclusive"
    for finding in found.values():
        assert "zero on 90%" in finding.explanation


def test_an_honest_model_keeps_its_headline() -> None:
    found = {finding.check: finding.verdict for finding in run_checks(run(), load_config())}
    assert found == {"gradient-masking": "pass", "robust-accuracy": "pass"}


def test_a_run_without_the_sanity_study_says_nothing_of_it() -> None:
    results = run()
    bare = results_of(*((task, results.evidence[task.cell.key]) for task in results.plan.tasks[:1]))
    assert {finding.check for finding in run_checks(bare, load_config())} == {"robust-accuracy"}
