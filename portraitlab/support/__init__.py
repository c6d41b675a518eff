"""Files, locks, hashes, devices, errors, published weights: what knows no floor above."""
