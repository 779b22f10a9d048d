import itertools

import pytest
import torch
from scipy import stats

from audit.core.seeding import Generators, content_ids, derive_seed, fork_global_rng, torch_generator

IDS = [f"test/{i}" for i in range(64)]


def generators(ids: list[str] = IDS, seed: int = 0) -> Generators:
    return Generators.of(ids, seed=seed, purpose="test", device="cpu")


def test_draws_follow_the_example_and_not_its_place() -> None:
    backwards = generators(IDS[::-1])
    assert torch.equal(generators().uniform(5), backwards.uniform(5).flip(0))
    assert torch.equal(generators(IDS[3:7]).normal(4), generators().normal(4)[3:7])


def test_the_same_generator_draws_the_same_numbers_and_a_fork_others() -> None:
    one = generators()
    assert torch.equal(one.uniform(9), one.uniform(9))
    assert not torch.equal(one.fork(0).uniform(9), one.fork(1).uniform(9))


def test_a_fork_by_tensor_equals_forks_one_by_one() -> None:
    streams = torch.arange(len(IDS)) * 7
    together = generators().fork(streams).uniform(3)
    apart = [generators([name]).fork(int(s)).uniform(3) for name, s in zip(IDS, streams, strict=True)]
    assert torch.equal(together, torch.cat(apart))


def test_seed_purpose_and_example_each_change_the_draws() -> None:
    other_purpose = Generators.of(IDS, seed=0, purpose="other", device="cpu")
    draws = [generators().uniform(4), generators(seed=1).uniform(4), other_purpose.uniform(4)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(draws, 2))


@pytest.mark.parametrize(
    ("draw", "law"),
    [(lambda g: g.uniform(2000), stats.uniform), (lambda g: g.normal(2000), stats.norm)],
    ids=["uniform", "normal"],
)
def test_draws_follow_their_law(draw, law) -> None:  # type: ignore[no-untyped-def]
    sample = draw(generators()).flatten().numpy()
    assert stats.kstest(sample, law.cdf).pvalue > 1e-3


def test_draws_of_neighbouring_examples_and_streams_are_uncorrelated() -> None:
    by_example = torch.corrcoef(generators().uniform(4000))
    by_stream = torch.corrcoef(torch.stack([generators().fork(i).uniform(60).flatten() for i in range(20)]))
    for correlations in (by_example, by_stream):
        off_diagonal = correlations - torch.eye(len(correlations))
        assert off_diagonal.abs().max() < 0.085


def test_integers_signs_and_permutations_stay_in_range() -> None:
    whole = generators().integers(7, 500)
    assert set(whole.unique().tolist()) == set(range(7))
    assert set(generators().rademacher(500).unique().tolist()) == {-1.0, 1.0}
    orders = generators().permutations(20)
    assert torch.equal(orders.sort(1).values, torch.arange(20).expand(len(IDS), 20))


def test_no_global_generator_is_touched() -> None:
    before = torch.get_rng_state()
    generators().normal(10)
    torch_generator("x")
    assert torch.equal(before, torch.get_rng_state())


def test_seeds_are_the_same_on_every_machine() -> None:
    assert derive_seed(0, "pgd", "test/1") == 7667601629351661504
    assert content_ids(torch.zeros(1, 1, 2, 2)) == ("374708fff7719dd5",)


def test_global_draws_repeat_within_and_are_as_they_were_after() -> None:
    device = torch.device("cpu")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with fork_global_rng(device, "a", 1):
        first = torch.rand(4)
    with fork_global_rng(device, "a", 1):
        assert torch.equal(torch.rand(4), first)
    with fork_global_rng(device, "a", 2):
        assert not torch.equal(torch.rand(4), first)
    with pytest.raises(KeyError), fork_global_rng(device, "a"):
        torch.rand(1)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("probability", [0.5, 0.25, 0.3, 0.9, 1 / 3, 0.04])
def test_chances_are_as_frequent_as_asked_and_apart(probability: float) -> None:
    hits = generators(IDS[:3]).bernoulli(probability, 7, 3001)
    assert hits.dtype == torch.bool and hits.shape == (3, 7, 3001)
    assert all(stats.binomtest(int(own.sum()), own.numel(), probability).pvalue > 1e-4 for own in hits)
    apart = torch.corrcoef(hits.flatten(0, 1).float()) - torch.eye(21)
    assert float(apart.abs().max()) < 5 / 3001**0.5


def test_chances_of_nothing_and_of_everything_are_certain() -> None:
    assert not generators().bernoulli(0.0, 200).any() and generators().bernoulli(1.0, 200).all()
