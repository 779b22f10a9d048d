"""Display names of methods."""

from __future__ import annotations

from collections.abc import Mapping

_PROPER: Mapping[str, str] = {
    "apgd-ce": "APGD-CE",
    "apgd-dlr": "APGD-DLR",
    "apgd-t": "APGD-T",
    "brendel-bethge": "Brendel-Bethge",
    "carlini-wagner": "Carlini-Wagner",
    "box-grad-cam": "Grad-CAM of a box",
    "box-saliency": "Saliency of a box",
    "box-smooth-grad": "SmoothGrad of a box",
    "crown-ibp": "CROWN-IBP",
    "d-rise": "D-RISE",
    "deep-lift": "DeepLIFT",
    "deep-shap": "DeepSHAP",
    "deepfool": "DeepFool",
    "fab-t": "FAB-T",
    "fgsm-rs": "FGSM-RS",
    "grad-cam": "Grad-CAM",
    "grad-cam-plus-plus": "Grad-CAM++",
    "hopskipjump": "HopSkipJump",
    "input-x-gradient": "Input x gradient",
    "layer-cam": "Layer-CAM",
    "mi-fgsm": "MI-FGSM",
    "mtl-ibp": "MTL-IBP",
    "multi-targeted": "Multi-targeted",
    "sigma-zero": "Sigma-zero",
    "smooth-grad": "SmoothGrad",
}
_CAPITALS = frozenset("ce ddn dlr ead fgsm fmn ibp jpeg lime lrp mart pdpgd pgd rise road shap tog trades".split())


def display_name(identifier: str) -> str:
    """The display name of an identifier: "Integrated gradients" for `integrated-gradients`, "APGD-T closest" for
    `apgd-t-closest`.

    Args:
        identifier: Name of a method, with dashes or underscores. Other text stays as it is, its first letter in upper
            case.
    """
    text = identifier.replace("_", "-")
    proper = max((name for name in _PROPER if f"{text}-".startswith(f"{name}-")), key=len, default="")
    rest = [word.upper() if word in _CAPITALS else word for word in text[len(proper) :].split("-") if word]
    words = " ".join([_PROPER[proper], *rest] if proper else rest)
    return words[:1].upper() + words[1:]
