"""Building blocks of metrics: moments, rows of features, pairwise distances, standard errors.

All are NumPy in float64 on the host, except the statistics of attention maps, which are JAX.
"""
