"""What metrics are made of: moments, rows of features, pairwise distances, standard errors.

All of it is NumPy in float64, on the host.
"""
