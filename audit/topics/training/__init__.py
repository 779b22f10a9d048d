"""Models trained in the run: the standard one where no weights were given, and the hardened one."""

from audit.core.topic import Topic

TOPIC = Topic(
    name="training",
    section="",
    order=500,
    studies={"training": "training.epochs, hardening.epochs"},
    former_keys={
        f"{table}.workers": f"{table}.shares" for table in ("training", "hardening", "compression")
    },  # what decides the weights of several workers is the number of parts that they made of a batch
)
