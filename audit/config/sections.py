"""Every choice of a run, validated, with its meaning beside it: one model a table of the file."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from audit.config.flags import Flag
from audit.config.subject import DataConfig, ModelConfig
from audit.config.training import CompressionConfig, HardeningConfig, TrainingConfig
from audit.config.values import GALLERY_SIZES, ConfigTable, Eps, HalfWidth, Preset, StopRule
from audit.core.errors import unknown_name
from audit.core.threat_format import Norm
from audit.core.topic import measured_sections

_Table = TypeVar("_Table", bound=ConfigTable)


class AttackRowConfig(ConfigTable):
    """One attack of a battery."""

    attack: str = Field(description="its name; `audit methods attack` lists them")
    settings: dict[str, Any] = Field(default_factory=dict, description="its settings")
    title: str = Field("", description="what the report calls it; its name by default")
    sample: int = Field(0, ge=0, description="above 0: a check at the verdict's eps, on at most this many images")
    hardest: float = Field(1.0, gt=0, le=1, description="share of the unbroken images it runs on, nearest to breaking")
    transferred: bool = Field(False, description="made on a surrogate and tried on the model")


def _attack_rows(value: Any) -> Any:
    """Tables of attacks, each checked by itself so that an error names its row; a name is left as it is."""
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        return value
    if not value:
        raise ValueError("A battery needs at least one attack")
    return tuple(_attack_row(number, row) for number, row in enumerate(value, start=1))


def _attack_row(number: int, row: Any) -> AttackRowConfig:
    if isinstance(row, str):
        return AttackRowConfig(attack=row)
    try:
        return AttackRowConfig.model_validate(row)
    except ValidationError as fault:
        first = min(fault.errors(), key=lambda error: error["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        unknown_key = str(unknown_name("key", key, AttackRowConfig.model_fields))
        problem = unknown_key if first["type"] == "extra_forbidden" else f"{key}: {first['msg']}"
        place = {"row": number, "key": key}
        raise PydanticCustomError("attack_row", f"attack {number} of the battery: {problem}", place) from None


class RobustnessConfig(ConfigTable):
    """Which attacks, how strong, on how many images."""

    examples: Annotated[
        int, Flag("--examples", help="Attack and corrupt this many test images at most.", default="")
    ] = Field(500, ge=1, description="images attacked at most, balanced over the classes")
    battery: Annotated[
        str | tuple[AttackRowConfig, ...],
        BeforeValidator(_attack_rows),
        Flag("--battery", default=""),
        Flag(
            "--attacks",
            help="These attacks alone, in this order, with commas between them; see `audit methods attack`.",
            default="",
        ),
    ] = Field(
        "quick",
        description="quick, standard, autoattack or full; attacks with commas between them, as apgd-ce,square; or "
        "[[robustness.battery]] tables of attack, settings, title, sample, hardest, transferred",
    )
    norm: Annotated[Norm, Flag("--norm")] = Field(
        "linf", description="linf, l2, l1 or l0 (how many values): how the size of a change is measured"
    )
    eps: Annotated[
        Eps | None,
        Flag(
            "--eps",
            help="The eps of the verdict, as 0.1 or 8/255. By default, on grey images and on colour: linf 0.1 and "
            "8/255; l2 1 at 28x28 and 0.5 at 32x32; l1 10 and 12 there; l2 and l1 grow with the side.",
        ),
    ] = Field(
        None,
        description="the eps of the verdict; by default, on grey and on colour, linf 0.1 and 8/255, l2 1 at 28x28 and "
        "0.5 at 32x32, l1 10 and 12 there; l2 and l1 grow with the side",
    )
    curve: tuple[Eps, ...] | None = Field(None, description="the eps of the curve; 1/8 to 2 times eps by default")


class CorruptionConfig(ConfigTable):
    """Which corruptions, at which severities, on how many images."""

    examples: Annotated[
        int, Flag("--examples", help="Attack and corrupt this many test images at most.", default="")
    ] = Field(500, ge=1, description="images corrupted at most, balanced over the classes")
    names: tuple[str, ...] = Field(
        ("gaussian-noise", "defocus-blur", "fog", "jpeg-compression"),
        description="or all: every one there is; nrtk:haze is nrtk's, nrtk:haze:factor=0.2,0.5 with your severities",
    )
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = Field(
        (1, 2, 3, 4, 5), description="how strongly, 1 to 5"
    )


def _named_folders(values: tuple[str, ...]) -> tuple[str, ...]:
    names = [value.partition("=")[0].strip() for value in values]
    for value, name in zip(values, names, strict=True):
        if not name or not value.partition("=")[2].strip():
            raise ValueError("A concept is NAME=FOLDER, such as stripes=photos/stripes")
        if names.count(name) > 1:
            raise ValueError(f"Two concepts are called {name!r}")
    return values


class ExplanationConfig(ConfigTable):
    """Which attributions, of what, on how many images."""

    examples: Annotated[int, Flag("--detail", words={"high": GALLERY_SIZES["high"]}, default="")] = Field(
        24, ge=1, description="images explained by each method"
    )
    methods: tuple[str, ...] = Field(
        ("saliency", "integrated-gradients", "grad-cam", "lime", "shap"), description="or all: every one there is"
    )
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict, description="settings by method")
    precision: float = Field(
        0.3,
        ge=0,
        le=1,
        description="methods that sample stop once a map is off by at most this share of its size, with 95% "
        "probability; 0 for all samples",
    )
    output: Literal["logit", "probability", "log-probability"] = Field(
        "logit", description="what of the predicted class is explained: logit, probability or log-probability"
    )
    baseline: float | str | None = Field(
        None, description="a number, mean, blur or segment-mean; each method's own by default"
    )
    concepts: Annotated[
        tuple[str, ...],
        AfterValidator(_named_folders),
        Flag("--concept", help="Test a concept of your own, NAME=FOLDER of its images; may be repeated.", default=""),
    ] = Field((), description="concepts of your own, as stripes=photos/stripes: a name and a folder of its images")

    @property
    def concept_folders(self) -> dict[str, str]:
        """By name of a concept of the user's, the folder of its images."""
        pairs = (value.partition("=") for value in self.concepts)
        return {name.strip(): folder.strip() for name, _, folder in pairs}


class ReportConfig(ConfigTable):
    """What the report shows."""

    title: str = Field("Image classifier audit", description="the report's heading")
    images: Annotated[bool, Flag("--images/--no-images", help="Pictures in the report, or none.")] = Field(
        True, description="false leaves every picture out"
    )
    gallery: Annotated[
        int, Flag("--detail", help="16 images in the gallery, or 200, all explained.", words=GALLERY_SIZES, default="")
    ] = Field(16, ge=0, description="images in the gallery")


class CriteriaConfig(ConfigTable):
    """What passes. Each is held against the bound of the interval, not against the point."""

    clean_accuracy: float = Field(0.8, ge=0, le=1, description="the least share of unchanged images classified right")
    robust_accuracy: float = Field(0.4, ge=0, le=1, description="the least share still right under every attack")
    calibration_error: float = Field(0.05, ge=0, le=1, description="the largest expected calibration error")
    corruption_drop: float = Field(0.2, ge=0, le=1, description="of mean accuracy, severities 1 to 5")


def _measured_section(name: str) -> str:
    if name not in measured_sections():
        raise ValueError(str(unknown_name("section", name, measured_sections())))
    return name


def _engine(name: str) -> str:
    kind, colon, address = name.partition(":")
    if kind not in ("in-process", "ray") or (colon and (kind == "in-process" or not address)):
        raise ValueError("in-process, ray or ray:ADDRESS was expected, as ray:auto or ray:10.0.0.1:6379")
    return name


class RunConfig(ConfigTable):
    """A whole run.

    Where it is computed, `engine`, `jobs` and the `nproc` of a training, is left out of the dumps, so of documents: no
    number depends on it.
    """

    preset: Annotated[Preset, Flag("--preset")] = Field(
        "quick", description="quick, standard or full: how much is measured"
    )
    seed: Annotated[int, Flag("--seed")] = Field(
        0, ge=0, description="root of every random draw: the same seed gives the same bytes"
    )
    task: Annotated[Literal["auto", "classification", "detection"], Flag("--task")] = Field(
        "auto",
        description="what the model does: auto, classification, detection; auto takes it from the data and the "
        "architecture",
    )
    device: Annotated[str, Flag("--device")] = Field(
        "auto", description="auto, cpu, cuda, cuda:1, mps; auto takes an accelerator when there is one"
    )
    stop: Annotated[
        StopRule,
        Flag(
            "--stop",
            help="When enough images are attacked and corrupted: decides (once every criterion is met or missed), a "
            "number above 0 and below 0.5, as 0.05 (once the 95% interval reaches no further either way, too), or all "
            "(those asked for).",
            default="",
        ),
        Flag(
            "--precision",
            help="The same by a number alone: 0.03 stops at an interval of 3 points either way",
            default="",
            kind=HalfWidth,
        ),
    ] = Field(
        "decides",
        description="when enough images are attacked and corrupted: decides, once every criterion is met or missed; a "
        "number as 0.05, once the 95% interval reaches no further either way, too; all, those asked for",
    )
    only: Annotated[tuple[Annotated[str, AfterValidator(_measured_section)], ...], Flag("--only")] = Field(
        (), description="measure these sections of the report alone, such as robustness; all by default"
    )
    chunk: int = Field(
        500,
        ge=1,
        le=500,
        description="images in a cell of attacks or explanations at most, so how long a cell takes; parts of any size "
        "join to the same answer",
    )
    engine: Annotated[str, AfterValidator(_engine), Flag("--engine")] = Field(
        "in-process",
        exclude=True,
        description="where cells are computed: in-process, on this machine; ray, on Ray on this machine; "
        "ray:ADDRESS, on a Ray cluster, as ray:auto or ray:10.0.0.1:6379. It changes no number",
    )
    jobs: Annotated[int | None, Flag("--jobs")] = Field(
        None,
        ge=1,
        exclude=True,
        description="cells computed at once, each by a worker of its own with a share of the cores, or one of the "
        "GPUs; by default 1, with ray as many as the cluster has room for, and 2 for `audit run` on two or three cores "
        "of Linux where a net of the zoo is trained on few images",
    )
    data: DataConfig = Field(DataConfig(), description="where the images come from")
    model: ModelConfig = Field(ModelConfig(), description="what is audited")
    training: TrainingConfig = Field(TrainingConfig(), description="how the model is trained where none is loaded")
    hardening: HardeningConfig = Field(HardeningConfig(), description="how the model is made harder to fool")
    compression: CompressionConfig = Field(CompressionConfig(), description="how the model is made smaller")
    robustness: RobustnessConfig = Field(RobustnessConfig(), description="which attacks")
    corruptions: CorruptionConfig = Field(CorruptionConfig(), description="which corruptions")
    explanations: ExplanationConfig = Field(ExplanationConfig(), description="which attributions")
    report: ReportConfig = Field(ReportConfig(), description="what the report shows")
    criteria: CriteriaConfig = Field(CriteriaConfig(), description="what passes")

    def without_hardening(self) -> RunConfig:
        """The same run without a hardened model."""
        return self.model_copy(update={"hardening": self.hardening.model_copy(update={"enabled": False})})

    def table(self, kind: type[_Table]) -> _Table:
        """The table of a topic, such as `config.table(BackdoorConfig)`.

        Args:
            kind: The topic's own configuration model.

        Returns:
            The table of this run; its defaults where this configuration was made without topics.
        """
        return next((value for _, value in self if isinstance(value, kind)), None) or kind()
