import pytest

from audit.core.errors import UsageError
from audit.core.registry import Method, find, methods, register


def test_an_unknown_method_lists_those_that_exist() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'pgd'.*fgsm"):
        find("attack", "pggd")


def test_settings_are_checked_by_name_and_type() -> None:
    pgd = find("attack", "pgd")
    assert pgd.settings({"steps": 7})["steps"] == 7
    assert pgd.settings() == pgd.defaults
    with pytest.raises(UsageError, match="steps"):
        pgd.settings({"stpes": 7})
    with pytest.raises(UsageError, match="'steps' of attack 'pgd'"):
        pgd.settings({"steps": "many"})


def test_a_wrapped_library_gives_its_version_to_the_method() -> None:
    wrapped = find("attack", "deepfool")
    assert wrapped.full_version.startswith("1+foolbox-3")


def test_two_methods_may_not_share_a_name() -> None:
    def pgd() -> None:
        """Another."""

    with pytest.raises(UsageError, match="Two attacks"):
        register("attack", "", "1", "", {})(pgd)


@pytest.mark.parametrize("kind", ["attack", "attribution", "corruption", "recipe", "study", "check", "data-format"])
def test_every_method_says_what_it_is_and_where_it_comes_from(kind) -> None:  # type: ignore[no-untyped-def]
    found = methods(kind)
    assert found
    for method in found:
        assert isinstance(method, Method)
        assert method.summary.endswith("."), method.name
        if kind in ("attack", "attribution", "corruption"):
            assert method.reference, method.name
