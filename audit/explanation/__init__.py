"""What attribution methods share: the question and its checks, gradients, traced nets, Shapley values, mask reuse."""
