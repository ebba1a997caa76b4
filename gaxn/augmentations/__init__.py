"""Augmentations of what the discriminator sees, one a file, each with an `Augmentation`.

An augmentation is a frozen dataclass; called with images in [-1, 1] and one key an
example, it gives images of the same shape, differentiably.
"""
