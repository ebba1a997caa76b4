"""Objectives of a discriminator and its generator: losses, penalties, regularizers."""
