"""Common corruptions: the 15 + 4 families of ImageNet-C as batched, seeded tensor operations.

Strengths are the published constants of ImageNet-C at 224 pixels and of CIFAR-10-C at 32 (Hendrycks and Dietterich
2019, arXiv:1903.12261); see `strength`. The images are made anew and are not the published files, so an error on them
is a mean corruption error of this suite, never "mCE".
"""
