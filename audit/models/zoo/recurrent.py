"""A recurrent classifier that reads an image a row at a time."""

from __future__ import annotations

from torch import Tensor, nn

from audit.models.loaded import InputShape


def row_lstm(classes: int, input_shape: InputShape) -> nn.Module:
    """An LSTM of 128 units over the rows of the image, all channels of a row at once; its last state is classified.

    Args:
        classes: Number of outputs.
        input_shape: (C, H, W) of the images.
    """
    return RowLstm(classes, input_shape, units=128)


class RowLstm(nn.Module):
    """`units` hidden units over H rows of C x W numbers; a linear head on the last state."""

    def __init__(self, classes: int, input_shape: InputShape, units: int) -> None:
        super().__init__()
        channels, _, width = input_shape
        self.lstm = nn.LSTM(channels * width, units, batch_first=True)
        self.head = nn.Linear(units, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images.

        Args:
            images: (N, C, H, W).

        Returns:
            (N, classes).
        """
        rows = images.permute(0, 2, 1, 3).flatten(2)
        states, _ = self.lstm(rows)
        logits: Tensor = self.head(states[:, -1])
        return logits
