"""Files, locks, hashes, devices, errors and published weights, for all floors above."""
