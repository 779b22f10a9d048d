"""Whether the methods agree: rank correlations between the maps of every two."""

from audit.core.topic import Topic
from audit.topics.agreement.section import AgreementPart

TOPIC = Topic(
    name="agreement",
    section="explanations",
    order=450,
    folded=True,
    studies={"agreement": "explanations.examples, explanations.methods"},
    document={"agreements": AgreementPart},
    measures=True,
)
