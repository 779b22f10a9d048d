"""`audit compress`: a smaller model, audited beside the one it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audit.cli.options import ConfigFile, Out, command
from audit.cli.terminal import Terminal
from audit.config.flags import SUBJECT_FLAGS

COMPRESSION = tuple(
    f"compression.{key}"
    for key in ("method", "amount", "student", "recipe", "epochs", "batch_size", "learning_rate", "time_budget")
)


@command("preset", *SUBJECT_FLAGS, *COMPRESSION, "robustness.norm", "robustness.eps", any_key=True)
def compress(
    terminal: Terminal, overrides: dict[str, Any], config: ConfigFile = None, out: Out = Path("audit-compress")
) -> None:
    """Make a smaller model, and audit what that cost: accuracy, robustness, and where it looks.

    magnitude sets the smallest weights to zero, structured takes the weakest channels out of the net (extra
    compress); both are fine-tuned. clip narrows the range of the weights; int8 is onnxruntime's static quantisation,
    its ranges learnt from 256 training images (extra onnx); distill teaches a student the model's answers.

    The smaller weights land in OUT/model.safetensors, of int8 the file that onnxruntime runs in OUT/model.onnx; the
    comparison in OUT/report.html.

    [bold]Examples[/]

      audit compress --method int8

      audit compress --data cifar10:data --model net.safetensors --method magnitude --amount 0.8

      audit compress --data folder:photos --model large.safetensors --method distill --student cnn-32 --epochs 20
    """
    from audit.cli.run_command import RunRequest, run_and_report
    from audit.config import load_config, merge

    purpose = {"hardening": {"enabled": False}, "compression": {"enabled": True}}
    run_config = load_config(config, overrides=merge(purpose, overrides))
    run_and_report(RunRequest(run_config, out, release="compressed"), terminal)
