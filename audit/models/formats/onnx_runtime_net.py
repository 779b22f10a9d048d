"""An ONNX file run by onnxruntime, as a module without gradients."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from audit.core.errors import SetupError


class OnnxRuntimeNet(nn.Module):
    """Runs a file of one input and one output on the processor, with as many threads as torch has.

    Attributes:
        file: The bytes of the file.
    """

    def __init__(self, file: bytes) -> None:
        """Nothing is run yet.

        Args:
            file: The bytes of the file.
        """
        super().__init__()
        self.file = file

    def forward(self, images: Tensor) -> Tensor:
        """What the file gives, on the device of the images.

        Args:
            images: In the shape that the file takes.
        """
        given = images.detach().cpu().contiguous().numpy()
        (outputs,) = self._session.run(None, {self._session.get_inputs()[0].name: given})
        return torch.from_numpy(outputs).to(images.device)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_session"}  # it cannot be copied

    @cached_property
    def _session(self) -> Any:
        try:
            runtime = import_module("onnxruntime")
        except ImportError as fault:
            raise SetupError(
                "An int8 model runs in onnxruntime, which is missing; install it with pip install 'audit[onnx]'."
            ) from fault
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return runtime.InferenceSession(self.file, options, providers=["CPUExecutionProvider"])
