"""The slots in which papers differ: fusion, condition, net, selection, objective, sampler, edit."""
