"""Attacks, one file each: an attack proposes images, and `audit.adversarial.verify` judges them."""
