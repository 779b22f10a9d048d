"""The rows of the version matrix: what differs from the newest releases in each."""

from __future__ import annotations

_TORCHVISION = {"2.10.0": "0.25.0", "2.11.0": "0.26.0", "2.12.1": "0.27.1", "2.13.0": "0.28.0", "2.14.1": "0.29.1"}
_TORCHVISION |= {"2.15.0": "0.29.2"}


def _torch(release: str) -> tuple[str, ...]:
    return f"torch=={release}", f"torchvision=={_TORCHVISION[release]}"


BASE = "torch-2.13"
"""What rows of another package than torch are compared with."""
ROWS: dict[str, tuple[str, ...]] = {
    BASE: (),
    "torch-2.10": _torch("2.10.0"),
    "torch-2.11": _torch("2.11.0"),
    "torch-2.12": _torch("2.12.1"),
    "torch-2.14": _torch("2.14.1"),
    "torch-2.15": _torch("2.15.0"),
    "captum-0.8": ("captum==0.8.0",),
    "shap-0.46": ("shap==0.46.0", "numpy==2.1.3"),
    "transformers-4.56": ("transformers==4.56.0",),
    "timm-1.0.10": ("timm==1.0.10",),
    "onnx-1.21": ("onnx==1.21.0", "onnxruntime==1.24.1"),
    "numpy-1.26": ("numpy==1.26.4",),
    "scientific-floors": ("scipy==1.15.0", "scikit-image==0.22.0", "scikit-learn==1.4.0"),
    "pillow-11.3": ("pillow==11.3.0",),
}
GROUPS: dict[str, tuple[str, ...]] = {
    "captum-0.8": ("map", "peer"),
    "shap-0.46": ("map", "peer"),
    "transformers-4.56": ("net",),
    "timm-1.0.10": ("net",),
    "onnx-1.21": ("file",),
    "scientific-floors": ("map", "corruption", "draw", "file", "peer"),
    "pillow-11.3": ("corruption", "file"),
}
"""The groups of probes asked in a row whose packages can reach no other; every group in the others."""
_NEWEST = {
    **dict.fromkeys(("captum", "shap", "transformers", "timm", "onnx", "onnxruntime", "numpy", "pillow"), ""),
    **dict.fromkeys(("scipy", "scikit-image", "scikit-learn", "foolbox", "lime", "safetensors", "onnxscript"), ""),
    **dict.fromkeys(("pydantic", "filelock", "platformdirs", "jaxtyping", "cloudpickle", "jinja2", "rich"), ""),
    **dict.fromkeys(("typer", "pyarrow", "altair", "vl-convert-python"), ""),
    "torch": "==2.13.0",
    "torchvision": "==0.28.0",
}
"""What the product and the probes import, with the release that every row has which does not say another."""


def requirements_of(changed: tuple[str, ...]) -> list[str]:
    """The whole list of a row's requirements.

    Args:
        changed: Those that differ from `_NEWEST`, each NAME==RELEASE.
    """
    names = {requirement.split("==")[0] for requirement in changed}
    return [*changed, *(f"{name}{release}" for name, release in _NEWEST.items() if name not in names)]
