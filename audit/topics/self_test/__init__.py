"""The self-test: problems with known answers, solved by the installed package on the run's device."""

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.self_test.facts import OracleRow, PackageRow


class SelfTestConfig(ConfigTable):
    """Problems with known answers."""

    enabled: bool = Field(True, description="solve problems with known answers on this device first")


TOPIC = Topic(
    name="self_test",
    section="explanations",
    order=470,
    folded=True,
    studies={"self-test": "self_test.enabled"},
    config=SelfTestConfig,
    document={"oracles": OracleRow, "packages": PackageRow},
    former_keys={"explanations.calibration": "self_test.enabled"},
    former_names={"calibration-of-the-tool": "self-test"},
)
