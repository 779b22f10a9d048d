"""Training of a net: `fit` is the entrance, `loop` takes the steps, `recipes` holds one file a method."""
