"""Whether the model can be evaluated at all: deterministic, independent of the batch, with useful gradients."""

from audit.core.topic import Topic

TOPIC = Topic(
    name="model_sanity",
    section="robustness",
    order=200,
    priority=10,
    studies={"model-sanity": "robustness.examples"},
    also_in=("explanations",),
    former_names={"sanity": "model-sanity", "honest-evaluation": "gradient-masking"},
)
