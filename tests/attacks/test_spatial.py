"""Rotations and translations: the geometry against scipy, the worst case against a plain loop over the grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from audit.adversarial.verify import verify
from audit.attacks.spatial import PosedThreat, SpatialThreat, apply_pose, spatial
from audit.core.errors import UsageError
from audit.core.seeding import Generators
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest

THREAT = SpatialThreat(rotation=30, translation=2)


def run(model: ModelUnderTest, batch: Batch, threat: SpatialThreat = THREAT) -> torch.Tensor:
    draws = Generators.of(batch.ids, seed=0, purpose="spatial", device="cpu")
    return spatial(model, batch, threat, draws, angles=7, shifts=3)


def plainly_posed(image: np.ndarray, degrees: float, right: float, down: float) -> np.ndarray:
    """Rotation about the centre, then translation, by scipy, on one channel."""
    turn = np.deg2rad(degrees)
    rows = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])  # of (down, right)
    centre = (np.array(image.shape) - 1) / 2
    offset = centre - rows.T @ (centre + np.array([down, right]))
    return affine_transform(image, rows.T, offset, order=1, mode="grid-constant", cval=0.0)


@pytest.mark.parametrize("pose", [(30.0, 0.0, 0.0), (0.0, 2.0, -1.0), (-17.0, 1.5, 0.5), (90.0, 0.0, 0.0)])
@pytest.mark.parametrize("shape", [(12, 12), (10, 15)])
def test_poses_are_those_of_scipy(pose: tuple[float, float, float], shape: tuple[int, int]) -> None:
    image = torch.rand(1, 2, *shape, generator=torch.Generator().manual_seed(1))
    found = apply_pose(image, torch.tensor([pose]))[0].numpy()
    expected = np.stack([plainly_posed(channel.numpy().astype(np.float64), *pose) for channel in image[0]])
    assert np.abs(found - expected).max() < 1e-4


def test_a_quarter_turn_and_a_whole_pixel_are_exact() -> None:
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(apply_pose(image, torch.tensor([[90.0, 0, 0]])), image.rot90(1, (2, 3)), atol=1e-5)
    assert torch.allclose(apply_pose(image, torch.tensor([[0.0, 1, 0]]))[..., 1:], image[..., :-1], atol=1e-5)
    assert torch.equal(apply_pose(image, torch.zeros(1, 3)), image)


def test_the_worst_case_is_that_of_a_loop_over_the_grid(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    slight = SpatialThreat(rotation=3, translation=0.25)
    poses = run(cnn_model, cnn_batch, slight)
    broken = torch.zeros(len(cnn_batch), dtype=torch.bool)
    for degrees in np.linspace(-3, 3, 7):
        for right in (-0.25, 0.0, 0.25):
            for down in (-0.25, 0.0, 0.25):
                one = torch.tensor([[degrees, right, down]], dtype=torch.float32).expand(len(cnn_batch), 3)
                broken |= cnn_model.predictions(apply_pose(cnn_batch.images, one)) != cnn_batch.labels
    found = verify(cnn_model, cnn_batch, apply_pose(cnn_batch.images, poses), PosedThreat(slight, poses))
    assert torch.equal(found.broken, broken) and not found.faults.any()
    assert 0 < broken.sum() < len(broken), "a test that all or none break would show nothing"
    assert (found.distance <= 1).all() and torch.equal(found.distance > 0, broken)


def test_batch_size_and_order_change_nothing(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    together = run(cnn_model, cnn_batch)
    backwards = torch.arange(len(cnn_batch) - 1, -1, -1)
    cnn_model.layout.batch_size = 3
    assert torch.equal(run(cnn_model, cnn_batch.select(backwards))[backwards], together)
    with torch.device("meta"):
        assert torch.equal(run(cnn_model, cnn_batch), together)
    assert run(cnn_model, cnn_batch.select(torch.zeros(0, dtype=torch.int64))).shape == (0, 3)


def test_the_verifier_strikes_the_poses_again(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    poses = torch.tensor([[10.0, 0, 0]]).repeat(len(cnn_batch), 1)
    honest = apply_pose(cnn_batch.images, poses)
    assert not verify(cnn_model, cnn_batch, honest, PosedThreat(THREAT, poses)).faults.any()
    other = verify(cnn_model, cnn_batch, (honest + 0.01).clamp(0, 1), PosedThreat(THREAT, poses))
    assert other.faults.all() and torch.equal(other.images, honest)
    farther = verify(cnn_model, cnn_batch, apply_pose(cnn_batch.images, 4 * poses), PosedThreat(THREAT, 4 * poses))
    assert farther.faults.all() and (farther.images - apply_pose(cnn_batch.images, 3 * poses)).abs().max() < 1e-5


def test_a_limit_of_zero_leaves_that_axis_alone(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    grid = SpatialThreat(0, 3).grid(31, 5, torch.device("cpu"))
    assert grid.shape == (25, 3) and (grid[:, 0] == 0).all()
    assert str(SpatialThreat(30, 2.5)) == "rotation ±30°, translation ±2.5 px"


@pytest.mark.parametrize(("rotation", "translation"), [(-1, 0), (181, 0), (30, -1), (30, float("inf"))])
def test_impossible_limits_are_a_sentence(rotation: float, translation: float) -> None:
    with pytest.raises(UsageError, match=r"outside|not possible"):
        SpatialThreat(rotation, translation)
