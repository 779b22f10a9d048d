"""Identifiers as a reader writes them."""

from __future__ import annotations

from collections.abc import Mapping

_KNOWN: Mapping[str, str] = {
    "deepfool": "DeepFool",
    "deeplift": "DeepLIFT",
    "grad-cam": "Grad-CAM",
    "grad-cam-plus-plus": "Grad-CAM++",
    "smoothgrad": "SmoothGrad",
    "input-x-gradient": "Input x gradient",
}
_CAPITALS = frozenset(
    "apgd bim cam ce cw dlr fab fgsm jpeg jsma lime lrp mim mifgsm pgd rise shap spsa vat xrai".split()
)


def written(identifier: str) -> str:
    """`integrated-gradients` as "Integrated gradients", `lime` as "LIME"; other text as it is."""
    if identifier in _KNOWN:
        return _KNOWN[identifier]
    words = identifier.replace("_", "-").split("-")
    text = " ".join(word.upper() if word in _CAPITALS else word for word in words)
    return text[:1].upper() + text[1:]
